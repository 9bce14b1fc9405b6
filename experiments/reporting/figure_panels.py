"""A panel of a figure: which metrics it shows, in which unit, over which key."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from experiments.reporting.figure_layout import Layout, short_key
from experiments.reporting.figure_marks import plain_ticks
from experiments.reporting.figure_values import Floats, exact, triple, values_of
from experiments.reporting.quantities import time_unit
from experiments.reporting.records import Records
from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def value_axis(axes: "Axes", which: str, panel: Panel, summary: Records) -> float:
    """Title and scale the axis of a panel's values; returns the factor to its unit.

    The quantity stands above the panel, where it can be read without turning one's head.
    """
    every = range(len(summary))
    values = np.concatenate([triple(summary, name, every) for name, _ in panel.metrics], axis=1)
    units = {"time": time_unit(values[0]), "percent": ("%", 100.0)}
    unit, factor = units.get(panel.unit, (panel.unit, 1.0))
    axes.set_title(f"{panel.label} ({unit})", loc="left")
    plain_ticks(axes, which, values * factor, logarithmic=panel.unit == "time")
    return factor


def key_axis(axes: "Axes", layout: Layout, summary: Records, rows: Sequence[int]) -> Floats:
    """Label and scale the axis of the swept number; returns its values, which have no interval."""
    at = exact(values_of(summary, str(layout.axis))[list(rows)])
    plain_ticks(axes, "x", at, at_values=True)
    axes.set_xlabel(short_key(str(layout.axis)))
    return at
