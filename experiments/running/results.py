"""Runs a plan and leaves its results folder behind, whole or not at all."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.reporting import words
from experiments.reporting.settings_text import setting_lines
from experiments.running import assemble
from experiments.running.curves import curves_of
from experiments.running.folder import Wanted, results_folder, some
from experiments.running.identity import digest_of
from experiments.running.lengths import Lengths, found_lengths
from experiments.running.pieces import read_piece
from experiments.running.pool_tables import has_pools, noted, pools_of_replicas, pools_table
from experiments.running.pooling import loaded_points, loads_of
from experiments.running.publish import claimed, publish
from experiments.running.reasons import reasons
from experiments.running.sweep import Executor, Run, runs_of, unfinished
from experiments.running.work_folder import shown
from experiments.running.workers import interrupts_later, shared_by
from experiments.study.errors import RunError
from experiments.study.points import Plan

if TYPE_CHECKING:
    from pandas import DataFrame

FOR_TABLES = ("pandas", "experiments.reporting.stats", "pyarrow.parquet")
FOR_REPORT = ("experiments.reporting.page.write", "jinja2")
FOR_FIGURES = (
    "experiments.reporting.plots", "matplotlib.style", "matplotlib.figure", "matplotlib.ticker",
    "matplotlib.backends.backend_agg",
)  # fmt: skip
"""What is loaded while workers simulate, since it takes longer than many a run."""
FILES = frozenset(
    (
        "study.yaml", "summary.csv", "summary_long.csv", "runs.csv", "differences.csv",
        "decomposition.csv", "binding.csv", "pools.csv", "requests.parquet",
        "report.html", "manifest.json", "throughput_latency.png", "latency.png",
        "utilisation.png", "timeline.png", "pools.png",
    )
)  # fmt: skip
"""Every file that results may have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tables of a study that ran, and where they lie."""

    runs: "DataFrame"
    summary: "DataFrame"
    differences: "DataFrame"
    """Of each point from its baseline; empty without another point."""
    parts: "DataFrame"
    """What TTFT and E2E are made of, and what limits the engine."""
    pools: "DataFrame | None"
    """One row per point and pool; None where no pool has a name."""
    folder: Path
    resumed: int
    """Runs that an earlier, interrupted call had finished."""
    wall_s: float


class Progress:
    """What is told while a plan runs; this one says nothing."""

    def watch(self, folder: Path) -> None:
        """Take note of where runs that have begun leave word of how far they are."""

    def start(self, total: int, finished: int) -> None:
        """Take note that ``finished`` of ``total`` runs are there already."""

    def advance(self, run: Run) -> None:
        """Take note of a run that ended."""

    def note(self, text: str) -> None:
        """Take note of something that a person should know."""

    def stop(self) -> None:
        """Take note that no more runs come."""


def run_plan(
    plan: Plan,
    out: Path,
    *,
    executor: Executor,
    progress: Progress | None = None,
    before: Callable[[], None] | None = None,
    report: bool = True,
    figures: bool = True,
    overwrite: bool = False,
) -> Outcome:
    """Run what is unfinished, assemble the folder, put it in place of earlier results.

    Without ``report`` the folder has neither page nor pictures, without ``figures`` no pictures.
    ``before`` is called when the folder is known to be writable and before anything is simulated.
    Results of another study, of other settings or of another version are replaced with
    ``overwrite`` alone; files that are not ours never are.

    The tables are the same bytes for any ``executor`` and after any interruption.

    Raises:
        StudyError: ``out`` cannot be written or holds what may not be replaced, or a run refused
            its input.
        RunError: a worker was killed, memory ran out, the disk is full, or something that is not
            ours came in the way of the results. Finished runs are kept.
    """
    progress = progress or Progress()
    started = time.perf_counter()
    place = results_folder(out)
    try:
        runs = runs_of(plan, place.work)
        wanted = Wanted(FILES, plan.study.name, _identity(plan, runs), overwrite)
        with claimed(place, wanted) as work:
            if work.beside:
                progress.note(f"not headroom's, left alone in {place.out}: {some(work.beside)}")
            if before is not None:
                before()
            progress.watch(work.folder)
            lengths, new = _lengths(plan, work.folder, executor, progress)
            plan = lengths.plan
            runs = runs_of(plan, work.folder)
            todo = _unfinished(runs, progress)
            resumed = len({run.path for run in runs} - {run.path for run in todo} - new)
            growing = work.folder / "requests.growing"
            with assemble.RequestsFile(runs, growing, pools_of_replicas(plan)) as requests:
                modules = (*FOR_TABLES, *(FOR_REPORT if report else ()))
                modules += FOR_FIGURES if report and figures else ()
                _simulate(runs, todo, executor, progress, requests, modules)
                requests.publish(work.new / "requests.parquet")
            jobs = executor.jobs if len(runs) > 1 else 1
            tables = _tables(lengths, runs, work.new, jobs)
            if report:
                if figures:
                    _draw(plan, runs, *tables[:2], tables[-1], work.new, jobs)
                _report(plan, runs, tables[1], tables[-1], work.new)
            wall_s = time.perf_counter() - started
            facts = {"resumed_runs": resumed, "wall_s": round(wall_s, 3)}
            publish(work, {**assemble.facts_of(plan, runs), **executor.facts(), **facts})
    except OSError as error:
        raise RunError(f"cannot go on: {error}") from error
    if os.path.lexists(place.work):
        progress.note(f"{shown(place.work)} holds files that are not headroom's; they stay there")
    return Outcome(*tables, place.folder, resumed, wall_s)


def _identity(plan: Plan, runs: Sequence[Run]) -> str:
    """Return a digest of all that the tables depend on."""
    precision = plan.study.precision
    asked = None if precision is None else precision.model_dump(mode="json")
    about = [plan.study.name, asked, sorted(plan.baselines.items())]
    return digest_of([about, [(run.label, run.path.stem) for run in runs]])


def _unfinished(runs: Sequence[Run], progress: Progress) -> list[Run]:
    """Return the runs without a whole piece, and tell of those that have a damaged one."""
    todo = unfinished(runs)
    for run in todo:
        if os.path.lexists(run.path):
            progress.note(f"{run.label} was finished but is damaged; simulated again")
    return todo


def _lengths(
    plan: Plan, folder: Path, executor: Executor, progress: Progress
) -> tuple[Lengths, set[Path]]:
    """Fix how long runs are, and say which pieces had to be made for that."""
    if plan.study.precision is None:
        return Lengths(plan), set()
    made: set[Path] = set()

    def simulate(runs: list[Run]) -> None:
        todo = _unfinished(runs, progress)
        made.update(run.path for run in todo)
        try:
            executor.run(
                todo, progress.advance, lambda: progress.start(len(runs), len(runs) - len(todo))
            )
        finally:
            progress.stop()

    return found_lengths(plan, folder, simulate, shared_by(executor.jobs)), made


def _simulate(
    runs: Sequence[Run],
    todo: list[Run],
    executor: Executor,
    progress: Progress,
    requests: assemble.RequestsFile,
    modules: Sequence[str],
) -> None:
    """Do what is left to do; requests are gathered, and what comes next is loaded, meanwhile."""

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
            for module in modules:
                import_module(module)

    try:
        executor.run(todo, done, begun)
    finally:
        progress.stop()


def _tables(
    lengths: Lengths, runs: Sequence[Run], folder: Path, jobs: int
) -> "tuple[DataFrame, DataFrame, DataFrame, DataFrame, DataFrame | None]":
    from experiments.reporting.differences import differences_table
    from experiments.reporting.formats import long_table

    plan = lengths.plan
    table = assemble.runs_table(plan, runs)
    loads = lengths.loads or loads_of(loaded_points(plan, table), shared_by(jobs))
    summary = assemble.summary_table(plan, table, runs, loads, lengths.asked)
    pools = None
    if has_pools(plan):
        pools = pools_table(plan, runs)
        summary = noted(summary, pools)
        assemble.write_csv(pools, folder / "pools.csv")
    parts, bound, hopeless = reasons(plan, runs)
    for place, number in enumerate(summary["point"]):
        told = [text for text in (summary.at[place, "notes"], *hopeless.get(number, ())) if text]
        summary.at[place, "notes"] = "; ".join(told)
    assemble.write_csv(parts, folder / "decomposition.csv")
    assemble.write_csv(bound, folder / "binding.csv")
    differences = differences_table(table, summary, plan.keys, plan.baselines)
    if len(differences):
        assemble.write_csv(differences, folder / "differences.csv")
    assemble.write_csv(table, folder / "runs.csv")
    assemble.write_csv(long_table(summary, ["point", *plan.keys]), folder / "summary_long.csv")
    assemble.write_csv(summary, folder / "summary.csv")
    assemble.write_study(plan, folder / "study.yaml")
    return table, summary, differences, parts, pools


def _draw(
    plan: Plan,
    runs: Sequence[Run],
    table: "DataFrame",
    summary: "DataFrame",
    pools: "DataFrame | None",
    folder: Path,
    jobs: int,
) -> None:
    """Draw the figures; timelines are those of each point's first seed."""
    import numpy as np

    from experiments.reporting.plots import draw_plots
    from experiments.reporting.pools import draw_pools

    timelines = []
    for point in plan.points:
        first = next(run for run in runs if run.point == point.number)
        columns = read_piece(first.path).timeline
        timelines.append({name: np.asarray(values) for name, values in columns.items()})
    name, keys = plan.study.name, plan.keys
    draw_plots(name, keys, table, summary, timelines, folder, shared_by(jobs))
    if pools is not None:
        draw_pools(name, keys, pools, folder)


