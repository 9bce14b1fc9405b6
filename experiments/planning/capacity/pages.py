"""The files of a capacity study: tables, a picture, a page."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.planning.capacity.answers import Answer, capacity_table, probes_table
from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.sheet import sheet
from experiments.planning.capacity.study import CapacityPlan
from experiments.planning.capacity.words import percent
from experiments.planning.promises import promises_of
from experiments.reporting.drawing import Picture
from experiments.reporting.page.sheet import write_sheet
from experiments.reporting.quantities import significant
from experiments.reporting.words import calibration_notes
from experiments.running.assemble import write_csv, write_plain_yaml
from experiments.study.grid import Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_CURVES = 8
SMALLEST_SHOWN = 1e-5
"""Share of misses at the lower end of the picture: none is drawn there."""


def write(plan: CapacityPlan, answers: Sequence[Answer], folder: Path, *, figures: bool) -> None:
    """Leave every file but the manifest in a folder; no picture without ``figures``."""
    for name, table in tables(plan, answers).items():
        write_csv(table, folder / f"{name}.csv")
    text = _write_study(plan, folder / "study.yaml")
    if figures:
        picture(plan, answers).save(folder / "capacity.png")
    write_sheet(folder / "report.html", sheet(plan, answers, notes(plan), text))


def tables(plan: CapacityPlan, answers: Sequence[Answer]) -> dict[str, "DataFrame"]:
    """Return the tables, each by the name of its file."""
    return {"capacity": capacity_table(plan, answers), "probes": probes_table(answers)}


def notes(plan: CapacityPlan) -> list[str]:
    """What a reader of the answers has to know."""
    found = [*plan.plan.notes, *calibration_notes(plan.plan)]
    workloads = [point.study.workload for point in plan.points]
    if any(workload.trace is not None for workload in workloads):
        found.append(
            "a trace is the same for every seed: the interval, if any, says nothing of other days"
        )
    return found


def picture(plan: CapacityPlan, answers: Sequence[Answer]) -> Picture:
    """The missed share against the value, one curve per point, and what is allowed."""
    return Picture(7.2, 4.0, partial(_fill, plan, answers))


def _fill(plan: CapacityPlan, answers: Sequence[Answer], figure: "Figure") -> None:
    axes = figure.add_subplot()
    for one in answers[:MOST_CURVES]:
        _curve(axes, one)
    for allowed in sorted({promise.allowed for promise in promises_of(plan.study.slo)}):
        axes.axhline(allowed, color="#555555", linewidth=0.8, linestyle="--")
        axes.annotate(
            f"allowed: {percent(allowed)}", (0, allowed), xycoords=("axes fraction", "data"),
            ha="left", va="bottom", fontsize=8, color="#555555",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    if not all(isinstance(one.found, Highest) for one in answers):
        axes.set_xlabel("replicas")
    else:
        axes.set_xlabel(plan.key)
    axes.set_ylabel("share of the requests that miss the SLO")
    left_out = len(answers) - MOST_CURVES
    if len(answers) > 1:
        title = f"the first {MOST_CURVES} of {len(answers)} points" if left_out > 0 else None
        axes.legend(title=title)


def _curve(axes: "Axes", one: Answer) -> None:
    """Every value that was tried; the pair around the root full, the root with its interval."""
    found: Any = one.found
    if isinstance(found, Highest):
        points = sorted({**dict(found.tried), **dict(found.pair)}.items())
    else:
        points = sorted((count, probe.missed) for count, probe in found.probes.items())
    label = Setting(one.point.values, {}).label() or None
    (line,) = axes.plot(
        [value for value, _ in points], [max(share, SMALLEST_SHOWN) for _, share in points],
        marker="o", label=label,
    )  # fmt: skip
    if isinstance(found, Highest) and not math.isnan(found.low):
        axes.axvspan(found.low, found.high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.annotate(
            significant(found.value, 4), (found.value, 1), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=8, color=line.get_color(),
        )  # fmt: skip


def _write_study(plan: CapacityPlan, path: Path) -> str:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# Resolved: every default is written out. Running this file reproduces the\n")
        file.write("# folder that it lies in.\n")
        write_plain_yaml(plan.study.model_dump(mode="json"), file)
    return path.read_text(encoding="utf-8")
