"""Differences in a terminal: one row per point, against its baseline."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reporting.differences import SHOWN
from experiments.reporting.figure_layout import said
from experiments.reporting.grid import Grid
from experiments.reporting.limits import with_limited
from experiments.reporting.quantities import DASH, significant
from experiments.reporting.records import Records
from experiments.reporting.stats import is_share
from experiments.reporting.terminal import Screen
from experiments.study.points import Plan

HEADINGS = {
    "ttft_p50_s": ("TTFT p50 ms", 1e3),
    "ttft_p99_s": ("TTFT p99 ms", 1e3),
    "itl_p99_s": ("ITL p99 ms", 1e3),
    "tpot_p50_s": ("TPOT p50 ms", 1e3),
    "tpot_p99_s": ("TPOT p99 ms", 1e3),
    "e2e_p50_s": ("E2E p50 ms", 1e3),
    "output_tokens_per_s": ("output tokens/s", 1.0),
    "goodput_per_s": ("goodput/s", 1.0),
    "slo_attainment": ("SLO % points", 100.0),
    "usd_per_million_output_tokens": ("USD/M output tokens", 1.0),
}
"""Metric to what a person reads, and in which unit."""
LEFT_OUT_FIRST = (
    "e2e_p50_s", "tpot_p50_s", "ttft_p50_s", "slo_attainment", "output_tokens_per_s", "itl_p99_s",
    "goodput_per_s", "usd_per_million_output_tokens", "tpot_p99_s",
)  # fmt: skip
STARS = "* stands out among all of these differences (Holm, 5%)"


def heading_of(metric: str) -> tuple[str, float]:
    """Return what a person reads of a metric, and the factor to its unit."""
    if metric in HEADINGS:
        return HEADINGS[metric]
    percentile = re.fullmatch(r"([a-z0-9]+)_(p\d+)_s", metric)
    return (f"{percentile[1].upper()} {percentile[2]} ms", 1e3) if percentile else (metric, 1.0)


def print_differences(plan: Plan, differences: Records, summary: Iterable[str], to: Screen) -> None:
    """Print what each point changes against its baseline; nothing where nothing is known.

    ``summary`` names the columns of summary.csv: what the slo limits is shown as well.
    """
    if not len(differences):
        return
    columns = (differences[name] for name in ("metric", "difference", "difference_lo"))
    known = [row for row in zip(*columns, strict=True) if not math.isnan(row[2])]
    if not any(difference for _, difference, _ in known):
        return
    rows = differences.rows()
    cells: dict[int, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(int(row["point"]), {})[row["metric"]] = text_of(row)
    times = Counter(metric for metric, _, _ in known)
    # Nothing is told by a few points that change nothing, where of the others nothing is known.
    told = {metric for metric, difference, _ in known if difference or times[metric] == len(cells)}
    metrics = [metric for metric in with_limited(SHOWN, summary) if metric in told]
    if all(point.study.slo is None for point in plan.points):
        metrics = [m for m in metrics if m not in ("goodput_per_s", "slo_attainment")]
    others = [metric for metric in metrics if metric not in HEADINGS]
    for drop in ("", *LEFT_OUT_FIRST, *others):
        metrics = [metric for metric in metrics if metric != drop]
        grid = _grid(plan, cells, metrics)
        if grid.width <= to.width:
            break
    to.print(f"{_against(plan)} ({STARS})")
    to.print(grid)


LEAST_PLAIN = 1e-4
"""Smaller numbers would have an exponent, beside a difference that has none."""
MOST_DIGITS = 6
"""Significant digits of a difference: what is more exact is no more than noise in the last bits."""


def text_of(row: Mapping[str, Any]) -> str:
    """Write ``-39.2 ±17*``; a dash where nothing is known.

    Both ends, ``+35 (-64 to +100)``, of an interval that was cut off.
    """
    factor = heading_of(row["metric"])[1]
    value, low, high = (
        factor * float(row[name]) for name in ("difference", "difference_lo", "difference_hi")
    )
    if math.isnan(low):
        return DASH
    star = "*" if row["starred"] else ""
    if low == high == 0:
        return "0"
    half = (high - low) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 2
    if value and half < 10.0**-MOST_DIGITS * abs(value):
        digits = MOST_DIGITS - 1 - math.floor(math.log10(abs(value)))
        return f"{value:+,.{max(0, digits)}f} ±0{star}"
    if is_share(row["metric"]) and max(-low, high) >= factor:
        return f"{value:+,.{decimals}f} ({low:+,.{decimals}f} to {high:+,.{decimals}f}){star}"
    width = significant(half, 2) if half >= LEAST_PLAIN else f"{half:.{decimals}f}"
    return f"{value:+z,.{decimals}f} ±{width}{star}"


def _against(plan: Plan) -> str:
    bases = set(plan.baselines.values())
    if len(bases) == 1:
        (number,) = bases
        values = plan.points[number - 1].values
        named = ", ".join(f"{key.rsplit('.', 1)[-1]} {said(values[key])}" for key in plan.keys)
        return f"Against point {number} ({named}), paired by seed"
    wanted = plan.study.baseline
    assert isinstance(wanted, dict)
    named = ", ".join(f"{key.rsplit('.', 1)[-1]} {said(value)}" for key, value in wanted.items())
    return f"Against the same point with {named}, paired by seed"


def _grid(plan: Plan, cells: Mapping[int, Mapping[str, str]], metrics: Sequence[str]) -> Grid:
    from experiments.reporting.table import short_name

    grid = Grid()
    for key in plan.keys:
        name = short_name(key, plan.keys).replace("_", "_\n")
        grid.add_column(name)
    for metric in metrics:
        heading = heading_of(metric)[0].replace(" ", "\n")
        grid.add_column(heading, whole=True)
    for number, found in cells.items():
        values = plan.points[number - 1].values
        grid.add_row(
            *(said(values[key]) for key in plan.keys), *(found.get(m, DASH) for m in metrics)
        )
    return grid
