"""From runs to points: estimates over seeds, 95% intervals, and differences paired by seed.

Runs of one point with different seeds are independent (the replications of Law, "Simulation
Modeling and Analysis", 5th ed., section 9.5.2):

- a percentile is that of all their requests together, with an interval from the spread of the
  seeds' own about it (``intervals.sectioned_ends``), shown where enough of the tail is independent
  (``support``);
- a share has Wilson's interval with as many trials as its spread over seeds is worth;
- means and rates have Student's t over seeds. What is served below saturation is what came, so the
  luck of the arrivals is subtracted from rates (a control variate; its coefficient is the share of
  what comes that is served, 1 where nobody gives up or is turned away).

Runs of different points with the same seed share their random numbers, so their differences are
known better than either of them: ``paired_difference``.

Where every seed is run with several drawn calibrations (column ``draw``), an interval holds the
uncertainty of prices as well: ``means.crossed_interval``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from experiments.reporting.basis import Basis
from experiments.reporting.intervals import (
    NONE,
    NORMAL_QUANTILE,
    EndsOf,
    positive_ends,
    real_ends,
    sectioned_ends,
    share_ends,
)
from experiments.reporting.means import CONFIDENCE, crossed_interval, mean_interval
from experiments.reporting.records import Records
from experiments.reporting.run_rows import Columns, points_of, require
from experiments.reporting.spread import spread_notes
from experiments.reporting.support import (
    LOADED,
    THIN,
    Load,
    effect_of,
    effective,
    support_notes,
)
from experiments.reporting.verdict import verdict, window_notes
from sim.measuring.caveats import caveats
from sim.measuring.hardware_use import COVERAGE
from sim.measuring.metrics import ALL_METRICS, POOL_SHARES
from sim.measuring.slo import SHARE, WINDOWS, percentile_limits
from sim.measuring.transfer_use import TRANSFER_METRICS

Floats = npt.NDArray[np.float64]

WITHOUT_INTERVAL = (
    "requests", "measured_requests", "saturated", "step_tokens_max", "step_decodes_max",
    "context_tokens_max", "gpus", "slo_windows", "worst_hour",
    "worst_hour_missed", "usd_per_hour",
)  # fmt: skip
"""Metrics that are settings, extremes or verdicts, not estimates."""

SHARES = (
    "slo_attainment", "slo_met", "kv_use_mean", "kv_use_max", "prefix_cache_hit_rate",
    "prefix_cache_hit_rate_min", "prefix_cache_hit_rate_max", "claimed_hit_rate",
    "request_share_max", "busy_share", "mfu", "mbu", "share_steps_outside_calibration",
    *POOL_SHARES, "host_cache_hit_rate",
    "store_cache_hit_rate", "store_read_share", "store_write_share", "store_read_stall_share",
    "store_use", "host_cache_use", "host_link_in_share", "host_link_out_share", "transfer_share",
    "leased_share",
)  # fmt: skip
"""Metrics within 0 to 1; all others of ``sim.measuring.metrics.ALL_METRICS`` are not negative."""

TRIALS = {"slo_attainment": "measured_requests", "slo_windows_kept": "slo_windows"}
"""Shares of things that are counted, and the metric that counts them."""

BOUNDED = frozenset((*ALL_METRICS, *TRIALS, *POOL_SHARES, *TRANSFER_METRICS))
"""Metrics of which it is known that they are shares, or not negative."""

CONTROLLED = {
    "request_throughput_per_s": "request_throughput_per_s",
    "goodput_per_s": "request_throughput_per_s",
    "output_tokens_per_s": "output_tokens_per_s",
    "usd_per_million_output_tokens": "output_tokens_per_s",
}
"""Rates that arrivals decide below saturation, and which of ``Basis.offered`` is theirs."""

PART_OF = {"goodput_per_s": "request_throughput_per_s"}
"""Metrics that another one bounds in every run, and so at the upper end of the interval."""


LOST = ("rejected", "timed_out", "unfinished")
"""Requests that come and are not served, or not to their end."""
LAST = ("slo_verdict", "slo_binds", "notes")
"""Columns behind those of the metrics."""
QUEUEING = ("ttft", "queue", "e2e")
"""Latencies that have no steady state at capacity."""
NAMED = {"ttft": "TTFT", "tpot": "TPOT"}
"""Latencies whose percentiles notes speak of; of E2E as well where the slo limits one."""
BATCHES_NOTE = "one run in 10 pieces: intervals of percentiles are too narrow near saturation"


def summarise_points(
    runs: Records,
    keys: Sequence[str],
    metrics: Sequence[str] | None = None,
    bases: Sequence[Basis] | None = None,
) -> Records:
    """One row per point: its ``keys``, the number of ``seeds``, and each metric's estimate.

    ``runs`` has one row per (point, seed) with the columns ``keys``, ``seed`` and metrics (by
    default those of ``sim.measuring.metrics.ALL_METRICS`` that it has, in order). Behind one are
    ``<metric>_lo`` and ``<metric>_hi``, both NaN when there is no interval. ``bases`` holds what is
    known of each point beside its runs: with it come pooled percentiles, controlled rates and the
    columns of ``LOADED``; without, percentiles are means of
    the seeds' own. With a column ``draw`` there is one row per (point, draw, seed), the result has
    the number of ``draws``, and intervals are ``crossed_interval``'s. The last column, ``notes``,
    holds the caveats of the worst run. Points keep the order of their first run.

    Raises:
        ValueError: a key or metric is not a column, a point has one seed twice (in one draw), or
            draws do not all have the same seeds.
    """
    names = list(metrics) if metrics is not None else _metrics_of(runs)
    judged = bases is not None and any(basis.slo for basis in bases)
    require(runs, [*keys, *names, "seed"])
    rows = []
    for number, group in enumerate(points_of(runs, keys).values()):
        row: dict[str, object] = {key: group[key][0] for key in keys}
        basis = Basis() if bases is None else bases[number]
        group = _with_saturation(group, basis.load)
        if "draw" in group:
            row["draws"] = len(set(group["draw"]))
        row["seeds"] = len(set(group["seed"]))
        if bases is not None:
            row |= _load_columns(basis)
        if basis.load is not None and "measured_requests" in group:
            row["measured_requests"] = mean_interval(group["measured_requests"])[0]
        for name in names:
            estimate = _estimate(group, name, basis, row)
            row[name] = estimate[0]
            if name not in WITHOUT_INTERVAL:
                row[f"{name}_lo"], row[f"{name}_hi"] = estimate[1:]
        if judged:
            row["slo_verdict"], row["slo_binds"] = _verdict(row, basis)
        row["notes"] = "; ".join(_notes(group, row, basis))
        rows.append(row)
    return Records.of(rows, _order(rows[0], names) if rows else ())


def _with_saturation(group: Columns, load: Load | None) -> Columns:
    """Say of runs that are too short to tell whether they are saturated what others do.

    That is their load; or other seeds, one of which is enough: see docs/output.md.
    """
    found = group.get("saturated", ())
    if not (load is not None and load.beyond) and not any(value > 0 for value in found):
        return group
    return {**group, "saturated": [1.0 if math.isnan(value) else value for value in found]}


def _metrics_of(runs: Records) -> list[str]:
    """Metrics that runs have: those of every run, and shares that keep one limit of the slo."""
    shares = [name for name in runs if name.endswith(SHARE) and name not in ALL_METRICS]
    judged = [name for name in WINDOWS if name in runs]
    return [*(name for name in ALL_METRICS if name in runs), *shares, *judged]


def _verdict(row: Mapping[str, object], basis: Basis) -> tuple[str, str]:
    return ("none", "none") if basis.slo is None else verdict(row, basis.slo, basis.exact)


def _order(row: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Columns in their order: those of metrics as in ``names``, the notes last."""
    known = {name: [each for each in (name, f"{name}_lo", f"{name}_hi") if each in row]
             for name in names}  # fmt: skip
    inside = {each for group in known.values() for each in group}
    first = [each for each in row if each not in (*inside, *LAST)]
    last = [each for each in LAST if each in row]
    return [*first, *(each for name in names for each in known[name]), *last]