def _report(
    plan: Plan,
    runs: Sequence[Run],
    summary: "DataFrame",
    pools: "DataFrame | None",
    folder: Path,
) -> None:
    """Write the page that answers first."""
    from experiments.reporting.notes import point_notes
    from experiments.reporting.page.write import Page, write_page
    from experiments.reporting.pool_table import reported_pools

    study, points = plan.study, [point.study for point in plan.points]
    rows = [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]
    saturated = any(row.get("saturated", 0) > 0 for row in rows)
    page = Page(
        name=study.name,
        description=study.description,
        basis=words.basis_text(plan),
        notes=point_notes(plan, rows, saturated),
        texts=(
            ("Memory of a GPU", "\n".join(words.ledger_lines(plan))),
            ("What no schedule can exceed", "\n".join(words.ceiling_lines(plan))),
            ("What the engine does by default", "\n".join(setting_lines(plan))),
            ("The study, to run again", (folder / "study.yaml").read_text(encoding="utf-8")),
        ),
        gpus=[
            sum(pool.tensor_parallel_size * pool.replicas for pool in each.cluster.all_pools)
            for each in points
        ],
        pools=None if pools is None else reported_pools(pools, plan.keys),
    )
    clock = any(each.workload.has_clock for each in points)
    write_page(
        folder / "report.html", page, plan.keys, rows, list(curves_of(runs)), study.slo,
        clock=clock,
    )  # fmt: skip
