"""From runs to points: means over seeds, 95% intervals, and differences paired by seed.

Runs of one point with different seeds are independent, so the error of a mean over seeds follows
from their spread, with Student's t; this holds for the mean of a percentile as well as for the mean
of a throughput (the independent replications of Law, "Simulation Modeling and Analysis", 5th ed.,
section 9.5.2). From that error ``intervals`` makes ends that the figure can have.
Runs of different points with the same seed share their random numbers, so their differences are
known better than either of them: ``paired_difference``.

Where every seed is run with several drawn calibrations (column ``draw``), an interval holds the
uncertainty of prices as well: ``crossed_interval``.

Sums are exactly rounded (``math.fsum``), so that results do not depend on the order of the runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

from experiments.reporting.intervals import (
    NONE,
    NORMAL_QUANTILE,
    EndsOf,
    positive_ends,
    real_ends,
    share_ends,
)
from experiments.reporting.student import t_quantile
from sim.caveats import caveats
from sim.hardware_use import COVERAGE
from sim.metrics import METRICS, POOL_SHARES

if TYPE_CHECKING:
    from pandas import DataFrame

    from hardware.calibration import Calibration

CONFIDENCE = 0.95
"""Probability that an interval holds the mean that infinitely many seeds would have."""

WITHOUT_INTERVAL = (
    "requests", "measured_requests", "saturated", "step_tokens_max", "step_decodes_max",
    "context_tokens_max", "usd_per_hour",
)  # fmt: skip
"""Metrics that are settings, extremes or verdicts, not estimates."""

SHARES = (
    "slo_attainment", "slo_met", "kv_use_mean", "kv_use_max", "prefix_cache_hit_rate", "busy_share",
    "mfu", "mbu", "share_steps_outside_calibration", *POOL_SHARES,
)  # fmt: skip
"""Metrics within 0 to 1; all others of ``sim.metrics.METRICS`` are not negative."""

TRIALS = {"slo_attainment": "measured_requests"}
"""Shares of things that are counted, and the metric that counts them."""

PART_OF = {"goodput_per_s": "request_throughput_per_s"}
"""Metrics that another one bounds in every run, and so at the upper end of the interval."""


def summarise_points(
    runs: "DataFrame",
    keys: Sequence[str],
    metrics: Sequence[str] | None = None,
    calibrations: "Sequence[Calibration | None] | None" = None,
) -> "DataFrame":
    """One row per point: its ``keys``, the number of ``seeds``, and each metric's mean over them.

    ``runs`` has one row per (point, seed) with the columns ``keys``, ``seed`` and metrics (by
    default those of ``sim.metrics.METRICS`` that it has, in that order). A metric is followed by
    ``<metric>_lo`` and ``<metric>_hi``, both NaN when there is no interval (``mean_interval``):
    Wilson's for ``SHARES``, positive ends for other metrics, symmetric ones for columns that are
    no metrics.
    With a column ``draw`` there is one row per (point, draw, seed), the result has the number of
    ``draws``, and intervals are ``crossed_interval``'s. The last column, ``notes``, holds the
    caveats of the worst run, with those about ``calibrations`` (one per point, or None). Points
    keep the order of their first run.

    Raises:
        ValueError: a key or metric is not a column, a point has one seed twice (in one draw), or
            draws do not all have the same seeds.
    """
    import pandas as pd

    names = list(metrics) if metrics is not None else [name for name in METRICS if name in runs]
    _require(runs, [*keys, *names, "seed"])
    rows = []
    for number, group in enumerate(_points(runs, keys).values()):
        row: dict[str, object] = {key: group[key].iloc[0] for key in keys}
        if "draw" in group:
            row["draws"] = group["draw"].nunique()
        row["seeds"] = group["seed"].nunique()
        for name in names:
            mean, low, high = _interval(group, name)
            if PART_OF.get(name) in group:
                high = min(high, _interval(group, PART_OF[name])[2])
            row[name] = mean
            if name not in WITHOUT_INTERVAL:
                row[f"{name}_lo"], row[f"{name}_hi"] = low, high
        about = calibrations[number] if calibrations is not None else None
        row["notes"] = "; ".join(_caveats(group, about))
        rows.append(row)
    return pd.DataFrame(rows)


def mean_interval(
    values: Iterable[float], confidence: float = CONFIDENCE, ends: EndsOf = real_ends
) -> tuple[float, float, float]:
    """Mean of independent ``values``, and the ends of its interval, in their unit.

    ``ends`` makes them from the mean, its standard error and a quantile of Student's t: see
    ``intervals``. They are NaN when they would claim what is not known: of one value,
    of values that are not finite, and, unless trials were counted, of equal values (to 9 digits),
    in which the seeds left no trace. One NaN makes the mean NaN.

    Raises:
        ValueError: there is no value.
    """
    sample = [float(value) for value in values]
    count = len(sample)
    if not count:
        raise ValueError("values is empty, expected at least one")
    mean = math.fsum(sample) / count
    if count < 2 or not math.isfinite(mean):
        return mean, *NONE
    alike = math.isclose(min(sample), max(sample))
    error = 0.0 if alike else math.sqrt(_variance(sample, mean) / count)
    return mean, *_ends(mean, error, count - 1, confidence, ends)


def crossed_interval(
    values: Sequence[Sequence[float]],
    confidence: float = CONFIDENCE,
    ends: EndsOf = real_ends,
) -> tuple[float, float, float]:
    """Mean of ``values[draw][seed]`` and the ends of an interval for the true value.

    Every draw of the prices is run with the same seeds. More seeds average the traffic's
    randomness out; more draws do not average the prices' error out, since the true prices are
    one draw more, which nobody has seen. So the variance of (true value - mean) is that of a
    prediction over draws and that of an estimate over seeds:

        (1 + 1 / draws) * variance of the draws' means + variance of the seeds' means / seeds

    with Satterthwaite's degrees of freedom (Biometrics Bulletin 2(6), 1946) for Student's t. The
    draws' means share their seeds, so what a seed does to all draws is counted once. What a draw
    and a seed do only together is counted in both terms: the interval is a little too wide, not
    too narrow. With one seed the interval is that of the prices only; with one draw there is none,
    as in the other cases of ``mean_interval``.

    Raises:
        ValueError: there is no value, or draws have different numbers of seeds.
    """
    table = [[float(value) for value in row] for row in values]
    draws, seeds = len(table), len(table[0]) if table else 0
    if not seeds or any(len(row) != seeds for row in table):
        raise ValueError(
            f"values has rows of {[len(row) for row in table]}, expected at least one draw, each "
            "with the same seeds"
        )
    every = [value for row in table for value in row]
    mean = math.fsum(every) / len(every)
    if draws < 2 or not math.isfinite(mean):
        return mean, *NONE
    alike = math.isclose(min(every), max(every))
    of_draws = [math.fsum(row) / seeds for row in table]
    of_seeds = [math.fsum(column) / draws for column in zip(*table, strict=True)]
    prices = 0.0 if alike else _variance(of_draws, mean) * (1 + 1 / draws)
    traffic = _variance(of_seeds, mean) / seeds if seeds > 1 and not alike else 0.0
    total = prices + traffic
    freedom = 1.0
    if total:
        freedom = total**2 / (prices**2 / (draws - 1) + traffic**2 / max(1, seeds - 1))
    return mean, *_ends(mean, math.sqrt(total), freedom, confidence, ends)


def _ends(
    mean: float, error: float, freedom: float, confidence: float, ends: EndsOf
) -> tuple[float, float]:
    """Ends from an error with so many degrees of freedom; an error of 0 was not estimated."""
    quantile = t_quantile((1 + confidence) / 2, freedom) if error else NORMAL_QUANTILE
    return ends(mean, error, quantile)


def _variance(sample: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)


def _interval(runs: "DataFrame", metric: str) -> tuple[float, float, float]:
    """Interval of one point: over seeds, or over draws and seeds where there are draws."""
    ends = _ends_of(runs, metric)
    if "draw" not in runs:
        return mean_interval(runs[metric], ends=ends)
    table: dict[object, dict[object, float]] = {}
    columns = (runs[name].tolist() for name in ("draw", "seed", metric))
    for draw, seed, value in zip(*columns, strict=True):
        table.setdefault(draw, {})[seed] = value
    seeds = sorted(set(runs["seed"].tolist()))
    for draw, row in table.items():
        if len(row) != len(seeds):
            raise ValueError(f"draw {draw} has seeds {sorted(map(str, row))}, expected {seeds}")
    return crossed_interval([[row[seed] for seed in seeds] for row in table.values()], ends=ends)


def _ends_of(runs: "DataFrame", metric: str) -> EndsOf:
    """Return how the ends of a metric's interval are made; draws have their requests in common."""
    if metric not in METRICS and metric not in POOL_SHARES:
        return real_ends
    if metric not in SHARES:
        return positive_ends
    trials = TRIALS.get(metric)
    if trials is None or trials not in runs:
        return share_ends
    draws = runs["draw"].nunique() if "draw" in runs else 1
    return partial(share_ends, trials=float(runs[trials].sum()) / draws)


