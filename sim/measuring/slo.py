"""Service level objectives: limits of requests, limits of percentiles, and who keeps them."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from model.dataclass import dataclass
from sim.measuring.latencies import latency
from sim.recording.result import FINISHED
from sim.recording.tape import Column

Mask = npt.NDArray[np.bool_]

LATENCIES = ("ttft", "tpot", "e2e")
SHARE = "_attainment"
"""Ends the name of a metric: the share of the requests that keep the limit before it."""
FIRM_PERCENT = 90
"""Without limits of single requests, a good request keeps those of percentiles from here on."""


class Slo(BaseModel):
    """Limits that requests have to keep; a limit left out always holds.

    `ttft_s`, `tpot_s` and `e2e_s` are limits of one request: `attainment` of them have to keep all
    of these together. `ttft_p99_s: 0.5` is a limit on its own, that of 99% of the requests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    ttft_s: PositiveFloat | None = None
    """Largest time to first token, in seconds."""
    tpot_s: PositiveFloat | None = None
    """Largest time per output token after the first, in seconds; one-token outputs keep it."""
    e2e_s: PositiveFloat | None = None
    """Largest end-to-end latency, in seconds."""
    attainment: float = Field(default=0.99, gt=0, le=1)
    """Share of the requests that have to keep ttft_s, tpot_s and e2e_s for a configuration to
    pass."""
    ttft_p50_s: PositiveFloat | None = None
    """Largest time to first token of 50% of the requests, seconds."""
    ttft_p90_s: PositiveFloat | None = None
    """Largest time to first token of 90% of the requests, seconds."""
    ttft_p95_s: PositiveFloat | None = None
    """Largest time to first token of 95% of the requests, seconds."""
    ttft_p99_s: PositiveFloat | None = None
    """Largest time to first token of 99% of the requests, seconds."""
    tpot_p50_s: PositiveFloat | None = None
    """Largest time per output token of 50% of the requests, seconds."""
    tpot_p90_s: PositiveFloat | None = None
    """Largest time per output token of 90% of the requests, seconds."""
    tpot_p95_s: PositiveFloat | None = None
    """Largest time per output token of 95% of the requests, seconds."""
    tpot_p99_s: PositiveFloat | None = None
    """Largest time per output token of 99% of the requests, seconds."""
    e2e_p50_s: PositiveFloat | None = None
    """Largest end-to-end latency of 50% of the requests, seconds."""
    e2e_p90_s: PositiveFloat | None = None
    """Largest end-to-end latency of 90% of the requests, seconds."""
    e2e_p95_s: PositiveFloat | None = None
    """Largest end-to-end latency of 95% of the requests, seconds."""
    e2e_p99_s: PositiveFloat | None = None
    """Largest end-to-end latency of 99% of the requests, seconds."""
    window_s: PositiveFloat | None = None
    """Also judge every stretch of this length, seconds, as a whole. Default: 300 where the workload
    has a clock (a trace, diurnal, piecewise), else none."""


WINDOW_S = 300.0
HOUR_S = 3600.0
WINDOWS = {
    "slo_windows": "stretches of slo.window_s in which requests were sent",
    "slo_windows_kept": "share of them that kept everything that the slo asks for",
    "worst_hour": "hour of simulated time, from 0, of whose requests the largest share missed",
    "worst_hour_missed": "share of the requests of that hour that missed a limit",
}
"""Metrics of a run whose slo is judged by windows."""


@dataclass(frozen=True, slots=True)
class PercentileLimit:
    """A limit that a share of all requests has to keep."""

    key: str
    """``ttft_p99_s``."""
    latency: str
    percent: int
    limit_s: float

    @property
    def column(self) -> str:
        """Metric of a run: the share of its requests that keep the limit."""
        return f"{self.key}{SHARE}"


def request_limits(slo: Slo) -> dict[str, float]:
    """Limits of single requests, seconds by latency."""
    given = {name: getattr(slo, f"{name}_s") for name in LATENCIES}
    return {name: limit_s for name, limit_s in given.items() if limit_s is not None}


