"""Runs a plan and leaves its results folder behind, whole or not at all."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import assemble, words
from experiments.errors import RunError
from experiments.folder import MANIFEST, check_out, claimed, publish
from experiments.pieces import read_piece
from experiments.plan import Plan
from experiments.settings_text import setting_lines
from experiments.sweep import Executor, Run, runs_of, unfinished
from experiments.workers import interrupts_later

if TYPE_CHECKING:
    from pandas import DataFrame

FOR_TABLES = ("pandas", "experiments.stats", "pyarrow.parquet")
FOR_FIGURES = (
    "experiments.plots", "experiments.report", "jinja2", "matplotlib.style", "matplotlib.figure",
    "matplotlib.ticker", "matplotlib.backends.backend_agg",
)  # fmt: skip
"""What is loaded while workers simulate, since it takes longer than many a run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tables of a study that ran, and where they lie."""

    runs: "DataFrame"
    summary: "DataFrame"
    folder: Path
    resumed: int
    """Runs that an earlier, interrupted call had finished."""
    wall_s: float


class Progress:
    """What is told while a plan runs; this one says nothing."""

    def start(self, total: int, finished: int) -> None:
        """Take note that ``finished`` of ``total`` runs are there already."""

    def advance(self, run: Run) -> None:
        """Take note of a run that ended."""

    def stop(self) -> None:
        """Take note that no more runs come."""


def run_plan(
    plan: Plan,
    out: Path,
    *,
    executor: Executor,
    progress: Progress | None = None,
    before: Callable[[], None] | None = None,
    draw: bool = True,
) -> Outcome:
    """Run what is unfinished, assemble the folder, put it in place of earlier results.

    ``before`` is called when the folder is known to be writable and before anything is simulated.

    The tables are the same bytes for any ``executor`` and after any interruption.

    Raises:
        StudyError: ``out`` cannot be written, or a run refused its input.
        RunError: a worker was killed, memory ran out, or the disk is full.
    """
    progress = progress or Progress()
    started = time.perf_counter()
    out = out.absolute()
    check_out(out)
    with claimed(out) as partial:
        try:
            runs = runs_of(plan, partial)
            todo = unfinished(runs)
            resumed = len(runs) - len(todo)
            if before is not None:
                before()
            whole = partial / "whole"
            shutil.rmtree(whole, ignore_errors=True)
            whole.mkdir()
            with assemble.RequestsFile(runs, partial / "requests.growing") as requests:
                _simulate(runs, todo, executor, progress, requests, draw)
                requests.publish(whole / "requests.parquet")
            tables = _tables(plan, runs, whole)
            if draw:
                _draw(plan, runs, *tables, whole, executor.jobs if len(runs) > 1 else 1)
            wall_s = time.perf_counter() - started
            facts = {**executor.facts(), "resumed_runs": resumed, "wall_s": round(wall_s, 3)}
            assemble.write_manifest(plan, runs, whole / MANIFEST, facts)
            publish(whole, out)
        except OSError as error:
            raise RunError(f"cannot go on: {error}") from error
    return Outcome(*tables, out, resumed, wall_s)


def _simulate(
    runs: Sequence[Run],
    todo: list[Run],
    executor: Executor,
    progress: Progress,
    requests: assemble.RequestsFile,
    draw: bool,
) -> None:
    """Do what is left to do; requests are gathered, and what draws is loaded, meanwhile."""

    def done(run: Run) -> None:
        progress.advance(run)
        requests.add(run)

    def begun() -> None:
        progress.start(len(runs), len(runs) - len(todo))
        left = {run.path for run in todo}
        for run in runs:
            if run.path not in left:
                requests.add(run)
        with interrupts_later():  # C++ that is interrupted while it loads ends with abort()
            for module in (*FOR_TABLES, *(FOR_FIGURES if draw else ())):
                import_module(module)

    try:
        executor.run(todo, done, begun)
    finally:
        progress.stop()


def _tables(plan: Plan, runs: Sequence[Run], folder: Path) -> "tuple[DataFrame, DataFrame]":
    table = assemble.runs_table(plan, runs)
    summary = assemble.summary_table(plan, table)
    assemble.write_csv(table, folder / "runs.csv")
    assemble.write_csv(summary, folder / "summary.csv")
    assemble.write_study(plan, folder / "study.yaml")
    return table, summary


def _draw(
    plan: Plan,
    runs: Sequence[Run],
    table: "DataFrame",
    summary: "DataFrame",
    folder: Path,
    jobs: int,
) -> None:
    """Draw the figures and write the report; timelines are those of each point's first seed."""
    import numpy as np

    from experiments.plots import draw_plots
    from experiments.report import write_report

    timelines = []
    for point in plan.points:
        first = next(run for run in runs if run.point == point.number)
        columns = read_piece(first.path).timeline
        timelines.append({name: np.asarray(values) for name, values in columns.items()})
    study = plan.study
    plots = draw_plots(study.name, plan.keys, table, summary, timelines, folder, jobs)
    write_report(
        folder / "report.html",
        study_name=study.name,
        description=study.description,
        study_yaml=(folder / "study.yaml").read_text(encoding="utf-8"),
        summary=summary,
        sweep_keys=plan.keys,
        plots=plots,
        settings_text="\n".join(setting_lines(plan)),
        ledger_text="\n".join(words.ledger_lines(plan)),
        ceilings_text="\n".join(words.ceiling_lines(plan)),
        notes=[*plan.notes, *words.calibration_notes(plan)],
    )
