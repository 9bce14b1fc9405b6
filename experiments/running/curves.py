"""What the page shows of each point's requests, read from the pieces point by point."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from experiments.reporting.page.curves import COLUMNS, Columns, Curves, Moments, curves
from experiments.running.pieces import read_columns, read_piece, window_s_of
from experiments.running.sweep import Run
from sim.measuring.binding import RESOURCES

Parts = Mapping[int, Sequence[Mapping[str, Any]]]
"""Rows of decomposition.csv by point."""

MOST_FINE = 24
"""Points whose runs are drawn over time as finely as can be; of more, half as finely."""


def curves_of(
    runs: Sequence[Run], parts: Parts, places: Collection[int] | None = None
) -> Iterator[Curves | None]:
    """Give the curves of each point, whose runs lie one after the other.

    None for points that are not among ``places`` (from 0; None: all of them).
    """
    fine = len({run.point for run in runs}) <= MOST_FINE
    for place, (number, group) in enumerate(groupby(runs, lambda run: run.point)):
        found = list(group)
        if places is not None and place not in places:
            yield None
        else:
            study = found[0].study
            yield curves(
                [_columns(run) for run in found], study.slo, parts[number], _moments(found[0]),
                window_s_of(study), fine=fine,
            )  # fmt: skip


def _columns(run: Run) -> Columns:
    return dict(read_columns(run.path, COLUMNS))


def _moments(run: Run) -> Moments:
    """What limited the engine when; of the first run of a point, as in binding.csv."""
    found = read_piece(run.path).binding
    return Moments(found["time_s"], [RESOURCES[place] for place in found["resource"].tolist()])
