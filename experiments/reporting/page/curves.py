"""What charts show of a point's requests: distributions, where TTFT goes, the run over time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.why import WORDS
from sim.decomposition import OF_TTFT
from sim.latencies import latency
from sim.percentiles import PERCENTS
from sim.slo import Slo, good

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray[Any]]

COLUMNS = (
    "arrival_s", "sent_s", "first_token_s", "finish_s", "output_tokens", "status", "measured",
)  # fmt: skip
"""Of the requests, that curves are made from."""
RANKS = (
    0.001, 0.01, 0.02, 0.05, *(round(0.1 + 0.05 * step, 2) for step in range(17)), 0.93, 0.95,
    0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
)  # fmt: skip
"""Of distributions: shares of requests."""
PARTS = tuple(WORDS[part] for part in OF_TTFT)
"""Of the time to first token, in the order of ``Curves.split``."""
SLICES, FEW_SLICES, FEW = 96, 48, 5000
"""Of a run over time; fewer where a point has less than ``FEW`` requests."""


@dataclass(frozen=True, slots=True)
class Curves:
    """One point, all of its runs together."""

    quantiles: Mapping[str, list[float]]
    """By latency, at ``RANKS``."""
    split: list[list[float]]
    """Seconds of each of ``PARTS`` about each of ``PERCENTS``; nothing without answers."""
    end_s: float
    """When the last request arrives."""
    rate: list[float]
    """Arrivals per second, by slice."""
    ttft_p99_s: list[float]
    """NaN where nobody arrives."""
    within: list[float]
    """Shares of those who arrive in a slice that are within all limits; NaN likewise."""


def curves(runs: Sequence[Columns], slo: Slo | None, parts: Iterable[Mapping[str, Any]]) -> Curves:
    """Return what charts show of a point.

    Args:
        runs: columns of the requests of each run.
        slo: limits; without any every finished request is within them.
        parts: rows of decomposition.csv of the point.
    """
    columns = {name: np.concatenate([run[name] for run in runs]) for name in COLUMNS}
    measured = columns["measured"] > 0
    quantiles = {}
    for name in ("ttft", "tpot", "e2e"):
        sample = latency(columns, name)
        sample = sample[measured & np.isfinite(sample)]
        if len(sample):
            quantiles[name] = np.quantile(sample, RANKS).tolist()
    end_s, rate, ttft, within = _over_time(columns, len(runs), slo)
    return Curves(quantiles, _split(parts), end_s, rate, ttft, within)


def _split(parts: Iterable[Mapping[str, Any]]) -> list[list[float]]:
    """The parts of TTFT by percentile."""
    seconds = {
        (int(row["percentile"]), row["part"]): float(row["seconds"])
        for row in parts
        if row["span"] == "ttft" and row["percentile"]
    }
    return [[seconds[percent, part] for part in OF_TTFT] for percent in PERCENTS] if seconds else []


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
    within = good(columns, slo or Slo())[present]
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(count + 1))
    rate, tails, shares = [], [], []
    for low, high in pairwise(bounds.tolist()):
        rows = order[low:high]
        rate.append(len(rows) / width_s / runs)
        answered = ttft[rows][np.isfinite(ttft[rows])]
        tails.append(float(np.quantile(answered, 0.99)) if len(answered) else float("nan"))
        shares.append(float(within[rows].mean()) if len(rows) else float("nan"))
    return end_s, rate, tails, shares
