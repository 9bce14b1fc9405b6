"""What each point of a study changes against a baseline, and whether it is more than luck.

Points share the random numbers of a seed, and their prices where calibrations are drawn, so what
these do to both cancels. A difference is that of the two figures as they are shown (percentiles of
all seeds together, rates without what is known of their luck), with an interval from the seeds' own
differences about it; of a mean that is the paired t interval.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.intervals import real_ends
from experiments.reporting.limits import limited, with_limited
from experiments.reporting.records import Records
from experiments.reporting.run_rows import Columns, identity, pairs, points_of, require
from experiments.reporting.significance import Difference, holm, of_shares, sectioned
from experiments.reporting.stats import interval_of, is_share
from experiments.reporting.support import THIN, effective

SHOWN = (
    "ttft_p50_s", "ttft_p99_s", "itl_p99_s", "tpot_p50_s", "tpot_p99_s", "e2e_p50_s",
    "output_tokens_per_s", "goodput_per_s", "slo_attainment", "usd_per_million_output_tokens",
)  # fmt: skip
"""What a table of differences shows, and stars are about."""
COMPARED = (
    *SHOWN, "ttft_mean_s", "ttft_p90_s", "ttft_p95_s", "itl_mean_s", "tpot_mean_s", "tpot_p95_s",
    "e2e_mean_s", "e2e_p99_s", "queue_mean_s", "queue_p99_s", "request_throughput_per_s",
    "mean_batch_size", "kv_use_mean", "busy_share", "preemptions",
)  # fmt: skip
"""Metrics of differences.csv."""
QUEUEING = ("ttft", "e2e", "queue")
FEWEST_SEEDS = 3
"""With fewer the spread of a difference is not known."""
LESS_NOISE = 10.0
"""Pairing is worth so many times the requests, for the p99 of TTFT; more for other figures."""


def differences_table(
    runs: Records, summary: Records, keys: Sequence[str], baselines: Mapping[int, int]
) -> Records:
    """Return one row per point and metric: its difference from the baseline of that point.

    Args:
        runs: one row per run, ``point`` among its columns.
        summary: one row per point, in the same order.
        keys: the swept keys.
        baselines: number of a point to that of the point that it is compared with.

    Columns: ``point``, the keys, ``baseline``, ``metric``, ``value``, ``baseline_value``,
    ``difference`` and its 95% interval, ``relative`` (over the baseline), ``p_value`` and
    ``starred``: 1 where it stands out among all of ``SHOWN`` that a table shows, else 0 (Holm).
    Percentiles that the slo limits are told and shown as well.
    """
    by_point = {int(group["point"][0]): group for group in points_of(runs, ["point"]).values()}
    compared = list(dict.fromkeys((*COMPARED, *limited(summary))))
    shown = with_limited(SHOWN, summary)
    of_point = {int(row["point"]): row for row in summary.rows()}
    rows = []
    for number, base in baselines.items():
        if number == base:
            continue
        known = [metric for metric in compared if metric in runs]
        gaps = _gaps(by_point[number], by_point[base], known)
        for metric in compared:
            if metric in summary:
                found = _difference(gaps, of_point[number], of_point[base], metric)
                found = of_shares(found) if is_share(metric) else found
                rows.append(_row(of_point[number], of_point[base], keys, metric, found))
    stars = holm([row["p_value"] if row["metric"] in shown else math.nan for row in rows])
    for row, starred in zip(rows, stars, strict=True):
        row["starred"] = int(starred)
    return Records.of(rows)


def _row(
    row: Mapping[str, Any], base: Mapping[str, Any], keys: Sequence[str], metric: str,
    found: Difference,
) -> dict[str, Any]:  # fmt: skip
    before = float(base[metric])
    return {
        "point": row["point"], **{key: row[key] for key in keys}, "baseline": base["point"],
        "metric": metric, "value": float(row[metric]), "baseline_value": before,
        "difference": found.value, "difference_lo": found.low, "difference_hi": found.high,
        "relative": found.value / before if before else math.nan, "p_value": found.p_value,
    }  # fmt: skip


def _gaps(runs: Columns, base_runs: Columns, metrics: Sequence[str]) -> Columns | None:
    """Differences of metrics, run by run; None if the points have different seeds or draws."""
    own, base = pairs(runs), {pair: place for place, pair in enumerate(pairs(base_runs))}
    if len(own) != len(base) or not all(pair in base for pair in own):
        return None
    places = [base[pair] for pair in own]
    gaps = {
        metric: [
            after - base_runs[metric][place]
            for after, place in zip(runs[metric], places, strict=True)
        ]
        for metric in metrics
    }
    return {**{name: runs[name] for name in ("draw", "seed") if name in runs}, **gaps}


def _difference(
    gaps: Columns | None, row: Mapping[str, Any], base: Mapping[str, Any], metric: str
) -> Difference:
    """Difference of a metric; without interval where a tail is too thin or never comes to rest."""
    if gaps is None:
        return Difference(float(row[metric]) - float(base[metric]))
    parts = list(gaps[metric])
    whole = float(row[metric]) - float(base[metric]) if any(parts) else 0.0
    if "draw" in gaps:  # its p value is not computed, the interval tells
        mean, low, high = interval_of(gaps, metric, real_ends)
        return Difference(whole, low - mean + whole, high - mean + whole)
    if any(parts) and (len(parts) < FEWEST_SEEDS or _is_open(row, base, metric)):
        return Difference(whole)
    return sectioned(whole, parts)


def _is_open(row: Mapping[str, Any], base: Mapping[str, Any], metric: str) -> bool:
    """Tell whether a tail is too thin for an interval, or never comes to rest."""
    unsteady = metric.startswith(QUEUEING) and max(row["saturated"], base["saturated"]) > 0
    return unsteady or min(effective(each, metric) for each in (row, base)) * LESS_NOISE < THIN


def paired_difference(
    runs: Records, keys: Sequence[str], metric: str, baseline: Mapping[str, object]
) -> Records:
    """Difference of each point's ``metric`` from the baseline's, paired by seed.

    Points share the random numbers of a seed, so what a seed does to both cancels; and, where
    there are draws, their prices, so that an error common to both cancels, too. Returns the
    columns ``keys``, ``seeds``, ``difference`` (point minus baseline, the metric's unit),
    ``difference_lo`` and ``difference_hi`` (95% Student t); a difference is significant when its
    interval excludes 0. The baseline's own row is exactly 0.

    Raises:
        ValueError: a column is missing, no point has the baseline's keys, or seeds do not match.
    """
    require(runs, [*keys, metric, "seed"])
    points = points_of(runs, keys)
    wanted = identity([baseline.get(key) for key in keys])
    if wanted not in points:
        raise ValueError(
            f"baseline = {dict(baseline)} is no point of the sweep, expected one of "
            f"{[dict(zip(keys, point, strict=True)) for point in points]}"
        )
    base = points[wanted]
    rows = []
    for group in points.values():
        gaps = _gaps(group, base, [metric])
        if gaps is None:
            raise ValueError(
                f"seeds {sorted(set(group['seed']))} of a point differ from the baseline's "
                f"{sorted(set(base['seed']))}, expected the same"
            )
        mean, low, high = interval_of(gaps, metric, real_ends)
        if is_share(metric):
            cut = of_shares(Difference(mean, low, high))
            low, high = cut.low, cut.high
        row: dict[str, object] = {key: group[key][0] for key in keys}
        row |= {"seeds": len(set(group["seed"])), "difference": mean}
        rows.append(row | {"difference_lo": low, "difference_hi": high})
    return Records.of(rows)
