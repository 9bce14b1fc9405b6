"""What the page shows of each point's requests, read from the pieces point by point."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from experiments.reporting.page.curves import COLUMNS, Columns, Curves, curves
from experiments.running.pieces import read_columns
from experiments.running.sweep import Run

Parts = Mapping[int, Sequence[Mapping[str, Any]]]
"""Rows of decomposition.csv by point."""


def curves_of(
    runs: Sequence[Run], parts: Parts, places: Collection[int] | None = None
) -> Iterator[Curves | None]:
    """Give the curves of each point, whose runs lie one after the other.

    None for points that are not among ``places`` (from 0; None: all of them).
    """
    for place, (number, group) in enumerate(groupby(runs, lambda run: run.point)):
        found = list(group)
        if places is not None and place not in places:
            yield None
        else:
            yield curves([_columns(run) for run in found], found[0].study.slo, parts[number])


def _columns(run: Run) -> Columns:
    return dict(read_columns(run.path, COLUMNS))