def percentile_limits(slo: Slo) -> Iterator[PercentileLimit]:
    """Limits of percentiles."""
    for name in LATENCIES:
        for percent in (50, 90, 95, 99):
            key = f"{name}_p{percent}_s"
            limit_s = getattr(slo, key)
            if limit_s is not None:
                yield PercentileLimit(key, name, percent, limit_s)


def good(columns: Mapping[str, Column], slo: Slo) -> Mask:
    """Which requests finished within every limit of a request; an undefined TPOT is within.

    Where the slo limits percentiles alone, a good request keeps those of p90 and higher.
    """
    limits = request_limits(slo)
    if not limits:
        for one in percentile_limits(slo):
            if one.percent >= FIRM_PERCENT:
                limits[one.latency] = min(one.limit_s, limits.get(one.latency, np.inf))
    kept: Mask = np.equal(columns["status"], FINISHED)
    for name, limit_s in limits.items():
        kept &= ~(latency(columns, name) > limit_s)
    return kept


def attainments(columns: Mapping[str, Column], measured: Mask, slo: Slo) -> dict[str, float]:
    """Share of the measured requests that finished within each single limit, by its column."""
    finished = np.equal(columns["status"], FINISHED)
    total = int(measured.sum())
    limits = [(f"{name}_s{SHARE}", name, limit) for name, limit in request_limits(slo).items()]
    limits += [(one.column, one.latency, one.limit_s) for one in percentile_limits(slo)]
    shares = {}
    for column, name, limit_s in limits:
        kept = finished & ~(latency(columns, name) > limit_s)
        shares[column] = int((kept & measured).sum()) / total if total else float("nan")
    return shares


def is_met(values: Mapping[str, float], slo: Slo) -> bool:
    """Whether the shares of a run reach everything that is asked for."""
    joint = not request_limits(slo) or values["slo_attainment"] >= slo.attainment
    return joint and all(values[one.column] >= one.percent / 100 for one in percentile_limits(slo))


def judged_windows(
    columns: Mapping[str, Column], measured: Mask, slo: Slo, window_s: float
) -> tuple[int, npt.NDArray[np.int64], Mask]:
    """Judge every stretch of ``window_s`` for itself.

    Returns the number of the first window with requests (counted from time 0), and from it on how
    many were sent in each window and whether it kept the slo.
    """
    rows = np.flatnonzero(measured & ~np.isnan(columns["sent_s"]))
    if not len(rows):
        return 0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    finished = np.equal(columns["status"], FINISHED)[rows]
    window = np.floor(columns["sent_s"][rows] / window_s).astype(np.int64)
    first = int(window.min())
    window -= first
    total = np.bincount(window)
    kept = np.ones(len(total), dtype=np.bool_)
    some = np.maximum(total, 1)  # a share as those of runs: 243 of 300 are 81%, 0.81 * 300 is more
    if request_limits(slo):
        kept &= np.bincount(window, good(columns, slo)[rows]) / some >= slo.attainment
    for one in percentile_limits(slo):
        within = finished & ~(latency(columns, one.latency)[rows] > one.limit_s)
        kept &= np.bincount(window, within) / some >= one.percent / 100
    return first, total, kept


def windows(
    columns: Mapping[str, Column], measured: Mask, slo: Slo, window_s: float
) -> dict[str, float]:
    """Judge every stretch of ``window_s`` for itself, and find the worst hour: ``WINDOWS``.

    Requests belong to the window in which they were sent, counted from time 0. A window keeps the
    slo if its own requests reach every share that it asks for; one without requests does not count.
    """
    rows = np.flatnonzero(measured & ~np.isnan(columns["sent_s"]))
    if not len(rows):
        return dict.fromkeys(WINDOWS, float("nan"))
    _, total, kept = judged_windows(columns, measured, slo, window_s)
    every = good(columns, slo)[rows]
    sent_s = columns["sent_s"][rows]
    hour = np.floor(sent_s / HOUR_S).astype(np.int64)
    first = int(hour.min())
    hourly = np.bincount(hour - first)
    missed = np.bincount(hour - first, ~every) / np.maximum(hourly, 1)
    worst = int(np.argmax(missed))
    values = (int((total > 0).sum()), kept[total > 0].mean(), first + worst, missed[worst])
    return dict(zip(WINDOWS, map(float, values), strict=True))
