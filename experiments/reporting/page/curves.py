"""What charts show of a point's requests: distributions, where TTFT goes, the run over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.latencies import latency
from sim.percentiles import PERCENTS
from sim.result import FINISHED
from sim.slo import Slo

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray[Any]]

COLUMNS = (
    "arrival_s", "sent_s", "reached_s", "first_scheduled_s", "first_token_s", "finish_s",
    "output_tokens", "preemptions", "status", "measured",
)  # fmt: skip
"""Of the requests, that curves are made from."""
RANKS = (
    0.001, 0.01, 0.02, 0.05, *(round(0.1 + 0.05 * step, 2) for step in range(17)), 0.93, 0.95,
    0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
)  # fmt: skip
"""Of distributions: shares of requests."""
PARTS = ("API", "queue", "prefill", "prefill of preempted")
"""Of the time to first token."""
NEAR = 0.005
"""Ranks to either side of a percentile whose requests stand for it."""
FEWEST = 20
"""They are at least so many."""
SLICES, FEW_SLICES, FEW = 96, 48, 5000
"""Of a run over time; fewer where a point has less than ``FEW`` requests."""


@dataclass(frozen=True, slots=True)
class Curves:
    """One point, all of its runs together."""

    quantiles: Mapping[str, list[float]]
    """By latency, at ``RANKS``."""
    split: list[list[float]]
    """Seconds of each of ``PARTS`` around each of ``PERCENTS``; nothing without answers."""
    end_s: float
    """When the last request arrives."""
    rate: list[float]
    """Arrivals per second, by slice."""
    ttft_p99_s: list[float]
    """NaN where nobody arrives."""
    within: list[float]
    """Shares of those who arrive in a slice that are within all limits; NaN likewise."""


def curves(runs: Sequence[Columns], slo: Slo | None) -> Curves:
    """Return what charts show of the runs of a point, from the columns of their requests."""
    columns = {name: np.concatenate([run[name] for run in runs]) for name in COLUMNS}
    measured = columns["measured"] > 0
    kept = {name: column[measured] for name, column in columns.items()}
    quantiles = {}
    for name in ("ttft", "tpot", "e2e"):
        sample = latency(kept, name)
        sample = sample[np.isfinite(sample)]
        if len(sample):
            quantiles[name] = np.quantile(sample, RANKS).tolist()
    end_s, rate, ttft, within = _over_time(columns, len(runs), slo)
    return Curves(quantiles, _split(kept), end_s, rate, ttft, within)


def _split(columns: Columns) -> list[list[float]]:
    """The parts of TTFT, means of those around each percentile."""
    ttft = latency(columns, "ttft")
    order = np.argsort(ttft, kind="stable")
    order = order[np.isfinite(ttft[order])]
    if not len(order):
        return []
    begun = columns["first_scheduled_s"] - columns["reached_s"]
    computed = columns["first_token_s"] - columns["first_scheduled_s"]
    again = columns["preemptions"] > 0
    parts = np.array(
        [
            columns["reached_s"] - columns["sent_s"], begun, np.where(again, 0.0, computed),
            np.where(again, computed, 0.0),
        ]
    )  # fmt: skip
    found = []
    for percent in PERCENTS:
        middle = percent / 100 * (len(order) - 1)
        near = max(NEAR * len(order), FEWEST / 2)
        low = int(max(0, min(middle - near, len(order) - 2 * near)))
        high = int(min(len(order), max(middle + near, 2 * near))) + 1
        found.append(parts[:, order[low:high]].mean(axis=1).tolist())
    return found


def _over_time(
    columns: Columns, runs: int, slo: Slo | None
) -> tuple[float, list[float], list[float], list[float]]:
    arrival_s = np.asarray(columns["arrival_s"], dtype=np.float64)
    present = np.isfinite(arrival_s)
    end_s = float(arrival_s[present].max(initial=0.0))
    count = SLICES if present.sum() >= FEW else FEW_SLICES
    width_s = end_s / count
    if not width_s:
        return 0.0, [], [], []
    place = np.minimum(arrival_s[present] // width_s, count - 1).astype(np.int64)
    ttft = latency(columns, "ttft")[present]
    good = within_limits(columns, slo)[present]
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(count + 1))
    rate, tails, shares = [], [], []
    for low, high in pairwise(bounds.tolist()):
        rows = order[low:high]
        rate.append(len(rows) / width_s / runs)
        answered = ttft[rows][np.isfinite(ttft[rows])]
        tails.append(float(np.quantile(answered, 0.99)) if len(answered) else float("nan"))
        shares.append(float(good[rows].mean()) if len(rows) else float("nan"))
    return end_s, rate, tails, shares


def within_limits(columns: Columns, slo: Slo | None) -> npt.NDArray[np.bool_]:
    """Tell which requests finished within every limit; an undefined TPOT is within its own."""
    good = np.asarray(columns["status"] == FINISHED)
    limits = {"ttft": slo.ttft_s, "tpot": slo.tpot_s, "e2e": slo.e2e_s} if slo else {}
    for name, limit_s in limits.items():
        if limit_s is not None:
            good &= ~(latency(columns, name) > limit_s)
    return good