def _load_columns(basis: Basis) -> dict[str, float]:
    load = basis.load
    if load is None:
        return dict.fromkeys(LOADED, math.nan)
    forgets = load.relaxation
    values = (
        load.capacity_per_s, load.share, load.effect, forgets, forgets / load.rate_per_s,
    )  # fmt: skip
    return dict(zip(LOADED, values, strict=True))


def _estimate(
    group: Columns, name: str, basis: Basis, row: Mapping[str, object]
) -> tuple[float, float, float]:
    """Estimate of one metric of one point, and the ends of its interval."""
    if basis.pool is not None and name in basis.pool.values:
        return _percentile(group, name, basis, row)
    group = _controlled(group, name, basis)
    mean, low, high = interval_of(group, name)
    if math.isnan(low) and name.endswith(SHARE):
        low, high = _of_one_run(group, name, basis, mean)
    if PART_OF.get(name) in group:
        whole = _controlled(group, PART_OF[name], basis)
        high = min(high, max(mean, interval_of(whole, PART_OF[name])[2]))
    return mean, low, high


def _of_one_run(group: Columns, name: str, basis: Basis, share: float) -> tuple[float, float]:
    """Ends for a share of one run, whose requests depend on each other as its load has it.

    However much they do, they are worth one trial together; at capacity nobody knows how many.
    """
    if basis.load is None or len(group["seed"]) > 1 or "measured_requests" not in group:
        return NONE
    effect = effect_of(name.split("_")[0], basis.load.effect)
    trials = float(group["measured_requests"][0]) / effect
    return share_ends(share, 0.0, NORMAL_QUANTILE, max(1.0, trials) if trials else 0.0)


