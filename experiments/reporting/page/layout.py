"""Which swept key the charts of a page have on x, and which ones tell their lines apart."""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any

from experiments.reporting.figure_layout import value_text

Row = Mapping[str, Any]


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


def _values(key: str, rows: Sequence[Row]) -> set[str]:
    return {value_text(row[key]) for row in rows}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