def paired_difference(
    runs: "DataFrame", keys: Sequence[str], metric: str, baseline: Mapping[str, object]
) -> "DataFrame":
    """Difference of each point's ``metric`` from the baseline's, paired by seed.

    Points share the random numbers of a seed, so what a seed does to both cancels; and, where
    there are draws, their prices, so that an error common to both cancels, too. Returns the
    columns ``keys``, ``seeds``, ``difference`` (point minus baseline, the metric's unit),
    ``difference_lo`` and ``difference_hi`` (95% Student t); a difference is significant when its
    interval excludes 0. The baseline's own row is exactly 0.

    Raises:
        ValueError: a column is missing, no point has the baseline's keys, or seeds do not match.
    """
    import pandas as pd

    _require(runs, [*keys, metric, "seed"])
    points = _points(runs, keys)
    wanted = _identity([baseline.get(key) for key in keys])
    if wanted not in points:
        raise ValueError(
            f"baseline = {dict(baseline)} is no point of the sweep, expected one of "
            f"{[dict(zip(keys, point, strict=True)) for point in points]}"
        )
    pair = _pair(runs)
    base = points[wanted].set_index(pair)[metric]
    rows = []
    for group in points.values():
        values = group.set_index(pair)[metric]
        if sorted(values.index) != sorted(base.index):
            raise ValueError(
                f"seeds {sorted(values.index)} of a point differ from the baseline's "
                f"{sorted(base.index)}, expected the same"
            )
        difference = group[pair].assign(difference=(values - base.loc[values.index]).to_numpy())
        mean, low, high = _interval(difference, "difference")
        row: dict[str, object] = {key: group[key].iloc[0] for key in keys}
        row |= {"seeds": group["seed"].nunique(), "difference": mean}
        rows.append(row | {"difference_lo": low, "difference_hi": high})
    return pd.DataFrame(rows)


