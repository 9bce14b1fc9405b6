"""The files of a plan: tables, the answer's own study and its commands, a picture, a page."""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.planning.plan import serving_files
from experiments.planning.plan.basis import basis_notes
from experiments.planning.plan.finding import PlanFound
from experiments.planning.plan.priced import least_usd
from experiments.planning.plan.sheet import sheet
from experiments.planning.plan.tables import (
    candidates_table,
    plan_table,
    sensitivity_table,
    windows_table,
)
from experiments.reporting.drawing import Picture
from experiments.reporting.page.sheet import write_sheet
from experiments.running.assemble import write_csv, write_plain_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_BARS = 20


def write(found: PlanFound, folder: Path, *, figures: bool) -> None:
    """Leave every file but the manifest in a folder; no picture without ``figures``."""
    for table_name, table in tables(found).items():
        write_csv(table, folder / f"{table_name}.csv")
    text = _write_study(found, folder / "study.yaml")
    texts = [("Plan", text)]
    name = found.problem.plan.study.name
    if found.winner is not None:
        study = serving_files.winner_study(name, found.winner)
        serving_files.write_winner(study, found.winner.candidate.values, folder / "winner.yaml")
        script = serving_files.serve_script(study)
        (folder / "serve.sh").write_text(script, encoding="utf-8", newline="\n")
        serving_files.write_manifest(study, name, folder / "kubernetes.yaml")
        texts.insert(0, ("One replica", script))
    if figures:
        picture(found).save(folder / "plan.png")
    write_sheet(folder / "report.html", sheet(found, notes(found), texts))


def tables(found: PlanFound) -> dict[str, "DataFrame"]:
    """Return the tables, each by the name of its file."""
    return {
        "plan": plan_table(found),
        "candidates": candidates_table(found),
        "windows": windows_table(found),
        "sensitivity": sensitivity_table(found),
    }


def notes(found: PlanFound) -> list[str]:
    """What a reader of the answer has to know."""
    served = [one for one in found.candidates if not one.lost]
    told = [*found.problem.plan.notes, *basis_notes(served)]
    if found.problem.has_windows:
        told.append("other luck on the same hours; it says nothing of other days, growth_cv does")
    told.append(
        "one replica down is simulated as one fewer from the start: requests that a failure loses, "
        "and come again, are not"
    )
    if not found.draws and not found.problem.plan.study.model_error_cv:
        told.append(
            "the simulation is taken for exact: calibration_draws and model_error_cv make its own "
            "uncertainty part of the risk"
        )
    return told


def picture(found: PlanFound) -> Picture:
    """Prices of candidates, full where they were solved, and the tornado beside them."""
    return Picture(7.2, 4.4, partial(_fill, found))


def _fill(found: PlanFound, figure: "Figure") -> None:
    changes = [each for each in found.changes if not math.isnan(each.ratio)]
    columns = 2 if changes else 1
    grid = figure.add_gridspec(1, columns, width_ratios=[3, 2][:columns])
    _prices(figure.add_subplot(grid[0, 0]), found)
    if changes:
        axes = figure.add_subplot(grid[0, 1])
        for row, each in enumerate(reversed(changes)):
            values = [100 * (one - 1) for one in (each.ratio, each.low, each.high)]
            axes.barh(row, values[0], color="#0072B2" if values[0] >= 0 else "#D55E00")
            axes.plot(values[1:], [row, row], color="#1c1c1c", linewidth=1)
        axes.set_yticks(range(len(changes)), [each.name for each in reversed(changes)])
        axes.axvline(0, color="#555555", linewidth=0.8)
        axes.set_xlabel("% more or less")
        axes.set_title("if wrong: traffic held")


def _prices(axes: "Axes", found: PlanFound) -> None:
    """The price of each solved candidate; of the others what they cost at least, hollow."""
    bars = []
    for one in found.candidates:
        state = found.states.get(one.number)
        if state is not None:
            solved = state.replicas is not None
            bars.append((state.usd_per_hour if solved else least_usd(state), solved, one))
    finalists = {one.candidate.number: one.usd_per_hour for one in found.finalists}
    bars = [(finalists.get(one.number, usd), solved, one) for usd, solved, one in bars]
    bars.sort(key=lambda bar: (not bar[1], bar[0], bar[2].number))
    bars = bars[:MOST_BARS][::-1]
    for row, (usd, solved, one) in enumerate(bars):
        winner = found.winner is not None and found.winner.candidate.number == one.number
        colour = "#009E73" if winner else "#0072B2"
        axes.barh(
            row, usd, color=colour if solved else "none", edgecolor=colour if solved else "#8C8C8C"
        )
    axes.set_yticks(range(len(bars)), [one.name for _, _, one in bars], fontsize=6.5)
    axes.set_xlabel("USD/h (hollow: what it costs at least)")
    axes.set_title("candidates")


def _write_study(found: PlanFound, path: Path) -> str:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# Resolved: every default is written out. Running this file reproduces the\n")
        file.write("# folder that it lies in.\n")
        data = found.problem.plan.study.model_dump(mode="json")
        write_plain_yaml({key: value for key, value in data.items() if key != "sweep"}, file)
    return path.read_text(encoding="utf-8")
