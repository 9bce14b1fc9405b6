"""What figures draw of a summary: values with their intervals, and the state of each point."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.reporting.figure_marks import cross_out, draw_points
from experiments.reporting.records import Records
from experiments.reporting.support import THIN, effective
from experiments.reporting.verdict import MISSED
from sim.measuring.percentiles import unsupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


def values_of(summary: Records, column: str) -> Floats:
    """A column as numbers, one per point; NaN throughout if the table has none of that name."""
    if column not in summary:
        return np.full(len(summary), np.nan)
    return np.array(summary[column], dtype=np.float64)


def triple(summary: Records, metric: str, rows: Sequence[int]) -> Floats:
    """Rows value, lower end, upper end of the metric at these points."""
    names = (metric, f"{metric}_lo", f"{metric}_hi")
    return np.stack([values_of(summary, name)[list(rows)] for name in names])


def exact(values: Floats) -> Floats:
    """Values that are known exactly, as rows value, lower end, upper end."""
    return np.stack([values, np.full(len(values), np.nan), np.full(len(values), np.nan)])


def saturated(summary: Records) -> npt.NDArray[np.bool_]:
    """Points of which any seed was saturated."""
    return np.greater(values_of(summary, "saturated"), 0)


def missed(summary: Records) -> npt.NDArray[np.bool_]:
    """Points that miss the slo."""
    if "slo_verdict" not in summary:
        return np.zeros(len(summary), dtype=np.bool_)
    return np.array([word == MISSED for word in summary["slo_verdict"]], dtype=np.bool_)


def draw_rows(
    axes: "Axes", across: Floats, up: Floats, summary: Records, rows: Sequence[int],
    place: int, joined: bool,
) -> None:  # fmt: skip
    """Draw points of the summary: hollow those that are saturated, crossed who misses the slo."""
    hollow = saturated(summary)[list(rows)]
    draw_points(axes, across, up, hollow, place, joined)
    cross_out(axes, across, up, missed(summary)[list(rows)])


def percent_name(percent: int, summary: Records) -> str:
    """``p99``, or ``p99 of only 450 requests`` when these are too few for it somewhere."""
    known = [row for row in summary.rows() if not math.isnan(row.get("design_effect", math.nan))]
    seeds = np.nan_to_num(values_of(summary, "seeds"), nan=1.0)
    least = (values_of(summary, "measured_requests") * seeds).min()
    thin = percent in unsupported(least)
    thin |= any(effective(row, f"ttft_p{percent}_s") < THIN for row in known)
    return f"p{percent} of only {least:,.0f} requests" if thin else f"p{percent}"
