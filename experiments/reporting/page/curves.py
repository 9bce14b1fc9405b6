"""What charts show of a point's requests: distributions, where time goes, the run over time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.limits import tails_of
from model.dataclass import dataclass
from sim.measuring.latencies import latency
from sim.measuring.percentiles import PERCENTS, quantiles_at
from sim.measuring.slo import HOUR_S, Slo, good, judged_windows
from sim.recording.result import UNFINISHED

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray[Any]]

COLUMNS = (
    "arrival_s", "sent_s", "first_token_s", "finish_s", "output_tokens", "status", "measured",
)  # fmt: skip
"""Of the requests, that curves are made from."""
RANKS = (
    0.001, 0.01, 0.02, 0.05, *(round(0.1 * step, 1) for step in range(1, 10)), 0.95, 0.97, 0.98,
    0.99, 0.995, 0.999,
)  # fmt: skip
"""Of distributions: shares of requests."""
SLICES, FEW_SLICES, FEW = 96, 48, 25_000
"""Of a run over time; fewer where a point has less than ``FEW`` requests: a p99 wants some."""
BOUND_SLICES, FEW_BOUND_SLICES = 40, 20
"""Of what binds over time: ten moments each, or twenty."""
MOST_HOURS = 2
"""A run that is shorter has no hours to tell apart."""
KEPT, SOME, MISSED, EMPTY = range(4)
"""What became of a window: kept in every run, missed in some, missed in all, nobody in it."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What limited the engine when, in one run: ``sim.measuring.binding``."""

    time_s: Floats
    names: Sequence[str]
    """Of the resource, by moment."""


@dataclass(frozen=True, slots=True)
class Curves:
    """One point, all of its runs together."""

    quantiles: Mapping[str, list[float]]
    """By latency, at ``RANKS``."""
    parts: Mapping[str, Mapping[str, list[float]]]
    """Seconds by span (TTFT, E2E) and part, about each of ``PERCENTS``."""
    end_s: float
    """When the last request arrives."""
    rate: list[float]
    """Arrivals per second, by slice."""
    ttft_tail_s: list[float]
    """The percentile that ``tails_of`` the slo looks at; NaN where nobody arrives."""
    within: list[float]
    """Shares of those who arrive in a slice that are within all limits; NaN likewise."""
    bound: Mapping[str, list[float]] = field(default_factory=dict)
    """Share of the moments of a slice in which a resource was what limits, by its name."""
    windows: list[int] = field(default_factory=list)
    """What became of each window of the slo, from time 0 on; nothing without a clock."""
    window_s: float = 0.0
    worst_hour: tuple[int, float] | None = None
    """The hour in which the largest share missed, and that share; None where hours say nothing."""


def curves(
    runs: Sequence[Columns], slo: Slo | None, parts: Iterable[Mapping[str, Any]],
    moments: Moments | None = None, window_s: float | None = None, *, fine: bool = True,
) -> Curves:  # fmt: skip
    """Return what charts show of a point.

    Args:
        runs: columns of the requests of each run.
        slo: limits; without any every finished request is within them.
        parts: rows of decomposition.csv of the point.
        moments: what limited its first run.
        window_s: length of the windows that the slo is judged by, if it is.
        fine: whether there is room for ``SLICES`` and ``BOUND_SLICES``.
    """
    columns = {name: np.concatenate([run[name] for run in runs]) for name in COLUMNS}
    measured = columns["measured"] > 0
    quantiles = {}
    for name in ("ttft", "tpot", "e2e"):
        sample = latency(columns, name)
        sample = sample[measured & np.isfinite(sample)]
        if len(sample):
            quantiles[name] = quantiles_at(sample, RANKS)
    end_s, rate, ttft, within = _over_time(columns, len(runs), slo, fine)
    judged = slo is not None and window_s is not None
    slices = BOUND_SLICES if fine else FEW_BOUND_SLICES
    return Curves(
        quantiles, _parts(parts), end_s, rate, ttft, within, _bound(moments, end_s, slices),
        _windows(runs, slo, window_s) if slo is not None and window_s is not None else [],
        window_s or 0.0, _worst_hour(columns, slo, end_s) if judged else None,
    )  # fmt: skip


