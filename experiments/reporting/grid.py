"""Tables of text: what is in them, and how a pipe or a file gets them.

There nothing is cut or wrapped, so that a column is as wide as its widest cell; rich, which takes
longer to load than a short study to simulate, is not needed. A terminal gets the same from rich,
wrapped where it is too narrow.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from experiments.reporting.signs import SPELT, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table


class Box(NamedTuple):
    """Signs of lines: on the left, along, between columns, on the right."""

    top: tuple[str, str, str, str]
    middle: tuple[str, str, str, str]
    """Below the headings."""
    bottom: tuple[str, str, str, str]
    heading: str
    """Beside a heading,"""
    cell: str
    """and beside a cell."""


HEAVY_HEAD = Box(
    ("┏", "━", "┳", "┓"), ("┡", "━", "╇", "┩"), ("└", "─", "┴", "┘"), heading="┃", cell="│"
)
ASCII = Box(("+", "-", "-", "+"), ("|", "-", "+", "|"), ("+", "-", "-", "+"), heading="|", cell="|")
"""The boxes of these names in rich."""


class Heading(NamedTuple):
    """What stands above a column, and how its cells lie."""

    text: str
    right: bool
    whole: bool
    """Words of its cells are not broken."""


class Grid:
    """A table of text; cells and headings may have several lines."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.rows: list[list[str]] = []

    def add_column(self, heading: str, *, right: bool = True, whole: bool = False) -> None:
        """Add a column on the right."""
        self.headings.append(Heading(_shown(heading), right, whole))

    def add_row(self, *cells: str) -> None:
        """Add a row with a cell for every column."""
        self.rows.append(list(map(_shown, cells)))

    @property
    def width(self) -> int:
        """Characters of a line if there is room for all."""
        return 1 + sum(width + 3 for width in self._widths())

    def lines(self, box: Box = HEAVY_HEAD) -> Iterator[str]:
        """Give the lines of the table, all of them as wide."""
        widths = self._widths()
        yield _rule(box.top, widths)
        tops = zip_longest(
            *(reversed(each.text.split("\n")) for each in self.headings), fillvalue=""
        )
        for line in reversed(list(tops)):
            yield self._line(line, widths, box.heading)
        yield _rule(box.middle, widths)
        for cells in self.rows:
            if any("\n" in text for text in cells):
                parts = zip_longest(*(text.split("\n") for text in cells), fillvalue="")
                yield from (self._line(part, widths, box.cell) for part in parts)
            else:
                yield self._line(cells, widths, box.cell)
        yield _rule(box.bottom, widths)

    def _line(self, cells: Iterable[str], widths: Sequence[int], bar: str) -> str:
        padded = (
            _padded(text, width, heading.right)
            for text, width, heading in zip(cells, widths, self.headings, strict=True)
        )
        return f"{bar} {f' {bar} '.join(padded)} {bar}"

    def _widths(self) -> list[int]:
        found = []
        for number, heading in enumerate(self.headings):
            texts = chain((heading.text,), (cells[number] for cells in self.rows))
            found.append(max(_length(line) for text in texts for line in text.split("\n")))
        return found

    def rich(self, room: int) -> "Table":
        """Return the table for a terminal that has ``room`` for so many characters.

        Where that is enough, a column is one cell of as many lines as there are rows, which rich
        draws four times as fast.
        """
        from rich.table import Table

        table = Table()
        for each in self.headings:
            table.add_column(
                each.text, justify="right" if each.right else "left", overflow="fold",
                no_wrap=each.whole,
            )  # fmt: skip
        apart = self.width > room or any("\n" in text for cells in self.rows for text in cells)
        for cells in self.rows if apart else [map("\n".join, zip(*self.rows, strict=True))]:
            table.add_row(*cells)
        return table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Draw it in a terminal."""
        yield self.rich(options.max_width)

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        """Say how wide it is."""
        from rich.measure import Measurement

        return Measurement.get(console, options, self.rich(options.max_width))


def _shown(text: str) -> str:
    return text if text.isprintable() else printable(text).expandtabs(8)


def _rule(signs: tuple[str, str, str, str], widths: Iterable[int]) -> str:
    left, along, between, right = signs
    return left + between.join(along * (width + 2) for width in widths) + right


def _padded(text: str, width: int, right: bool) -> str:
    if right:
        text = text.rstrip()
    room = " " * (width - _length(text))
    return room + text if right else text + room


def _length(text: str) -> int:
    """How many characters of a terminal a line takes."""
    if text.isascii() or all(sign < "\u0300" or sign in SPELT for sign in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
