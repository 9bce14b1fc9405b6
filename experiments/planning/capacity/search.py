"""``kind: capacity`` as a command runs it."""

from collections.abc import Sequence
from pathlib import Path

from experiments.planning.capacity import running, words
from experiments.planning.capacity.study import (
    REPLICAS,
    CapacityPlan,
    CapacityStudy,
    prepare_capacity,
)
from experiments.planning.kinds import Told, ended
from experiments.planning.lengths import Varied, long_enough
from experiments.planning.progress import SearchProgress
from experiments.reporting.quantities import significant
from experiments.reporting.words import calibration_notes
from experiments.running.capacity import capacity_per_s
from experiments.running.sweep import Executor
from experiments.study.document import Loaded
from experiments.study.grid import Setting
from model.counts import count_of
from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class CapacitySearch:
    """A capacity study that was checked."""

    plan: CapacityPlan

    @property
    def name(self) -> str:
        """Of the study."""
        return self.plan.study.name

    @property
    def study(self) -> CapacityStudy:
        """As it was checked."""
        return self.plan.study

    @property
    def notes(self) -> Sequence[str]:
        """What checking it found."""
        return self.plan.plan.notes

    def dry_run(self) -> list[str]:
        """Say what is searched at each point, and how long its runs are."""
        lines = [
            f"{self.name}: {self.plan.key} at {count_of(len(self.plan.points), 'point')}, "
            f"{words.slo_text(self.plan.study.slo)}"
        ]
        for point in self.plan.points:
            label = Setting(point.values, {}).label()
            text, fewest = f"{label}: " if label else "", self.plan.study.run_requests
            if self.plan.is_rate:
                capacity_is = capacity_per_s(point.study)
                text += f"capacity {significant(capacity_is)}/s, "
                one = Varied(point.study, self.plan.key, fewest).at(0.8 * capacity_is)
            elif self.plan.key == REPLICAS:
                one = long_enough(point.study, round(running.OF_A_TEST * fewest))
            else:
                one = long_enough(point.study, fewest)
            requests = one.workload.num_requests
            each = count_of(requests, "request") if requests is not None else "the whole workload"
            lines.append(f"{text}about {running.EXPECTED_RUNS} runs of {each}")
        return lines

    def run(
        self, out: Path, *, executor: Executor, progress: SearchProgress, overwrite: bool,
        figures: bool,
    ) -> Told:  # fmt: skip
        """Search every point, leave a results folder behind."""
        outcome = running.run_capacity(
            self.plan, out, executor=executor, progress=progress, overwrite=overwrite,
            figures=figures,
        )  # fmt: skip
        rests_on = [f"note: {text}" for text in calibration_notes(self.plan.plan)]
        answer = [*words.sentences(self.plan, outcome.answers), *rests_on]
        from experiments.planning.capacity import pages

        return Told(
            answer, [ended(outcome.runs, outcome.resumed, outcome.requests)],
            lambda: pages.tables(self.plan, outcome.answers),
            pages.picture(self.plan, outcome.answers),
            all(one.is_kept for one in outcome.answers),
        )  # fmt: skip


def search_of(loaded: Loaded) -> CapacitySearch:
    """Check a capacity study. Raises StudyError."""
    return CapacitySearch(prepare_capacity(loaded))