def _parts(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The parts of each span by percentile, as the table has them."""
    found: dict[str, dict[str, list[float]]] = {}
    places = {percent: place for place, percent in enumerate(PERCENTS)}
    for row in rows:
        if int(row["percentile"]) in places:
            of_span = found.setdefault(row["span"], {})
            values = of_span.setdefault(row["part"], [0.0] * len(PERCENTS))
            values[places[int(row["percentile"])]] = float(row["seconds"])
    return found


def _over_time(
    columns: Columns, runs: int, slo: Slo | None, fine: bool
) -> tuple[float, list[float], list[float], list[float]]:
    arrival_s = np.asarray(columns["arrival_s"], dtype=np.float64)
    ended = columns["status"] != UNFINISHED
    present = np.isfinite(arrival_s)
    end_s = float(arrival_s[present & ((columns["measured"] > 0) | ended)].max(initial=0.0))
    present &= arrival_s <= end_s  # the others would have come after the clock was stopped
    count = SLICES if fine and present.sum() >= FEW else FEW_SLICES
    width_s = end_s / count
    if not width_s:
        return 0.0, [], [], []
    place = np.minimum(arrival_s[present] // width_s, count - 1).astype(np.int64)
    ttft = latency(columns, "ttft")[present]
    within = good(columns, slo or Slo())[present]
    tail = tails_of(slo)["ttft"] / 100
    came = np.bincount(place, minlength=count)
    kept = np.bincount(place, within, count)
    pairs = zip(kept.tolist(), came.tolist(), strict=True)
    shares = [part / of if of else float("nan") for part, of in pairs]
    answered = np.isfinite(ttft)
    order = np.argsort(place[answered], kind="stable")
    bounds = np.cumsum(np.bincount(place[answered], minlength=count))[:-1]
    tails = [
        quantiles_at(slice_s, [tail])[0] if len(slice_s) else float("nan")
        for slice_s in np.split(ttft[answered][order], bounds)
    ]
    return end_s, (came / width_s / runs).tolist(), tails, shares


def _bound(moments: Moments | None, end_s: float, count: int) -> dict[str, list[float]]:
    """Shares of the moments by resource and slice; those after the last arrival are left out."""
    if moments is None or not end_s:
        return {}
    place = (moments.time_s // (end_s / count)).astype(np.int64)
    pairs, of = Counter(zip(place.tolist(), moments.names, strict=True)), Counter(place.tolist())
    found: dict[str, list[float]] = {}
    for (at, name), times in sorted(pairs.items()):
        shares = found.setdefault(name, [0.0] * count)
        if at < count:
            shares[at] = times / of[at]
    return {name: shares for name, shares in found.items() if any(shares)}


def _windows(runs: Sequence[Columns], slo: Slo, window_s: float) -> list[int]:
    """What became of each window over all runs, from time 0 on."""
    judged = [judged_windows(run, run["measured"] > 0, slo, window_s) for run in runs]
    count = max((first + len(total) for first, total, _ in judged), default=0)
    came, missed = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for first, total, kept in judged:
        place = slice(first, first + len(total))
        came[place] += total > 0
        missed[place] += (total > 0) & ~kept
    found = np.where(missed == 0, KEPT, np.where(missed < came, SOME, MISSED))
    whole: list[int] = np.where(came == 0, EMPTY, found).tolist()
    return whole


def _worst_hour(columns: Columns, slo: Slo | None, end_s: float) -> tuple[int, float] | None:
    """The hour of all runs in which the largest share of the requests missed a limit."""
    if slo is None or end_s < MOST_HOURS * HOUR_S:
        return None
    rows = np.flatnonzero((columns["measured"] > 0) & ~np.isnan(columns["sent_s"]))
    if not len(rows):
        return None
    hour = np.floor(columns["sent_s"][rows] / HOUR_S).astype(np.int64)
    total = np.bincount(hour)
    missed = np.bincount(hour, ~good(columns, slo)[rows]) / np.maximum(total, 1)
    worst = int(np.argmax(missed))
    return worst, float(missed[worst])
