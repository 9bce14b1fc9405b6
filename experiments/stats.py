"""From runs to points: means over seeds, 95% intervals, and differences paired by seed.

Runs of one point with different seeds are independent, so a mean over seeds has a Student t
interval; this holds for the mean of a percentile as well as for the mean of a throughput (the
independent replications of Law, "Simulation Modeling and Analysis", 5th ed., section 9.5.2).
Runs of different points with the same seed share their random numbers, so their differences are
known better than either of them: ``paired_difference``.

Sums are exactly rounded (``math.fsum``), so that results do not depend on the order of the runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING

from sim.metrics import METRICS, caveats

if TYPE_CHECKING:
    from pandas import DataFrame

CONFIDENCE = 0.95
"""Probability that an interval holds the mean that infinitely many seeds would have."""

WITHOUT_INTERVAL = ("requests", "measured_requests", "saturated", "usd_per_hour")
"""Metrics that are settings or verdicts, not estimates."""


def summarise_points(
    runs: "DataFrame", keys: Sequence[str], metrics: Sequence[str] | None = None
) -> "DataFrame":
    """One row per point: its ``keys``, the number of ``seeds``, and each metric's mean over them.

    ``runs`` has one row per (point, seed) with the columns ``keys``, ``seed`` and metrics (by
    default those of ``sim.metrics.METRICS`` that it has, in that order). A metric is followed by
    ``<metric>_lo`` and ``<metric>_hi``, both NaN when there is no interval (``mean_interval``).
    The last column, ``notes``, holds the caveats of the worst seed. Points keep the order of their
    first run.

    Raises:
        ValueError: a key or metric is not a column, or a point has one seed twice.
    """
    import pandas as pd

    names = list(metrics) if metrics is not None else [name for name in METRICS if name in runs]
    _require(runs, [*keys, *names, "seed"])
    rows = []
    for group in _points(runs, keys).values():
        row: dict[str, object] = {key: group[key].iloc[0] for key in keys}
        row["seeds"] = len(group)
        for name in names:
            mean, low, high = mean_interval(group[name])
            row[name] = mean
            if name not in WITHOUT_INTERVAL:
                row[f"{name}_lo"], row[f"{name}_hi"] = low, high
        row["notes"] = "; ".join(_caveats(group))
        rows.append(row)
    return pd.DataFrame(rows)


def mean_interval(
    values: Iterable[float], confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Mean of independent ``values``, and the ends of its Student t interval, in their unit.

    The interval is NaN when it would claim what is not known: of one value, of values that are not
    finite, and of equal values (to 9 digits), in which the seeds left no trace. One NaN makes the
    mean NaN.

    Raises:
        ValueError: there is no value.
    """
    sample = [float(value) for value in values]
    count = len(sample)
    if not count:
        raise ValueError("values is empty, expected at least one")
    mean = math.fsum(sample) / count
    if count < 2 or not math.isfinite(mean) or math.isclose(min(sample), max(sample)):
        return mean, math.nan, math.nan
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in sample) / (count - 1)
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * math.sqrt(variance / count)
    return mean, mean - half, mean + half


def paired_difference(
    runs: "DataFrame", keys: Sequence[str], metric: str, baseline: Mapping[str, object]
) -> "DataFrame":
    """Difference of each point's ``metric`` from the baseline's, paired by seed.

    Points share the random numbers of a seed, so what a seed does to both cancels. Returns the
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
    base = points[wanted].set_index("seed")[metric]
    rows = []
    for group in points.values():
        values = group.set_index("seed")[metric]
        if sorted(values.index) != sorted(base.index):
            raise ValueError(
                f"seeds {sorted(values.index)} of a point differ from the baseline's "
                f"{sorted(base.index)}, expected the same"
            )
        mean, low, high = mean_interval(values - base.loc[values.index])
        row: dict[str, object] = {key: group[key].iloc[0] for key in keys}
        row |= {"seeds": len(group), "difference": mean}
        rows.append(row | {"difference_lo": low, "difference_hi": high})
    return pd.DataFrame(rows)


def _points(runs: "DataFrame", keys: Sequence[str]) -> "dict[tuple[str, ...], DataFrame]":
    """Runs by point, in the order of their first runs; keys may be missing (NaN) or mappings."""
    rows: dict[tuple[str, ...], list[int]] = {}
    for place in range(len(runs)):
        rows.setdefault(_identity(runs[key].iloc[place] for key in keys), []).append(place)
    points = {identity: runs.iloc[places] for identity, places in rows.items()}
    for identity, group in points.items():
        if group["seed"].duplicated().any():
            twice = group["seed"][group["seed"].duplicated()].iloc[0]
            raise ValueError(f"seed {twice} occurs twice in point {identity}, expected once")
    return points


def _identity(values: Iterable[object]) -> tuple[str, ...]:
    """Text of the values; equal numbers have equal text, whatever their type."""
    return tuple(
        str(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else str(value)
        for value in values
    )


def _caveats(group: "DataFrame") -> list[str]:
    """Caveats of the worst seed; none when the runs do not have the columns that they rest on."""
    lost = ("saturated", "unfinished", "rejected")
    if not {*lost, "measured_requests"} <= set(group):
        return []
    worst = {name: float(group[name].max()) for name in lost}
    return caveats({**worst, "measured_requests": float(group["measured_requests"].min())})


def _require(runs: "DataFrame", columns: Iterable[str]) -> None:
    for name in columns:
        if name not in runs:
            near = get_close_matches(name, map(str, runs.columns), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"runs has no column {name!r}{hint}")
