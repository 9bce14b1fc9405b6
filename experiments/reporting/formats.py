"""Tables for programs: JSON, CSV and Markdown, with full precision."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("table", "json", "csv", "markdown")
"""How results can be printed; a table is for people."""


def written(table: "DataFrame", form: str) -> str:
    """Return a table as text that ends with a newline: ``json``, ``csv`` or ``markdown``.

    JSON is a list of objects; what is unknown is null there, and nothing in CSV.
    """
    if form == "json":
        return table.to_json(orient="records", indent=2, double_precision=15) + "\n"
    if form == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [_line(map(str, table.columns)), _line("---" for _ in table.columns)]
    return "\n".join((*lines, *map(_line, rows))) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value).replace("|", "\\|")