def _percentile(
    group: Columns, name: str, basis: Basis, row: Mapping[str, object]
) -> tuple[float, float, float]:
    """The percentile of all requests; an interval where enough of them are independent."""
    assert basis.pool is not None
    value = basis.pool.values[name]
    too_near = basis.load is not None and basis.load.too_near
    thin = effective(row, name) < THIN and not basis.pilot
    if thin or (too_near and name.startswith(QUEUEING)):
        return value, *NONE
    if "draw" in group:
        logarithms = {**group, name: _logarithms(group[name])}
        _, low, high = interval_of(logarithms, name, real_ends)
        half = (high - low) / 2
        return (value, *NONE) if math.isnan(half) else (
            value, value * math.exp(-half), value * math.exp(half)
        )  # fmt: skip
    parts = list(group[name])
    parts = parts if len(parts) > 1 else basis.pool.batches.get(name, [])
    return value, *sectioned_ends(value, parts, CONFIDENCE)


def _logarithms(values: Iterable[float]) -> list[float]:
    return [math.log(value) if 0 < value < math.inf else math.nan for value in values]


def _controlled(group: Columns, name: str, basis: Basis) -> Columns:
    """Runs with a rate less the luck of its arrivals, where these decide what is served."""
    source, load = CONTROLLED.get(name), basis.load
    if source is None or source not in basis.offered or load is None or load.too_near:
        return group
    control, expected = basis.offered[source]
    if control not in group or name not in group:
        return group
    values, came = np.array(group[name]), np.array(group[control])
    luck = (came - expected) * _served_share(group, source, came)
    if name == "usd_per_million_output_tokens":
        tokens = np.array(group["output_tokens_per_s"])
        return {**group, name: (values * tokens / (tokens - luck)).tolist()}
    if name not in PART_OF:
        return {**group, name: (values - luck).tolist()}
    luck = (came - expected) * float(np.nanmean(group["slo_attainment"]))
    whole = _controlled(group, PART_OF[name], basis)
    return {**group, name: np.fmin(values - luck, whole.get(PART_OF[name], np.inf)).tolist()}


