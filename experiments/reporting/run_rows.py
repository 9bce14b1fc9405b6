"""Rows of the table of runs, by point and by what pairs them."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any

from experiments.reporting.records import Records

Columns = Mapping[str, Sequence[Any]]
"""The runs of one point by column."""


def points_of(runs: Records, keys: Sequence[str]) -> dict[tuple[str, ...], Columns]:
    """Runs by point, in the order of their first runs; keys may be missing (NaN) or mappings.

    Raises:
        ValueError: a point has one seed twice (in one draw).
    """
    columns = runs.columns
    places: dict[tuple[str, ...], list[int]] = {}
    for place, values in enumerate(zip(*(columns[key] for key in keys), strict=True)):
        places.setdefault(identity(values), []).append(place)
    if not keys and len(runs):
        places[()] = list(range(len(runs)))
    points: dict[tuple[str, ...], Columns] = {
        values: {name: [column[place] for place in own] for name, column in columns.items()}
        for values, own in places.items()
    }
    for values, group in points.items():
        seen = set()
        for pair in pairs(group):
            if pair in seen:
                raise ValueError(f"seed {pair[-1]} occurs twice in point {values}, expected once")
            seen.add(pair)
    return points


def pairs(runs: Columns) -> list[tuple[Any, ...]]:
    """Return what names each run of a point, and its like at another: draw and seed."""
    names = ("draw", "seed") if "draw" in runs else ("seed",)
    return list(zip(*(runs[name] for name in names), strict=True))


def identity(values: Iterable[object]) -> tuple[str, ...]:
    """Text of the values; equal numbers have equal text, whatever their type."""
    return tuple(
        str(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else str(value)
        for value in values
    )


def require(runs: Records, columns: Iterable[str]) -> None:
    """Raises ValueError for the first column that the table lacks; names the nearest it has."""
    for name in columns:
        if name not in runs:
            near = get_close_matches(name, list(runs), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"runs has no column {name!r}{hint}")
