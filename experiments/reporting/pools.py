"""Pools of a cluster for people: a picture, and rows for the terminal and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.reporting.drawing import figure_of, house_style, save
from experiments.reporting.figure_layout import MAX_CURVES, Curve, Layout, spread, sweep_layout
from experiments.reporting.figure_marks import (
    NAME_CHARACTERS,
    SATURATED,
    curve_handle,
    folded,
    legend,
)
from experiments.reporting.figure_panels import Panel, key_axis, value_axis
from experiments.reporting.figure_values import draw_rows, exact, percent_name, saturated, triple
from experiments.reporting.plots import MAX_ROWS, TITLES, shown_curves
from experiments.reporting.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POOLS = 4
"""Pools that stand side by side."""


def draw_pools(study_name: str, sweep_keys: Sequence[str], pools: Records, folder: Path) -> Path:
    """Draw what each pool was sent and did into ``folder / "pools.png"``; return its path.

    ``pools`` is ``experiments.running.pool_tables.pools_table``. With a swept number a column of
    panels is a pool and a curve is what else is swept; else a row is a point and a colour a pool.
    """
    names = list(dict.fromkeys(pools["pool"]))
    firsts = [pools["point"].index(point) for point in dict.fromkeys(pools["point"])]
    layout = sweep_layout(pools.at(firsts), sweep_keys)
    panels = _panels(pools)
    path = folder / "pools.png"
    with house_style():
        if layout.axis is None:
            figure = _by_point(layout, pools, names[:MAX_CURVES], panels)
        else:
            figure = _side_by_side(layout, pools, names[:MAX_POOLS], panels)
        figure.suptitle(f"{study_name}: {TITLES['pools']}")
        save(figure, path)
    return path


def _panels(pools: Records) -> list[Panel]:
    name = percent_name(95, pools.at([at for at, n in enumerate(pools["requests"]) if n > 0]))
    tpot = Panel(f"TPOT {name}", (("tpot_p95_s", ""),), "time")
    if "transfer_share" in pools:
        wanted = (
            Panel("busy", (("busy_share", ""),), "percent"),
            Panel("KV max", (("kv_use_max", ""),), "percent"),
            Panel("links in use", (("transfer_share", ""),), "percent"),
            tpot,
        )
    else:
        wanted = (
            Panel("share of the requests", (("request_share", ""),), "percent"),
            Panel(f"TTFT {name}", (("ttft_p95_s", ""),), "time"),
            tpot,
            Panel("MFU while busy", (("mfu", ""),), "percent"),
        )
    return [
        panel
        for panel in wanted
        if np.isfinite(triple(pools, panel.metrics[0][0], range(len(pools)))[0]).any()
    ]


def _side_by_side(
    layout: Layout, pools: Records, names: Sequence[str], panels: Sequence[Panel]
) -> "Figure":
    """A column per pool, a row per metric; axes of one row are alike, so that pools compare."""
    curves, title = shown_curves(layout)
    points = list(dict.fromkeys(pools["point"]))
    figure, grid = figure_of(len(panels), len(names), 1.9)
    for place, panel in enumerate(panels):
        row = grid[place * len(names) : (place + 1) * len(names)]
        for axes, name in zip(row, names, strict=True):
            own = _of_pool(pools, name, points)
            factor = value_axis(axes, "y", panel, pools, {})
            axes.set_title(f"{name}: {axes.get_title(loc='left')}", loc="left")
            _curves(axes, layout, own, panel, curves, factor)
            if place < len(panels) - 1:
                axes.set_xlabel("")
        _alike(row)
    handles = {curve.label: curve_handle(place, True) for place, curve in enumerate(curves)}
    seeds = max(pools["seeds"])
    legend(figure, title, handles, [SATURATED] if saturated(pools).any() else [], seeds)
    return figure


def _of_pool(pools: Records, name: str, points: list[int]) -> Records:
    """Rows of a pool, one for each point; of NaN where a point does not have it."""
    rows = {row["point"]: row for row in pools.where("pool", name).rows()}
    return Records.of([rows.get(point, {"point": point}) for point in points], pools)


def _curves(
    axes: "Axes",
    layout: Layout,
    own: Records,
    panel: Panel,
    curves: Sequence[Curve],
    factor: float,
) -> None:
    at = key_axis(axes, layout, own, range(len(own)))
    for place, curve in enumerate(curves):
        rows = list(curve.rows)
        up = triple(own, panel.metrics[0][0], rows) * factor
        draw_rows(axes, at[:, rows], up, own, rows, place, True)


def _alike(row: Sequence["Axes"]) -> None:
    limits = np.array([axes.get_ylim() for axes in row])
    for axes in row:
        axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())


def _by_point(
    layout: Layout, pools: Records, names: Sequence[str], panels: Sequence[Panel]
) -> "Figure":
    """One row per point, a dot for each pool."""
    points = list(dict.fromkeys(pools["point"]))
    rows = spread(range(len(points)), MAX_ROWS)
    figure, grid = figure_of(-(-len(panels) // 2), 2, 0.6 + 0.3 * max(len(rows), 3))
    for axes, panel in zip(grid, panels, strict=False):
        factor = value_axis(axes, "x", panel, pools, {})
        for place, name in enumerate(names):
            own = _of_pool(pools, name, points)
            across = triple(own, panel.metrics[0][0], rows) * factor
            up = exact(np.arange(float(len(rows))) + 0.16 * (place - (len(names) - 1) / 2))
            draw_rows(axes, across, up, own, rows, place, False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names_of_rows = [folded(layout.points[row], NAME_CHARACTERS) for row in rows]
        axes.set_yticks(range(len(rows)), names_of_rows)
        axes.label_outer()
        axes.tick_params(labelbottom=True)
        axes.grid(axis="y", visible=False)
    handles = {name: curve_handle(place, False) for place, name in enumerate(names)}
    seeds = max(pools["seeds"])
    legend(figure, "", handles, [SATURATED] if saturated(pools).any() else [], seeds)
    return figure
