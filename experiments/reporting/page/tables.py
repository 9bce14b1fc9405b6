"""Tables that stand on a page as they are."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import groupby

from experiments.reporting.quantities import MISSING
from model.dataclass import dataclass

Cell = str | Mapping[str, str]
"""A text, or ``{"text": ..., "href": ...}``."""

LONG, FEW = 40, 8
"""Characters of a cell that is a sentence; columns that a paragraph can hold."""
NARROW, GAP, SHORT = 44, 2, 4
"""Characters beside each other on a phone, and between columns; rows that are few."""
WITH_UNIT = re.compile(r"[-+~<>≤≥ ]*\d[\d.,]*(e[-+]?\d+)?( ?\S+)?")
"""A number, and a word for its unit."""
NO_NUMBER = re.compile(r"(?!none|more)\W*[A-Za-z]|.*[A-Za-z]{5}|.{25}")


@dataclass(frozen=True, slots=True)
class Table:
    """Texts, row by row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    keys: int = 1
    """How many columns from the left say what a row is about."""
    classes: Sequence[str] = ()
    """Of each row, for its style; empty for none."""
    points: Sequence[int] = ()
    """Of each row, the number of its point: rows of one stand together, under its name."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """What points are called, by their numbers; without it rows have no name above them."""

    @property
    def bodies(self) -> Iterator[tuple[int, str, list[tuple[tuple[Cell, ...], str]]]]:
        """The rows with their classes, point by point: its number (0: none), what it is called."""
        points = self.points or [0] * len(self.rows)
        classes = self.classes or [""] * len(self.rows)
        rows = zip(points, self.rows, classes, strict=True)
        for point, group in groupby(rows, lambda row: row[0]):
            label = self.labels.get(point, "")
            name = f"{point}: {label}" if label else ""
            yield point, name, [(cells, style) for _, cells, style in group]

    def told(self) -> "Table":
        """Return it without the columns that have nothing in them, or dashes alone."""
        kept = [
            place for place in range(len(self.headings))
            if place < self.keys or any(row[place] not in ("", MISSING) for row in self.rows)
        ]  # fmt: skip
        headings = tuple(self.headings[place] for place in kept)
        rows = tuple(tuple(row[place] for place in kept) for row in self.rows)
        return replace(self, headings=headings, rows=rows)

    @property
    def is_read(self) -> bool:
        """Whether a phone shows a row as a paragraph.

        That is where there are sentences more than figures, and where few rows are too wide.
        """
        if len(self.headings) > FEW:
            return False
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        widths = [
            max((len(cell) for cell in column if isinstance(cell, str)), default=0)
            for column in columns
        ]
        if max(widths) > LONG:
            return True
        words = [max(map(len, heading.split()), default=0) for heading in self.headings]
        needed = sum(map(max, widths, words)) + GAP * len(widths)
        return len(self.rows) <= SHORT and not self.points and needed > NARROW

    @property
    def words(self) -> frozenset[int]:
        """Columns that are read, not compared: those that say what a row is about, and texts."""
        texts = {
            place
            for row in self.rows
            for place, cell in enumerate(row)
            if not isinstance(cell, str)
            or (NO_NUMBER.match(cell) and not WITH_UNIT.fullmatch(cell))
        }
        return frozenset((*range(self.keys), *texts))
