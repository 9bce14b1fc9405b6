"""Which swept keys charts have on x, tell their lines apart by, and give a colour."""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any

from experiments.reporting.figure_layout import value_text

Row = Mapping[str, Any]
MOST_GROUPS = 8
"""Colours and shapes that a reader can tell apart, and entries of a legend on a phone."""


def axis_of(keys: Sequence[str], rows: Sequence[Row]) -> tuple[str | None, list[str]]:
    """Return the key on x and those of the lines.

    On x is the number that takes most values, of several the one that is varied last, if there are
    then lines of several points, none of them twice at the same place. Else there is none.
    """
    varied = [key for key in keys if len(_values(key, rows)) > 1]
    numeric = [key for key in varied if all(_is_number(row[key]) for row in rows)]
    numeric.sort(key=lambda key: (-len(_values(key, rows)), -varied.index(key)))
    for axis in numeric:
        others = [key for key in varied if key != axis]
        lines: dict[tuple[str, ...], list[Any]] = {}
        for row in rows:
            lines.setdefault(tuple(value_text(row[key]) for key in others), []).append(row[axis])
        if len(lines) < len(rows) and all(len(set(at)) == len(at) for at in lines.values()):
            return axis, others
    return None, varied


def grouping_of(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return those of the keys of the lines whose values, together, have a colour.

    All of them where that makes few groups. Of more, what is no number comes before what is one,
    and each key has its part as long as the groups stay few; the first has it always.
    """
    if len(_combined(keys, rows)) <= MOST_GROUPS:
        return list(keys)
    numbers = [key for key in keys if all(_is_number(row[key]) for row in rows)]
    found: list[str] = []
    for key in (*(key for key in keys if key not in numbers), *numbers):
        if not found or len(_combined((*found, key), rows)) <= MOST_GROUPS:
            found.append(key)
    return [key for key in keys if key in found]


def _combined(keys: Sequence[str], rows: Sequence[Row]) -> set[tuple[str, ...]]:
    return {tuple(value_text(row[key]) for key in keys) for row in rows}


def _values(key: str, rows: Sequence[Row]) -> set[str]:
    return {value_text(row[key]) for row in rows}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
