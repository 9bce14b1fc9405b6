"""All requests of all runs of a point together: their percentiles, and the load they came with.

The percentile of a point is that of every measured request of every seed, not the mean of the
seeds' percentiles, which is biased as long as a seed is short.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.basis import Pooled
from experiments.reporting.records import Records
from experiments.reporting.support import LEAST_EFFECT, THIN, Load, needed
from experiments.running.capacity import capacity_per_s
from experiments.running.pieces import read_columns, read_piece
from experiments.running.sweep import Run
from experiments.study.build import looks_at_nothing
from experiments.study.document import Study
from experiments.study.points import Plan, Point
from sim.measuring.bins import binned_percentiles
from sim.measuring.latencies import COLUMNS, SPANS, latency
from sim.measuring.percentiles import PERCENTS, percentiles
from sim.settings.pools import numbers_of
from workloads.steady import mean_output_tokens, steady

Spread = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]]
"""Calls a function with each of many arguments, in any order; gives what it returned."""
Floats = npt.NDArray[np.float64]

BATCHES = 10
"""Pieces of a single run, in place of seeds."""
LEAST_OF_A_BATCH = 100
"""Requests; shorter ones say nothing of each other."""


def pools_of(runs: Sequence[Run]) -> Iterator[Pooled]:
    """Pool the runs of each point; they lie point by point."""
    for _, group in groupby(runs, lambda run: run.point):
        yield pool(list(group))


def pool(runs: Sequence[Run], place: int | None = None) -> Pooled:
    """Pool the finished runs of one point; ``place``: of one pool of replicas alone."""
    pieces = [read_piece(run.path) for run in runs]
    found = [piece.metrics if place is None else piece.pools[place] for piece in pieces]
    if len(runs) == 1:  # what it has measured itself
        values = {name: found[0][name] for name in _names((*SPANS, "itl"))}
        alone = not runs[0].study.workload.has_clock and _fills_batches(found[0])
        return Pooled(values, _batches(_samples(runs, place)) if alone else {})
    values = {}
    for name, sample in _samples(runs, place).items():
        values |= _named(name, percentiles(_defined(sample)))
    gaps: dict[int, int] = {}
    for piece in pieces:
        for number, count in (piece.gaps if place is None else piece.pool_gaps[place]).items():
            gaps[number] = gaps.get(number, 0) + count
    for name, value in _named("itl", binned_percentiles(gaps)).items():
        seeds = [metrics[name] for metrics in found]  # what is pooled lies between them
        values[name] = min(max(value, min(seeds)), max(seeds))
    return Pooled(values)


def _samples(runs: Sequence[Run], place: int | None) -> dict[str, Floats]:
    """Every latency of the measured requests of several runs, one after the other."""
    columns = [_columns(run, place) for run in runs]
    return {name: np.concatenate([latency(each, name) for each in columns]) for name in SPANS}


def _fills_batches(metrics: Mapping[str, float]) -> bool:
    """Tell whether a run may have enough requests to be cut into pieces."""
    counted = metrics["measured_requests"] + metrics["rejected"] + metrics["timed_out"]
    return counted >= BATCHES * LEAST_OF_A_BATCH


def _columns(run: Run, place: int | None) -> dict[str, npt.NDArray[np.generic]]:
    """The measured requests of a run, or of one pool of replicas, in order of arrival."""
    known = dict(read_columns(run.path, ("measured", "replica", "arrival_s")))
    measured = known["measured"] > 0
    if place is not None:
        own = numbers_of(pool.all_ranks for pool in run.study.cluster.all_pools)[place]
        measured &= (known["replica"] >= own.start) & (known["replica"] < own.stop)
    kept = np.flatnonzero(measured)
    kept = kept[np.argsort(known["arrival_s"][kept], kind="stable")]
    names = (*COLUMNS, "output_tokens")
    return {name: values[kept] for name, values in read_columns(run.path, names)}


def _batches(samples: Mapping[str, Floats]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, sample in samples.items():
        if len(sample) < BATCHES * LEAST_OF_A_BATCH:
            continue
        for part in np.array_split(sample, BATCHES):
            for metric, value in _named(name, percentiles(_defined(part))).items():
                found.setdefault(metric, []).append(value)
    return found


def _defined(sample: Floats) -> Floats:
    return sample[~np.isnan(sample)]


def _named(latency: str, values: "Sequence[float] | Floats") -> dict[str, float]:
    return dict(zip(_names((latency,)), map(float, values), strict=True))


def _names(latencies: Iterable[str]) -> list[str]:
    return [f"{latency}_p{percent}_s" for latency in latencies for percent in PERCENTS]


def loaded_points(plan: Plan, table: Records) -> list[Point]:
    """Return the points of which it matters what their load is.

    That is where arrivals have a steady state that the point could hold, and enough of them for any
    percentile at all.
    """
    runs: dict[int, list[tuple[float, float]]] = {point.number: [] for point in plan.points}
    columns = (table[name] for name in ("point", "measured_requests", "saturated"))
    for number, measured, saturated in zip(*columns, strict=True):
        runs[number].append((measured, saturated))
    found = []
    for point in plan.points:
        own = runs[point.number]
        requests = float(sum(measured for measured, _ in own)) / len(point.draws)
        enough = requests >= needed(50, LEAST_EFFECT, THIN)
        if enough and not any(saturated > 0 for _, saturated in own):
            found.append(point)
    return found


def loads_of(points: Sequence[Point], spread: Spread) -> dict[int, Load | None]:
    """Return the load of each point by its number; ``spread`` may use several processes."""
    return dict(spread(_numbered_load, [(point.number, point.study) for point in points]))


def _numbered_load(number: int, study: Study) -> tuple[int, Load | None]:
    return number, load_of(study)


def load_of(study: Study) -> Load | None:
    """Return the load of a point whose arrivals have a steady state; simulates a short overload.

    None for sessions: how many of their turns come in a second depends on the answers.
    """
    arrivals = steady(study.workload.arrivals)
    if arrivals is None or study.workload.sessions is not None:
        return None
    capacity = capacity_per_s(study)
    return Load(
        arrivals.rate_per_s, capacity, arrivals.dispersion, study.cluster.all_replicas,
        shared=not looks_at_nothing(study),
    )  # fmt: skip


def rates_of(study: Study) -> dict[str, tuple[str, float]]:
    """Return what the traffic of a point offers: by rate the metric of a run, and its expectation.

    Below saturation what is served is what comes, so most of its noise is that of the arrivals.
    """
    arrivals, lengths = steady(study.workload.arrivals), study.workload.lengths
    if arrivals is None or lengths is None or study.workload.sessions is not None:
        return {}
    tokens = arrivals.rate_per_s * mean_output_tokens(lengths)
    return {
        "request_throughput_per_s": ("offered_per_s", arrivals.rate_per_s),
        "output_tokens_per_s": ("offered_output_tokens_per_s", tokens),
    }
