"""How long the runs of a study have to be for the precision that it asks for: two stages.

A pilot shows how much figures vary; with the floor that the load asks for it fixes one length, and
the final runs report whatever that gives. Nobody looks at an interval to decide when to stop: that
picks the lucky narrow ones, and 95% intervals then hold the truth in 78% of all cases.

    floor   30 effective requests beyond the highest percentile asked for, and for each seed ten
            relaxation times where anything that waits is asked for (``reporting.support``)
    pilot   seeds x 4,000 requests, and at least a twentieth of the floor
    need    pilot x 1.5 x the largest (half-width / wanted)^2 over the figures asked for
    final   the larger of floor and need, at most ``precision.max_requests``

The pilot is the beginning of the final runs: same seeds, same draws.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from experiments.reporting.basis import Asked, Basis
from experiments.reporting.stats import summarise_points
from experiments.reporting.support import SHORT, Load, effect_of, needed
from experiments.reporting.verdict import criteria
from experiments.running.assemble import runs_table
from experiments.running.pooling import Spread, loads_of, pools_of, rates_of
from experiments.running.sweep import Run, runs_of
from experiments.study.document import Study
from experiments.study.points import Plan
from experiments.study.precision import PILOT, Precision
from model.dataclass import dataclass

SAFETY = 1.5
USUAL = ("ttft_p99_s", "tpot_p99_s", "request_throughput_per_s", "output_tokens_per_s")
QUEUEING = ("ttft", "queue", "e2e", "slo")

Simulate = Callable[[list[Run]], None]
"""Leaves the pieces of runs behind."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What was found for each point of a plan, by its number."""

    plan: Plan
    """With as many requests as were found."""
    loads: Mapping[int, Load | None] = field(default_factory=dict)
    asked: Mapping[int, Asked] = field(default_factory=dict)


def found_lengths(plan: Plan, folder: Path, simulate: Simulate, spread: Spread) -> Lengths:
    """Run the pilot of a plan that asks for a precision, and fix the length of its runs.

    Args:
        plan: of a study with ``precision``.
        folder: where finished runs are kept.
        simulate: runs what is unfinished of the pilot.
        spread: calls a function with many arguments, in several processes if there are.
    """
    precision = plan.study.precision
    assert precision is not None
    loads = loads_of(plan.points, spread)
    aims = {
        point.number: _Aim.of(point.study, precision, loads[point.number]) for point in plan.points
    }
    pilot = _with_requests(plan, {number: aim.pilot_each for number, aim in aims.items()})
    runs = runs_of(pilot, folder)
    simulate(runs)
    table = runs_table(pilot, runs)
    bases = [
        Basis(pool=pool, load=loads[point.number], offered=rates_of(point.study), pilot=True)
        for point, pool in zip(pilot.points, pools_of(runs), strict=True)
    ]
    summary = summarise_points(table, ["point"], bases=bases).rows()
    asked = {point.number: aims[point.number].asked(row)
             for point, row in zip(plan.points, summary, strict=True)}  # fmt: skip
    lengths = {number: one.requests // aims[number].seeds for number, one in asked.items()}
    return Lengths(_with_requests(plan, lengths), loads, asked)


def _with_requests(plan: Plan, lengths: Mapping[int, int]) -> Plan:
    points = []
    for point in plan.points:
        workload = point.study.workload.model_copy(update={"num_requests": lengths[point.number]})
        study = point.study.model_copy(update={"workload": workload})
        points.append(replace(point, study=study))
    return replace(plan, points=tuple(points))


@dataclass(frozen=True, slots=True)
class _Aim:
    """What one point is to reach."""

    metrics: tuple[str, ...]
    target: float
    required: Mapping[str, float]
    seeds: int
    floor: int
    """Requests in all."""
    least: int
    cap: int
    too_near: bool

    @classmethod
    def of(cls, study: Study, precision: Precision, load: Load | None) -> "_Aim":
        metrics = precision.metrics
        if metrics is None:
            metrics = (*(slo_metrics(study)), *USUAL)
        too_near = load is not None and load.too_near
        if too_near:
            metrics = tuple(m for m in metrics if not m.startswith(QUEUEING))
        effect = load.effect if load is not None and not too_near else 3.0
        measured = 1 - study.warmup_share
        needs = [needed(int(percent), effect_of(latency, effect)) / measured
                 for latency, percent in map(_percentile, metrics) if latency]  # fmt: skip
        if load is not None and any(metric.startswith(QUEUEING) for metric in metrics):
            needs.append(study.seeds * SHORT * load.relaxation / measured)
        asked = () if study.slo is None else criteria(study.slo)
        required = {each.metric: each.required for each in asked}
        shortest = study.workload.num_requests or PILOT
        return cls(
            tuple(dict.fromkeys(metrics)), precision.target, required, study.seeds,
            math.ceil(max(needs, default=0.0)), max(PILOT, shortest), precision.max_requests,
            too_near,
        )  # fmt: skip

    @property
    def pilot_each(self) -> int:
        """Requests of one seed in the pilot."""
        most = max(1, self.cap // self.seeds)
        return min(most, max(self.least, math.ceil(self.floor / 20 / self.seeds)))

    def asked(self, pilot: Mapping[str, Any]) -> Asked:
        """Return the length that the pilot's intervals ask for."""
        worst = max((self._excess(pilot, metric) for metric in self.metrics), default=0.0)
        pilots = self.pilot_each * self.seeds
        need = max(self.floor, math.ceil(pilots * SAFETY * worst**2), pilots)
        each = math.ceil(min(need, self.cap) / self.seeds)
        return Asked(self.target, self.metrics, each * self.seeds, need, self.required)

    def _excess(self, pilot: Mapping[str, Any], metric: str) -> float:
        """Half-width of a figure over what is wanted."""
        asked = Asked(self.target, self.metrics, 0, 0, self.required)
        excess = asked.half_width(pilot, metric) / asked.wanted(metric)
        return 0.0 if math.isnan(excess) else excess


def slo_metrics(study: Study) -> tuple[str, ...]:
    """Return the shares that decide whether a study's slo is kept."""
    return () if study.slo is None else tuple(each.metric for each in criteria(study.slo))


def _percentile(metric: str) -> tuple[str, str]:
    """Latency and percentile of a metric; empty texts if it is none."""
    found = re.fullmatch(r"(\w+)_p(\d+)_s", metric)
    return (found[1], found[2]) if found else ("", "0")
