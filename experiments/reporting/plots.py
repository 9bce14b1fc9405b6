"""Pictures of a study: what a planner asks of a sweep, drawn from its summary.

    throughput_latency.png   what latency each throughput costs, one curve per category
    latency.png              TTFT and TPOT percentiles against the swept number
    utilisation.png          throughput, batch size, KV use and share of peak against the same
    timeline.png             KV use, running and waiting requests over time, one line per point
    pools.png                what each pool was sent and did (``pools``), where there are some

Saturated points are hollow, those that miss the slo crossed out, and the legend says so; a dashed
line is a limit of the slo, and below the title stands who keeps it, at what price. Bars are 95%
intervals over seeds. The same input gives the same bytes: nothing in a file tells when or by which
version it was drawn.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.drawing import figure_of, house_style, save
from experiments.reporting.figure_caption import caption_of, entitle
from experiments.reporting.figure_layout import (
    MAX_CURVES,
    Curve,
    Layout,
    said,
    short_key,
    spread,
    sweep_layout,
)
from experiments.reporting.figure_marks import (
    GREY,
    LIMIT,
    MISSES,
    NAME_CHARACTERS,
    SATURATED,
    curve_handle,
    folded,
    legend,
    name_points,
    plain_ticks,
)
from experiments.reporting.figure_panels import (
    Panel,
    key_axis,
    one_metric_each,
    present,
    value_axis,
)
from experiments.reporting.figure_values import (
    draw_rows,
    exact,
    missed,
    percent_name,
    saturated,
    triple,
    values_of,
)
from experiments.reporting.limits import limits_of
from experiments.reporting.records import Records
from experiments.reporting.timeline_figure import timeline_figure
from sim.measuring.slo import Slo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN_PERCENTS = (50, 95, 99)
MAX_ROWS = 40
"""Points that a figure without a numeric axis lists, one per row."""
WIDEST_LABEL = 46
"""Characters of one line below half a figure."""
TITLES = {
    "throughput_latency": "latency against throughput",
    "latency": "latency percentiles",
    "utilisation": "throughput and use of the hardware",
    "timeline": "over time",
    "pools": "by pool",
}


UTILISATION = (
    Panel(
        "throughput",
        (("goodput_per_s", "within the SLO"), ("request_throughput_per_s", "all")),
        "requests/s",
    ),
    Panel("mean batch size", (("mean_batch_size", ""),), "sequences"),
    Panel("KV blocks in use", (("kv_use_mean", "mean"), ("kv_use_max", "most")), "percent"),
    Panel("share of peak", (("mbu", "bandwidth"), ("mfu", "FLOP/s")), "percent"),
)

Spread = Callable[[Callable[..., Path | None], Sequence[tuple[Any, ...]]], Iterable[Path | None]]
"""Calls a function with each of many arguments, in whatever order; gives what it returned."""
Limits = Mapping[str, float]
"""Of metrics, as ``limits_of`` gives them."""


def draw_plots(
    study_name: str,
    sweep_keys: Sequence[str],
    runs: Records,
    summary: Records,
    timelines: Sequence[Mapping[str, npt.NDArray[Any]]],
    folder: Path,
    spread: Spread = starmap,
    slo: Slo | None = None,
) -> list[Path]:
    """Draw every figure that the study has data for into ``folder`` and return their paths.

    ``summary`` is ``stats.summarise_points(runs, sweep_keys)`` (seconds, shares);
    ``timelines`` holds one ``sim.metrics.timeline`` per row of ``summary``, or nothing at all.
    ``spread`` may let several processes share the figures. ``slo`` are the limits to draw.

    Raises:
        ValueError: ``timelines`` is neither empty nor as long as ``summary``.
    """
    if len(timelines) not in (0, len(summary)):
        raise ValueError(
            f"timelines has {len(timelines)} entries, expected one for each of the "
            f"{len(summary)} points, or none"
        )
    layout = sweep_layout(summary, sweep_keys)
    seeds = len(set(runs["seed"]))
    caption, limits = caption_of(sweep_keys, list(summary.rows()), slo), limits_of(slo)
    arguments: dict[str, tuple[Any, ...]] = {
        **{name: (caption, draw, layout, summary, seeds, limits) for name, draw in FIGURES.items()},
        "timeline": ("", timeline_figure, layout, summary, timelines),
    }
    tasks = [
        (folder / f"{name}.png", f"{study_name}: {TITLES[name]}", *arguments[name])
        for name in arguments
    ]
    drawn = set(spread(_draw, tasks))
    return [task[0] for task in tasks if task[0] in drawn]


def _draw(
    path: Path,
    title: str,
    caption: str,
    figure_of: Callable[..., "Figure | None"],
    *arguments: object,
) -> Path | None:
    """Draw one figure; return where it lies, None if there is nothing to draw."""
    with house_style():
        figure = figure_of(*arguments)
        if figure is None:
            return None
        entitle(figure, title, caption)
        save(figure, path)
    return path


def _throughput_latency(
    layout: Layout, summary: Records, seeds: int, limits: Limits
) -> "Figure | None":
    """TTFT and TPOT against output tokens/s; the swept number stands beside each point."""
    name = percent_name(95, summary)
    panels = present(
        summary,
        Panel(f"TTFT {name}", (("ttft_p95_s", ""),), "time"),
        Panel(f"TPOT {name}", (("tpot_p95_s", ""),), "time"),
    )
    every = range(len(summary))
    throughput = triple(summary, "output_tokens_per_s", every)
    if np.isfinite(throughput[0]).sum() < 2 or not panels:
        return None
    numbered = layout.axis is not None
    coloured = numbered or len(layout.curves) <= MAX_CURVES
    curves, title = shown_curves(layout) if numbered else (list(layout.curves), layout.title)
    figure, grid = figure_of(1, len(panels), 3.6)
    drawn = []
    for axes, panel in zip(grid, panels, strict=True):
        up = triple(summary, panel.metrics[0][0], every) * value_axis(
            axes, "y", panel, summary, limits
        )
        plain_ticks(axes, "x", throughput, logarithmic=False)
        numbers = f" (numbers: {short_key(layout.axis)})" if layout.axis else ""
        axes.set_xlabel(textwrap.fill(f"output tokens/s{numbers}", WIDEST_LABEL))
        for place, curve in enumerate(curves):
            rows = list(curve.rows)
            ink = place if coloured else 0
            draw_rows(axes, throughput[:, rows], up[:, rows], summary, rows, ink, numbered)
        drawn.append(up)
    handles = {curve.label: curve_handle(place, numbered) for place, curve in enumerate(curves)}
    legend(figure, title, handles if coloured else {}, _states(summary, figure), seeds)
    if numbered or not coloured:
        figure.draw_without_rendering()  # fixes the layout, so that places on paper are known
        names = [said(v) for v in summary[layout.axis]] if layout.axis else layout.points
        for axes, up in zip(grid, drawn, strict=True):
            name_points(axes, throughput, up, [curve.rows for curve in curves], names)
    return figure


def _latency(layout: Layout, summary: Records, seeds: int, limits: Limits) -> "Figure | None":
    names = {percent: percent_name(percent, summary) for percent in DRAWN_PERCENTS}
    panels = present(
        summary,
        *(
            Panel(label, tuple((f"{key}_p{p}_s", name) for p, name in names.items()), "time")
            for key, label in (("ttft", "TTFT"), ("tpot", "TPOT"))
        ),
    )
    if not panels:
        return None
    if layout.axis is None:
        return _listing(layout, summary, seeds, limits, panels)
    if len(layout.curves) > 1:
        return _comparison(layout, summary, seeds, limits, one_metric_each(panels))
    figure, grid = figure_of(1, len(panels), 3.3)
    for axes, panel in zip(grid, panels, strict=True):
        _metrics_over_axis(axes, panel, layout, summary, limits)
    handles = {name: curve_handle(place, True) for place, (_, name) in enumerate(panels[0].metrics)}
    legend(figure, "", handles, _states(summary, figure), seeds)
    return figure


def _utilisation(layout: Layout, summary: Records, seeds: int, limits: Limits) -> "Figure | None":
    throughput, *others = UTILISATION
    if not np.isfinite(values_of(summary, "slo_met")).any():  # no SLO: all requests are within it
        throughput = replace(throughput, metrics=(("request_throughput_per_s", ""),))
    panels = present(summary, throughput, *others)
    if len(summary) < 2 or not panels:
        return None
    if layout.axis is None or len(layout.curves) > 1:
        panels = one_metric_each([replace(panel, metrics=panel.metrics[:1]) for panel in panels])
        draw = _listing if layout.axis is None else _comparison
        return draw(layout, summary, seeds, limits, panels)
    figure, grid = figure_of(-(-len(panels) // 2), 2, 2.5)
    for axes, panel in zip(grid, panels, strict=False):
        _metrics_over_axis(axes, panel, layout, summary, limits)
        if len(panel.metrics) > 1:
            handles = [curve_handle(place, True) for place in range(len(panel.metrics))]
            axes.legend(handles, [name for _, name in panel.metrics], loc="best")
    legend(figure, "", {}, _states(summary, figure), seeds)
    return figure


def _metrics_over_axis(
    axes: "Axes", panel: Panel, layout: Layout, summary: Records, limits: Limits
) -> None:
    """Several metrics of the only curve."""
    factor = value_axis(axes, "y", panel, summary, limits)
    rows = layout.curves[0].rows
    across = key_axis(axes, layout, summary, rows)
    for place, (metric, _) in enumerate(panel.metrics):
        up = triple(summary, metric, rows) * factor
        draw_rows(axes, across, up, summary, rows, place, True)


def _comparison(
    layout: Layout, summary: Records, seeds: int, limits: Limits, panels: Sequence[Panel]
) -> "Figure":
    """One metric per panel, one line per curve."""
    curves, title = shown_curves(layout)
    figure, grid = figure_of(-(-len(panels) // 2), 2, 2.3)
    for axes, panel in zip(grid, panels, strict=False):
        factor = value_axis(axes, "y", panel, summary, limits)
        key_axis(axes, layout, summary, range(len(summary)))
        for place, curve in enumerate(curves):
            across = exact(values_of(summary, str(layout.axis))[list(curve.rows)])
            up = triple(summary, panel.metrics[0][0], curve.rows) * factor
            draw_rows(axes, across, up, summary, curve.rows, place, True)
    handles = {curve.label: curve_handle(place, True) for place, curve in enumerate(curves)}
    legend(figure, title, handles, _states(summary, figure), seeds)
    return figure


def _listing(
    layout: Layout, summary: Records, seeds: int, limits: Limits, panels: Sequence[Panel]
) -> "Figure":
    """No axis: one row per point, its metrics as dots, so that long names can be read."""
    rows = spread(range(len(summary)), MAX_ROWS)
    figure, grid = figure_of(
        -(-len(panels) // 2), min(len(panels), 2), 0.6 + 0.3 * max(len(rows), 3)
    )
    names = [name for _, name in panels[0].metrics]
    for axes, panel in zip(grid, panels, strict=False):
        factor = value_axis(axes, "x", panel, summary, limits)
        for place, (metric, _) in enumerate(panel.metrics):
            apart = 0.16 * (place - (len(panel.metrics) - 1) / 2)
            across = triple(summary, metric, rows) * factor
            up = exact(np.arange(float(len(rows))) + apart)
            draw_rows(axes, across, up, summary, rows, place, False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names_of_rows = [folded(layout.points[row], NAME_CHARACTERS) for row in rows]
        axes.set_yticks(range(len(rows)), names_of_rows)
        axes.set_ylabel(layout.points_title, rotation=0, ha="right", va="bottom", color=GREY)
        axes.yaxis.set_label_coords(-0.03, 1.045)
        axes.label_outer()
        axes.tick_params(labelbottom=True)
        axes.grid(axis="y", visible=False)
    handles = {name: curve_handle(place, False) for place, name in enumerate(names)}
    legend(figure, "", handles, _states(summary.at(rows), figure), seeds)
    return figure


def shown_curves(layout: Layout) -> tuple[list[Curve], str]:
    """The curves to draw and the legend's title; of too many, an even spread, and it says so."""
    curves = spread(layout.curves, MAX_CURVES)
    omitted = len(layout.curves) - len(curves)
    note = f" ({len(curves)} of {len(layout.curves)} shown)" if omitted else ""
    return curves, layout.title + note


def _states(summary: Records, figure: "Figure") -> list[str]:
    """Marks that the legend has to explain."""
    marks = {SATURATED: saturated(summary), MISSES: missed(summary)}
    lines = [line for axes in figure.axes for line in axes.lines if line.get_label() == LIMIT]
    return [*(mark for mark, points in marks.items() if points.any()), *([LIMIT] if lines else [])]


FIGURES: dict[str, Callable[..., "Figure | None"]] = {
    "throughput_latency": _throughput_latency,
    "latency": _latency,
    "utilisation": _utilisation,
}
