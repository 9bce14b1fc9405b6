"""Rows of the table of runs, by point and by what pairs them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def points_of(runs: "DataFrame", keys: Sequence[str]) -> "dict[tuple[str, ...], DataFrame]":
    """Runs by point, in the order of their first runs; keys may be missing (NaN) or mappings."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for place in range(len(runs)):
        rows.setdefault(identity(runs[key].iloc[place] for key in keys), []).append(place)
    points = {values: runs.iloc[places] for values, places in rows.items()}
    for values, group in points.items():
        again = group.duplicated(pair_columns(runs))
        if again.any():
            twice = group["seed"][again].iloc[0]
            raise ValueError(f"seed {twice} occurs twice in point {values}, expected once")
    return points


def pair_columns(runs: "DataFrame") -> list[str]:
    """Columns that name one run of a point, and its like at another."""
    return ["draw", "seed"] if "draw" in runs else ["seed"]


def identity(values: Iterable[object]) -> tuple[str, ...]:
    """Text of the values; equal numbers have equal text, whatever their type."""
    return tuple(
        str(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else str(value)
        for value in values
    )


def require(runs: "DataFrame", columns: Iterable[str]) -> None:
    for name in columns:
        if name not in runs:
            near = get_close_matches(name, map(str, runs.columns), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"runs has no column {name!r}{hint}")
