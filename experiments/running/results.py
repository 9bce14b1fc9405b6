"""Runs a plan and leaves its results folder behind, whole or not at all."""

import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from experiments.running import assemble, pages
from experiments.running.folder import Wanted, results_folder, some
from experiments.running.identity import digest_of
from experiments.running.lengths import Lengths, found_lengths
from experiments.running.pool_tables import pools_of_replicas
from experiments.running.publish import Work, claimed, publish
from experiments.running.requests_file import RequestsFile
from experiments.running.sweep import Executor, Run, runs_of, unfinished
from experiments.running.tables import Tables, written_tables
from experiments.running.work_folder import ended, shown
from experiments.running.workers import interrupts_later, shared_by
from experiments.study.points import Plan
from model.dataclass import dataclass

FOR_TABLES = ("experiments.reporting.stats",)
FOR_REPORT = ("experiments.reporting.page.write", "jinja2")
FOR_FIGURES = ("experiments.reporting.plots", "experiments.reporting.figure_library")
"""What is loaded while workers simulate, since it takes longer than many a run."""
FILES = frozenset(
    (
        "study.yaml", "summary.csv", "summary_long.csv", "runs.csv", "differences.csv",
        "decomposition.csv", "binding.csv", "pools.csv", "replicas.csv", "requests.parquet",
        "report.html", "manifest.json", "throughput_latency.png", "latency.png",
        "utilisation.png", "timeline.png", "pools.png",
    )
)  # fmt: skip
"""Every file that results may have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tables of a study that ran, and where they lie."""

    tables: Tables
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
            if lengths.plan is not plan:
                plan = lengths.plan
                runs = runs_of(plan, work.folder)
            todo = _unfinished(runs, progress)
            resumed = len({run.path for run in runs} - {run.path for run in todo} - new)
            modules = _modules(report, figures)
            _simulate(plan, runs, todo, executor, progress, work, modules)
            jobs = executor.jobs if len(runs) > 1 else 1
            tables = written_tables(lengths, runs, work.new, jobs)
            if report and figures:
                pages.draw(plan, runs, tables, work.new, jobs)
            if report:
                pages.report(plan, runs, tables, work.new)
            wall_s = time.perf_counter() - started
            facts = {"resumed_runs": resumed, "wall_s": round(wall_s, 3)}
            publish(work, {**assemble.facts_of(plan, runs), **executor.facts(), **facts})
    except OSError as error:
        raise ended(error, place.out) from error
    if os.path.lexists(place.work):
        progress.note(f"{shown(place.work)} holds files that are not headroom's; they stay there")
    return Outcome(tables, place.folder, resumed, wall_s)


def _modules(report: bool, figures: bool) -> tuple[str, ...]:
    """What is loaded while workers simulate."""
    modules = FOR_TABLES + (FOR_REPORT if report else ())
    return modules + (FOR_FIGURES if report and figures else ())


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
    plan: Plan,
    runs: Sequence[Run],
    todo: list[Run],
    executor: Executor,
    progress: Progress,
    work: Work,
    modules: Sequence[str],
) -> None:
    """Do what is left to do; requests are gathered, and what comes next is loaded, meanwhile."""
    requests = RequestsFile(runs, work.folder / "requests.growing", pools_of_replicas(plan))

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

    with requests:
        try:
            executor.run(todo, done, begun)
        finally:
            progress.stop()
        requests.publish(work.new / "requests.parquet")
