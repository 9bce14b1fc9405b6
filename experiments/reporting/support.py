"""How many requests a percentile rests on, as if they were independent, and how many it needs.

Near saturation requests are bad together: one busy period makes hundreds of them wait. So a
thousand requests at 90% load have ten in the tail beyond p99, and these are worth a twentieth of
one independent request. The design effect (Kish, "Survey Sampling", 1965, section 8.2) says how
much a tail's variance exceeds that of independent requests. Measured on three systems, it is at
most

    max(3, 2.2 max(1, dispersion of arrivals) / (1 - load)^2 / replicas)

for time to first token; load is the rate over what a short overload run shows
(``running.capacity``), so it is no random outcome of the runs that it judges. Where a
replica's time per token is the matter it was 4 to 8 at every load. docs/statistics.md has the
measurements.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.reporting.quantities import significant

FIRM = 30
"""Effective requests beyond a percentile from which on it is shown with its interval,"""
THIN = 10
"""and below which it is not shown at all."""
LEAST_EFFECT = 3.0
AT_FULL_LOAD = 2.2
OF_TOKENS = 4.0
"""Design effect of the tail of TPOT and ITL, whatever the load."""
TOO_NEAR = 0.97
"""Load from which on time to first token has no steady state that a run could show: the capacity
itself is known to 1.5% only."""
TOO_NEAR_NOTE = (
    "too near to capacity for any steady state figure of TTFT: TPOT and throughput are firm"
)
RESTS_ON = " independent requests of the tail"
"""In every note about a percentile that rests on too little."""
_PERCENTILE = re.compile(r"(ttft|queue|e2e|tpot|itl)_p(\d+)_s")


@dataclass(frozen=True, slots=True)
class Load:
    """How near a point is to what it can serve."""

    rate_per_s: float
    capacity_per_s: float
    dispersion: float
    """Of its arrivals, 1 for Poisson: ``workloads.steady``."""
    replicas: int

    @property
    def share(self) -> float:
        """Rate over capacity."""
        return self.rate_per_s / self.capacity_per_s

    @property
    def effect(self) -> float:
        """Design effect of the tail of time to first token; infinite at capacity and beyond."""
        room = 1 - self.share
        if not room > 0:
            return math.inf
        waiting = AT_FULL_LOAD * max(1.0, self.dispersion) / room**2 / self.replicas
        return max(LEAST_EFFECT, waiting)

    @property
    def too_near(self) -> bool:
        """Whether no run is long enough."""
        return not self.share < TOO_NEAR


def effect_of(latency: str, queueing_effect: float) -> float:
    """Return the design effect of a latency's tail from that of time to first token."""
    return OF_TOKENS if latency in ("tpot", "itl") else queueing_effect


def needed(percent: int, effect: float, effective: float = FIRM) -> float:
    """Return how many requests put so many effective ones beyond a percentile."""
    return effective * effect * 100 / (100 - percent)


def effective(row: Mapping[str, Any], metric: str) -> float:
    """Return the effective requests beyond a percentile of a point of the summary.

    Infinite for what is no percentile, and where the design effect is not known.
    """
    found = _PERCENTILE.fullmatch(metric)
    effect = float(row.get("design_effect", math.nan))
    if found is None or math.isnan(effect):
        return math.inf
    beyond = pooled_requests(row) * (100 - int(found[2])) / 100
    return beyond / effect_of(found[1], effect)


def pooled_requests(row: Mapping[str, Any]) -> float:
    """Return how many measured requests all seeds of a point have together."""
    return float(row["measured_requests"]) * float(row["seeds"])


def support_notes(row: Mapping[str, Any], latencies: Mapping[str, str]) -> list[str]:
    """Say of each latency which percentiles rest on too little, and how much they would need.

    ``latencies`` are those of interest with their names for people.
    """
    load = float(row.get("load", math.nan))
    if math.isnan(float(row.get("design_effect", math.nan))):
        return []
    if not load < TOO_NEAR:
        return [TOO_NEAR_NOTE]
    notes = []
    for latency, name in latencies.items():
        metrics = {percent: f"{latency}_p{percent}_s" for percent in (50, 90, 95, 99)}
        thin = [p for p, m in metrics.items() if m in row and effective(row, m) < FIRM]
        if not thin:
            continue
        worst = max(thin)
        rests = effective(row, metrics[worst])
        need = needed(worst, effect_of(latency, float(row["design_effect"])))
        others = [f"p{percent}" for percent in thin if percent != worst]
        listed = " and ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
        notes.append(
            f"{name} p{worst} rests on {significant(rests, 2)}{RESTS_ON} "
            f"({pooled_requests(row):,.0f} requests at {load:.0%} load), "
            f"{significant(need, 2)} are needed{f' ({listed} too)' if others else ''}"
        )
    return notes
