"""Tables for programs: JSON, CSV and Markdown, with full precision."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain

from experiments.reporting.records import Records
from experiments.study.errors import show

FORMATS = ("table", "json", "csv", "markdown")
"""How results can be printed; a table is for people."""


def written(table: Records, form: str) -> str:
    """Return a table as text that ends with a newline: ``json``, ``csv`` or ``markdown``.

    JSON is a list of objects; what is unknown is null there, and nothing in CSV. Infinity, which
    JSON has no number for, is the text ``inf``.
    """
    if form == "json":
        rows = [{key: _plain(value) for key, value in row.items()} for row in table.rows()]
        return json.dumps(rows, indent=2) + "\n"
    if form == "csv":
        return table.csv()
    cells = [[_cell(value) for value in row.values()] for row in table.rows()]
    lines = [_line(table), _line("---" for _ in table)]
    return "\n".join((*lines, *map(_line, cells))) + "\n"


def long_table(summary: Records, keys: Sequence[str]) -> Records:
    """Return a summary with one row per point and metric: ``value``, ``lo`` and ``hi``."""
    metrics = [
        name for name in summary
        if name not in keys
        and not name.endswith(("_lo", "_hi"))
        and summary.is_numeric(name)
    ]  # fmt: skip
    unknown = [math.nan] * len(summary)

    def values(end: str) -> Iterable[float]:
        columns = (summary.columns.get(f"{name}{end}", unknown) for name in metrics)
        return map(float, chain.from_iterable(zip(*columns, strict=True)))

    return Records(
        {
            **{key: [value for value in summary[key] for _ in metrics] for key in keys},
            "metric": metrics * len(summary),
            "value": values(""),
            "lo": values("_lo"),
            "hi": values("_hi"),
        }
    )


def html_table(summary: Records, keys: Sequence[str]) -> str:
    """Return what the terminal shows of a summary as a table for notebooks."""
    from html import escape

    from experiments.reporting.figure_layout import said
    from experiments.reporting.table import cell, columns_of

    rows = summary.rows()
    known = [name for name in summary if any(value == value for value in summary[name])]
    columns = [each for each in columns_of(summary) if each.metric in known]
    headings = [*keys, *(each.heading for each in columns)]
    head = "".join(f"<th>{escape(str(word))}</th>" for word in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(said(row[key]))}</td>" for key in keys)
        + "".join(f"<td>{escape(cell(row, each))}</td>" for each in columns)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return (show(value) if isinstance(value, bool) else str(value)).replace("|", "\\|")
