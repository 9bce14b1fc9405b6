"""How many requests a percentile rests on, as if they were independent, and how many it needs.

Near saturation requests are bad together: one busy period makes hundreds of them wait. So a
thousand requests at 90% load have ten in the tail beyond p99, and these are worth a twentieth of
one independent request. The design effect (Kish, "Survey Sampling", 1965, section 8.2) says how
much a tail's variance exceeds that of independent requests. Measured on three systems, it is at
most

    max(3, 2.2 max(1, dispersion of arrivals) / (1 - load)^2 / replicas)

for time to first token; load is the rate over what a short overload run shows
(``running.capacity``), so it is no random outcome of the runs that it judges. A router that looks
at no replica's load leaves each its own queue: there is nothing to divide by. Where a
replica's time per token is the matter it was 4 to 8 at every load. docs/statistics.md has the
measurements.

The same number of requests, not divided, is what a queue takes to forget how it was: its relaxation
time, which grows with 1 / (1 - load)^2 (Abate and Whitt, "Transient behavior of the M/M/1 queue",
Advances in Applied Probability 19(1), 1987). A run that begins empty and lasts a few of them has
seen neither a queue in its steady state nor what busy periods are like.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from experiments.reporting.quantities import significant
from model.dataclass import dataclass

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
BEYOND = 1.03
"""Load from which on a queue surely grows without end, whether or not a run lasts long enough to
show it: so much more than the capacity, which is known to 1.5%, is not got through."""
TOO_NEAR_NOTE = (
    "too near to capacity for any steady state figure of TTFT: TPOT and throughput are firm"
)
SHORT = 10.0
"""Relaxation times that each run has to be measured for. At 90% load ten seeds of a quarter and of
a half of it hold the mean TTFT in 73 and 81% of cases, and the share that keeps an SLO in 55 and
68%; from here on in 93 and 86%."""
TOO_SHORT = "too short for its load"
"""How the note about such runs begins."""
LOADED = ("capacity_per_s", "load", "design_effect", "relaxation_requests", "relaxation_s")
"""Columns of the summary that tell the load of a point."""
RESTS_ON = " independent requests of the tail"
"""In every note about a percentile that rests on too little."""


@dataclass(frozen=True, slots=True)
class Load:
    """How near a point is to what it can serve."""

    rate_per_s: float
    capacity_per_s: float
    dispersion: float
    """Of its arrivals, 1 for Poisson: ``workloads.steady``."""
    replicas: int
    shared: bool = True
    """Whether its router sees which replica has room, so that all of them share one queue."""

    @property
    def share(self) -> float:
        """Rate over capacity."""
        return self.rate_per_s / self.capacity_per_s

    @property
    def effect(self) -> float:
        """Design effect of the tail of time to first token; infinite at capacity and beyond."""
        return max(LEAST_EFFECT, self._waiting / (self.replicas if self.shared else 1))

    @property
    def relaxation(self) -> float:
        """Requests that come while the queue forgets its start; infinite at capacity and beyond."""
        return max(LEAST_EFFECT, self._waiting) * (1 if self.shared else self.replicas)

    @property
    def _waiting(self) -> float:
        """That of one queue."""
        room = 1 - self.share
        return AT_FULL_LOAD * max(1.0, self.dispersion) / room**2 if room > 0 else math.inf

    @property
    def beyond(self) -> bool:
        """Whether the queue grows without end."""
        return self.share >= BEYOND

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
    found, effect = _percentile(metric), float(row.get("design_effect", math.nan))
    if found is None or math.isnan(effect):
        return math.inf
    latency, percent = found
    return pooled_requests(row) * (100 - percent) / 100 / effect_of(latency, effect)


@cache
def _percentile(metric: str) -> tuple[str, int] | None:
    """Of which latency a metric is which percentile; None: it is none."""
    found = re.fullmatch(r"(ttft|queue|e2e|tpot|itl)_p(\d+)_s", metric)
    return None if found is None else (found[1], int(found[2]))


def pooled_requests(row: Mapping[str, Any]) -> float:
    """Return how many measured requests all seeds of a point have together."""
    return float(row["measured_requests"]) * float(row["seeds"])


def relaxations(row: Mapping[str, Any]) -> float:
    """Return for how many relaxation times each run of a point is measured; NaN if not known."""
    return float(row.get("measured_requests", math.nan)) / float(
        row.get("relaxation_requests", math.nan)
    )


def too_short(row: Mapping[str, Any]) -> bool:
    """Tell whether the runs of a point are too short for their load; not where it has none.

    From ``TOO_NEAR`` on no run would do, which is told apart.
    """
    return float(row.get("load", math.nan)) < TOO_NEAR and relaxations(row) < SHORT


def short_note(row: Mapping[str, Any]) -> str:
    """Say how short the runs of a point are for its load, and what would do."""
    forgets = float(row["relaxation_requests"])
    asked = math.ceil(SHORT * forgets * row["requests"] / row["measured_requests"])
    return (
        f"{TOO_SHORT}: at {row['load']:.0%} of capacity a queue forgets its start after "
        f"{significant(forgets, 2)} requests ({significant(row['relaxation_s'], 2)} s), and each "
        f"run measures {significant(relaxations(row), 2)} times that: TTFT, E2E and the share that "
        "keeps the slo come out too good, and their intervals too narrow, "
        f"{significant(asked, 2)} requests per seed would do (or precision: 10%)"
    )


def support_notes(row: Mapping[str, Any], latencies: Mapping[str, str]) -> list[str]:
    """Say of each latency which percentiles rest on too little, and how much they would need.

    ``latencies`` are those of interest with their names for people.
    """
    load = float(row.get("load", math.nan))
    if math.isnan(float(row.get("design_effect", math.nan))):
        return []
    if not load < TOO_NEAR:
        return [] if float(row.get("saturated", 0.0)) > 0 else [TOO_NEAR_NOTE]
    notes = [short_note(row)] if too_short(row) else []
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