def _points(runs: "DataFrame", keys: Sequence[str]) -> "dict[tuple[str, ...], DataFrame]":
    """Runs by point, in the order of their first runs; keys may be missing (NaN) or mappings."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for place in range(len(runs)):
        rows.setdefault(_identity(runs[key].iloc[place] for key in keys), []).append(place)
    points = {identity: runs.iloc[places] for identity, places in rows.items()}
    for identity, group in points.items():
        again = group.duplicated(_pair(runs))
        if again.any():
            twice = group["seed"][again].iloc[0]
            raise ValueError(f"seed {twice} occurs twice in point {identity}, expected once")
    return points


def _pair(runs: "DataFrame") -> list[str]:
    """Columns that name one run of a point, and its like at another."""
    return ["draw", "seed"] if "draw" in runs else ["seed"]


def _identity(values: Iterable[object]) -> tuple[str, ...]:
    """Text of the values; equal numbers have equal text, whatever their type."""
    return tuple(
        str(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else str(value)
        for value in values
    )


def _caveats(group: "DataFrame", calibration: "Calibration | None") -> list[str]:
    """Caveats of the worst run; none when the runs do not have the columns that they rest on."""
    lost = ("saturated", "unfinished", "rejected", "timed_out")
    if not {*lost, "measured_requests"} <= set(group):
        return []
    worst = {name: float(group[name].max()) for name in lost}
    worst |= {name: float(group[name].max()) for name in COVERAGE if name in group}
    worst["measured_requests"] = float(group["measured_requests"].min())
    return caveats(worst, calibration)


def _require(runs: "DataFrame", columns: Iterable[str]) -> None:
    for name in columns:
        if name not in runs:
            near = get_close_matches(name, map(str, runs.columns), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"runs has no column {name!r}{hint}")
