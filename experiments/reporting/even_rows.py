"""Tables of many rows of one line each: rich draws one row, and the others are written like it.

That takes a twentieth of the time of laying out every cell by itself.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table

Lines = Sequence[Sequence[str]]
"""Cells, row by row."""


def are_even(lines: Lines) -> bool:
    """Tell whether every cell is a line that is shown as it is, and no column is of nothing."""
    plain = all(text.isprintable() and not text.endswith(" ") for cells in lines for text in cells)
    return plain and bool(lines) and all(map(any, zip(*lines, strict=True)))


class EvenRows:
    """A table with columns and no row, and the rows that it is to have.

    Nothing of them is cut or wrapped: whoever prints it makes sure that there is room.
    """

    def __init__(self, table: "Table", lines: Lines) -> None:
        self._table = table
        self._columns = [_as_wide(cells) for cells in zip(*lines, strict=True)]
        table.add_row(*("0" * width for width, _ in self._columns))

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        """Say how wide it is."""
        from rich.measure import Measurement

        return Measurement.get(console, options, self._table)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Draw it."""
        from rich.segment import Segment

        *head, one, end = console.render_lines(self._table, options, pad=False)
        between = re.split("0+", "".join(segment.text for segment in one))
        padded = (
            [pad + text if column.justify == "right" else text + pad for text, pad in cells]
            for column, (_, cells) in zip(self._table.columns, self._columns, strict=True)
        )
        form = "%s".join(text.replace("%", "%%") for text in between)
        rows = [[Segment("\n".join(form % cells for cells in zip(*padded, strict=True)))]]
        for line in (*head, *rows, end):
            yield from line
            yield Segment.line()


def _as_wide(cells: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    """Return how wide a column is, and with each cell what it lacks of that."""
    from rich.cells import cell_len

    widths = [len(text) if text.isascii() else cell_len(text) for text in cells]
    most = max(widths)
    pads = [" " * (most - width) for width in widths]
    return most, list(zip(cells, pads, strict=True))
