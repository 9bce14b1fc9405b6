"""Tables for programs: JSON, CSV and Markdown, with full precision."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from experiments.study.errors import show

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("table", "json", "csv", "markdown")
"""How results can be printed; a table is for people."""


def written(table: "DataFrame", form: str) -> str:
    """Return a table as text that ends with a newline: ``json``, ``csv`` or ``markdown``.

    JSON is a list of objects; what is unknown is null there, and nothing in CSV. Infinity, which
    JSON has no number for, is the text ``inf``.
    """
    if form == "json":
        rows = [
            {key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")
        ]
        return json.dumps(rows, indent=2) + "\n"
    if form == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [_line(map(str, table.columns)), _line("---" for _ in table.columns)]
    return "\n".join((*lines, *map(_line, cells))) + "\n"


def long_table(summary: "DataFrame", keys: Sequence[str]) -> "DataFrame":
    """Return a summary with one row per point and metric: ``value``, ``lo`` and ``hi``."""
    from pandas.api.types import is_numeric_dtype

    metrics = [
        name for name in map(str, summary)
        if name not in keys
        and not name.endswith(("_lo", "_hi"))
        and is_numeric_dtype(summary[name])
    ]  # fmt: skip
    table = summary[[*keys]].take([point for point in range(len(summary)) for _ in metrics])
    table = table.reset_index(drop=True).assign(metric=metrics * len(summary))
    for column, end in (("value", ""), ("lo", "_lo"), ("hi", "_hi")):
        known = summary.reindex(columns=[f"{name}{end}" for name in metrics])
        table[column] = known.to_numpy(float).ravel()
    return table


def html_table(summary: "DataFrame", keys: Sequence[str]) -> str:
    """Return what the terminal shows of a summary as a table for notebooks."""
    from html import escape

    from experiments.reporting.figure_layout import value_text
    from experiments.reporting.table import COLUMNS, cell

    rows = summary.to_dict("records")
    known = [name for name in summary if summary[name].notna().any()]
    columns = [each for each in COLUMNS if each.metric in known]
    headings = [*keys, *(each.heading for each in columns)]
    head = "".join(f"<th>{escape(str(word))}</th>" for word in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(value_text(row[key]))}</td>" for key in keys)
        + "".join(f"<td>{escape(cell(row, each))}</td>" for each in columns)  # type: ignore[arg-type]
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