def _served_share(group: Columns, metric: str, came: Floats) -> float:
    """How much of what comes is served: all of it, unless requests are given up or turned away."""
    lost = (value for name in LOST if name in group for value in group[name])
    if metric not in group or not any(value > 0 for value in lost) or not came.sum() > 0:
        return 1.0
    return min(1.0, math.fsum(group[metric]) / math.fsum(came))


def interval_of(
    runs: Columns, metric: str, ends: EndsOf | None = None
) -> tuple[float, float, float]:
    """Interval of one point: over seeds, or over draws and seeds where there are draws."""
    if ends is None:
        ends = _ends_of(runs, metric) if len(runs[metric]) > 1 else real_ends  # one run has none
    if "draw" not in runs:
        return mean_interval(runs[metric], ends=ends)
    table: dict[object, dict[object, float]] = {}
    columns = (runs[name] for name in ("draw", "seed", metric))
    for draw, seed, value in zip(*columns, strict=True):
        table.setdefault(draw, {})[seed] = value
    seeds = sorted(set(runs["seed"]))
    for draw, row in table.items():
        if len(row) != len(seeds):
            raise ValueError(f"draw {draw} has seeds {sorted(map(str, row))}, expected {seeds}")
    return crossed_interval([[row[seed] for seed in seeds] for row in table.values()], ends=ends)


def is_share(metric: str) -> bool:
    """Tell whether a metric is within 0 to 1."""
    return metric in SHARES or metric in TRIALS or metric.endswith(SHARE)


def _ends_of(runs: Columns, metric: str) -> EndsOf:
    """Return how the ends of a metric's interval are made; draws have their requests in common."""
    if metric.endswith(SHARE):
        metric = "slo_attainment"
    if metric not in BOUNDED:
        return real_ends
    if not is_share(metric):
        return positive_ends
    trials = TRIALS.get(metric)
    if trials is None or trials not in runs:
        return share_ends
    draws = len(set(runs["draw"])) if "draw" in runs else 1
    return partial(share_ends, trials=float(np.nansum(runs[trials])) / draws)


def _notes(group: Columns, row: Mapping[str, object], basis: Basis) -> list[str]:
    """Caveats of the worst run; none when the runs do not have the columns that they rest on."""
    lost = ("saturated", "unfinished", "rejected", "timed_out")
    if not {*lost, "measured_requests"} <= set(group):
        return []
    worst = {name: _largest(group[name]) for name in (*lost, *COVERAGE) if name in group}
    if basis.load is None:
        requests = group["measured_requests"]
        pooled = float(sum(requests)) / (len(set(group["draw"])) if "draw" in group else 1)
        worst["measured_requests"] = float(min(requests)) if basis.pool is None else pooled
    length = group.get("requests", group["measured_requests"])  # which may not be shown
    known = {"requests": mean_interval(length)[0], **row}
    limited = {one.latency for one in percentile_limits(basis.slo)} if basis.slo else set()
    named = NAMED | {"e2e": "E2E"} if "e2e" in limited else NAMED
    notes = [*caveats(worst, basis.calibration), *support_notes(known, named)]
    notes += window_notes(row, basis.exact)
    if basis.asked is not None and (reached := basis.asked.note(row)):
        notes.append(reached)
    if "request_share_max" in group and "requests" in group:
        notes += spread_notes(group["request_share_max"], group["requests"], basis.alike)
    alone = basis.pool is not None and basis.pool.batches and len(group["seed"]) == 1
    return [*notes, BATCHES_NOTE] if alone else notes


def _largest(values: Sequence[float]) -> float:
    """NaN says nothing beside numbers."""
    return max((float(value) for value in values if not math.isnan(value)), default=math.nan)
