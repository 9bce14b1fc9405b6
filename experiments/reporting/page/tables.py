"""Tables that stand on a page as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Cell = str | Mapping[str, str]
"""A text, or ``{"text": ..., "href": ...}``."""


@dataclass(frozen=True, slots=True)
class Table:
    """Texts, row by row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    keys: int = 1
    """How many columns from the left are words."""
    classes: Sequence[str] = ()
    """Of each row, for its style; empty for none."""
