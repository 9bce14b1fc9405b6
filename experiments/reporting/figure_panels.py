"""A panel of a figure: which metrics it shows, in which unit, over which key."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from experiments.reporting.figure_layout import Layout, short_key
from experiments.reporting.figure_marks import GREY, LIMIT, LIMIT_LINE, plain_ticks
from experiments.reporting.figure_values import Floats, exact, triple, values_of
from experiments.reporting.limits import limit_of
from experiments.reporting.quantities import time_unit
from experiments.reporting.records import Records
from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NEAR = 1.5
"""How far beyond the end of an axis, as a factor, a limit may lie that is drawn nevertheless."""
NARROW, WIDE = 25, 48
"""Characters of one line above a panel that stands beside names of points, and above others."""
UNBROKEN = "\N{NO-BREAK SPACE}"
"""Between words that stay in one line."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: its label without unit, and metrics with their names in the legend."""

    label: str
    metrics: tuple[tuple[str, str], ...]
    unit: str
    """``time`` (from seconds), ``percent`` (from shares), or what stands in the parentheses."""


def present(summary: Records, *panels: Panel) -> list[Panel]:
    """Panels, less the metrics that the summary does not have or that are nowhere finite."""
    kept = []
    for panel in panels:
        metrics = tuple(m for m in panel.metrics if np.isfinite(values_of(summary, m[0])).any())
        if metrics:
            kept.append(replace(panel, metrics=metrics))
    return kept


def one_metric_each(panels: Sequence[Panel]) -> list[Panel]:
    """Split panels by metric: the first metric of each, then the second of each, and so on."""
    most = max(len(panel.metrics) for panel in panels)
    return [
        replace(panel, label=_joined(panel, name), metrics=((metric, ""),))
        for rank in range(most)
        for panel in panels
        for metric, name in panel.metrics[rank : rank + 1]
    ]


def _joined(panel: Panel, name: str) -> str:
    """``TTFT p95``; ``throughput, all``; ``mean batch size``."""
    return f"{panel.label}{' ' if panel.unit == 'time' else ', '}{name}" if name else panel.label


def value_axis(
    axes: "Axes", which: str, panel: Panel, summary: Records, limits: Mapping[str, float]
) -> float:
    """Title and scale the axis of a panel's values; returns the factor to its unit.

    The quantity stands above the panel, where it can be read without turning one's head, and so
    do its limits out of ``limits`` (``limits_of``), which are dashed lines where they are near.
    """
    every = range(len(summary))
    values = np.concatenate([triple(summary, name, every) for name, _ in panel.metrics], axis=1)
    units = {"time": time_unit(values[0]), "percent": ("%", 100.0)}
    unit, factor = units.get(panel.unit, (panel.unit, 1.0))
    plain_ticks(axes, which, values * factor, logarithmic=panel.unit == "time")
    title = f"{panel.label} ({unit})"
    width = NARROW if which == "x" else WIDE
    told = _draw_limits(axes, which, panel, limits, factor)
    if told and len(f"{title}, {', '.join(told)}") <= width:
        title = f"{title}, {', '.join(told)}"
    elif told:
        title = "\n".join((title, *(fill(each, width) for each in told)))
    axes.set_title(title.replace(UNBROKEN, " "), loc="left")
    return factor


def _draw_limits(
    axes: "Axes", which: str, panel: Panel, limits: Mapping[str, float], factor: float
) -> list[str]:
    """Draw the limits of a panel's metrics; say them in its unit, and which are off its axis."""
    found: dict[float, list[str]] = {}
    for metric, name in panel.metrics:
        limit = limit_of(metric, limits)
        if limit is not None:
            found.setdefault(limit * factor, []).append(name.partition(" ")[0])
    told = []
    for limit, names in found.items():
        off = _reach(axes, which, limit)
        if not off:
            draw = axes.axvline if which == "x" else axes.axhline
            draw(limit, color=GREY, label=LIMIT, zorder=1.5, **LIMIT_LINE).set_in_layout(False)
        whose = "" if len(names) == len(panel.metrics) else f" of {' and '.join(names)}"
        told.append(f"limit{UNBROKEN}{limit:,.10g}{whose}{f' ({off})' if off else ''}")
    return told


def _reach(axes: "Axes", which: str, limit: float) -> str:
    """Widen an axis for a limit that is near its end; say on which side one lies that is not."""
    low, high = getattr(axes, f"get_{which}lim")()
    logarithmic = getattr(axes, f"get_{which}scale")() == "log"
    if limit > high * NEAR:
        return "higher"
    if logarithmic and limit < low / NEAR:
        return "lower"
    if limit > high:
        axes.set(**{f"{which}lim": (low, limit * 1.1)})
    elif limit < low:
        axes.set(**{f"{which}lim": (limit / 1.1, high)})
    return ""


def key_axis(axes: "Axes", layout: Layout, summary: Records, rows: Sequence[int]) -> Floats:
    """Label and scale the axis of the swept number; returns its values, which have no interval."""
    at = exact(values_of(summary, str(layout.axis))[list(rows)])
    plain_ticks(axes, "x", at, at_values=True)
    axes.set_xlabel(short_key(str(layout.axis)))
    return at
