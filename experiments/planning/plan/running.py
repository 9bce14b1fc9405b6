"""Runs a plan: the search, its folder and its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.planning.capacity.words import slo_text
from experiments.planning.folder import search_in_folder
from experiments.planning.kinds import Told, ended
from experiments.planning.plan.candidates import built
from experiments.planning.plan.finding import Finder, PlanFound
from experiments.planning.plan.reading import PlanInput, read_plan
from experiments.planning.plan.study import PlanStudy
from experiments.planning.plan.words import CONTRACTS, answer_lines
from experiments.planning.progress import SearchProgress
from experiments.planning.trials import Trials
from experiments.running.identity import file_digest
from experiments.running.sweep import Executor
from experiments.running.workers import shared_by
from experiments.study.document import Loaded
from model.counts import count_of
from model.dataclass import dataclass

FILES = frozenset(
    (
        "study.yaml", "plan.csv", "candidates.csv", "windows.csv", "sensitivity.csv",
        "winner.yaml", "serve.sh", "kubernetes.yaml", "plan.png", "report.html", "manifest.json",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlanSearch:
    """A plan that was checked."""

    plan: PlanInput

    @property
    def name(self) -> str:
        """Of the study."""
        return self.plan.study.name

    @property
    def study(self) -> PlanStudy:
        """As it was checked."""
        return self.plan.study

    @property
    def notes(self) -> Sequence[str]:
        """What checking it found."""
        return self.plan.notes

    def dry_run(self) -> list[str]:
        """Build every candidate: what fits, and what a replica costs by the hour."""
        study = self.plan.study
        lines = [
            f"{self.name}: {count_of(len(self.plan.studies), 'candidate')}, {slo_text(study.slo)}"
        ]
        contract = CONTRACTS[study.contract]
        for one in built(self.plan):
            each = one.sizes.usd_per_hour(one.sizes.fewest)
            whose = "a replica" if one.sizes.fewest == 1 else "with a replica of each pool"
            text = one.lost or f"{each:,.2f} USD/h {whose}, {contract}"
            lines.append(f"{one.name}: {text}")
        return lines

    def run(
        self, out: Path, *, executor: Executor, progress: SearchProgress, overwrite: bool,
        figures: bool,
    ) -> Told:  # fmt: skip
        """Search, leave a results folder behind."""
        found, trials = run_plan(
            self.plan, out, executor=executor, progress=progress, overwrite=overwrite,
            figures=figures,
        )  # fmt: skip
        from experiments.planning.plan import pages

        return Told(
            answer_lines(found), [ended(trials.runs, trials.resumed, trials.requests)],
            lambda: pages.tables(found), pages.picture(found), found.winner is not None,
        )  # fmt: skip


def run_plan(
    plan: PlanInput,
    out: Path,
    *,
    executor: Executor,
    progress: SearchProgress | None = None,
    overwrite: bool = False,
    figures: bool = True,
) -> tuple[PlanFound, Trials]:
    """Find the cheapest deployment, and leave a results folder behind.

    Raises:
        StudyError: ``out`` cannot be written or holds what may not be replaced, or a run refused
            its input.
        RunError: a worker was killed, memory ran out, the disk is full. Finished runs are kept.
    """
    from experiments.planning.plan import pages

    told = progress or SearchProgress()
    depends_on: list[Any] = [
        plan.study.model_dump(mode="json", exclude={"description"}),
        *(study.resolved() for study in plan.studies),
        *(file_digest(name) for name in plan.study.workload.files),
    ]

    def find(trials: Trials) -> PlanFound:
        """Search, with the processes that there are."""
        return Finder(plan, trials, shared_by(executor.jobs), told).run()

    def write(found: PlanFound, folder: Path) -> None:
        """Write tables and pages into a folder."""
        pages.write(found, folder, figures=figures)

    return search_in_folder(
        plan.study, out, FILES, depends_on, find, write,
        executor=executor, progress=told, overwrite=overwrite,
    )  # fmt: skip


def search_of(loaded: Loaded) -> PlanSearch:
    """Check a plan. Raises StudyError."""
    return PlanSearch(read_plan(loaded))
