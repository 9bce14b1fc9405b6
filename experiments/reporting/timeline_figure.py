"""How full the cluster was over time, one line per point."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from experiments.reporting.drawing import figure_of
from experiments.reporting.figure_layout import Layout, spread
from experiments.reporting.figure_marks import colour, curve_handle, legend
from experiments.reporting.figure_values import saturated
from experiments.reporting.quantities import significant
from experiments.reporting.records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 6
"""Noisy lines that a timeline can show."""
MAX_STRETCH = 2.0
"""A timeline is cut at this many times its shortest point's end."""


def timeline_figure(
    layout: Layout, summary: Records, timelines: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> "Figure | None":
    """Three panels over the same time; very long points are cut off, and the label says so."""
    rows = [row for row, line in enumerate(timelines) if len(line["time_s"])]
    if not rows:
        return None
    shown = spread(rows, MAX_LINES)
    ends = [float(timelines[row]["time_s"][[0, -1]].sum()) for row in shown]  # both half-bins
    limit = min(max(ends), MAX_STRETCH * min(ends))
    cut = f"; cut, the longest runs to {significant(max(ends))} s" if limit < max(ends) else ""
    panels = (
        ("KV in use (%)", "kv_use", 100.0),
        ("running", "running", 1.0),
        ("waiting", "waiting", 1.0),
    )
    figure, grid = figure_of(3, 1, 1.75)
    for axes, (label, column, factor) in zip(grid, panels, strict=True):
        for place, row in enumerate(shown):
            seen = timelines[row]["time_s"] <= limit
            times, level = timelines[row]["time_s"][seen], timelines[row][column][seen]
            axes.plot(times, level * factor, color=colour(place), linewidth=1.1)
        axes.set(ylabel=label, xlim=(0, limit))
        axes.set_ylim(bottom=0)
        axes.label_outer()
    grid[-1].set_xlabel(f"time (s{cut})")
    marks = {True: " (saturated)", False: ""}
    names = [layout.points[row] + marks[bool(saturated(summary)[row])] for row in shown]
    handles = {name: curve_handle(place, True, False) for place, name in enumerate(names)}
    omitted = f" ({len(shown)} of {len(rows)} points)" if len(shown) < len(rows) else ""
    legend(figure, layout.points_title + omitted, handles, (), 1)
    return figure
