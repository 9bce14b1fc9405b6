"""Runs a capacity study: one search per point, and what is told of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.planning.capacity.answers import Answer
from experiments.planning.capacity.highest import Search
from experiments.planning.capacity.study import REPLICAS, CapacityPlan
from experiments.planning.folder import search_in_folder
from experiments.planning.lengths import Varied, long_enough, with_values
from experiments.planning.prices import usd_per_hour
from experiments.planning.progress import SearchProgress
from experiments.planning.promises import Promise, promises_of
from experiments.planning.smallest import Smallest, smallest
from experiments.planning.trials import Trials
from experiments.running.capacity import capacity_per_s
from experiments.running.identity import run_identity
from experiments.running.sweep import Executor
from experiments.study.grid import Setting
from experiments.study.points import Point
from model.dataclass import dataclass

FILES = frozenset(
    ("study.yaml", "capacity.csv", "probes.csv", "capacity.png", "report.html", "manifest.json")
)
OF_A_TEST = 1.5
"""A run of a test is so many times as long as one of a search, as it is cut into batches."""
EXPECTED_RUNS = 32
"""Of one point: a handful to find the neighbourhood, the rest around the answer."""
SAFE, FULL = 0.85, 1.02
"""Shares of the capacity: replicas are first tried at one, and never fewer than at the other."""


@dataclass(frozen=True, slots=True)
class CapacityOutcome:
    """What a capacity study found, and where it lies."""

    answers: tuple[Answer, ...]
    folder: Path
    runs: int
    resumed: int
    """Of these, those that an earlier call had finished."""
    requests: int


def run_capacity(
    plan: CapacityPlan,
    out: Path,
    *,
    executor: Executor,
    progress: SearchProgress | None = None,
    overwrite: bool = False,
    figures: bool = True,
) -> CapacityOutcome:
    """Search every point, and leave a results folder behind.

    Raises:
        StudyError: ``out`` cannot be written or holds what may not be replaced, or a run refused
            its input.
        RunError: a worker was killed, memory ran out, the disk is full. Finished runs are kept.
    """
    from experiments.planning.capacity import pages

    told = progress or SearchProgress()
    study = plan.study
    depends_on: list[Any] = [
        study.model_dump(mode="json", exclude={"description"}),
        *(run_identity(point.study, point.study.seed) for point in plan.points),
    ]

    def find(trials: Trials) -> tuple[Answer, ...]:
        """Search every point in turn; later ones are expected to take as many runs."""
        answers: list[Answer] = []
        for point in plan.points:
            each = trials.runs / len(answers) if answers else EXPECTED_RUNS
            told.expect(trials.runs + round(each * (len(plan.points) - len(answers))))
            answers.append(answer(plan, point, trials))
        return tuple(answers)

    def write(answers: Sequence[Answer], folder: Path) -> None:
        """Write tables and pages into a folder."""
        pages.write(plan, answers, folder, figures=figures)

    answers, trials = search_in_folder(
        study, out, FILES, depends_on, find, write,
        executor=executor, progress=told, overwrite=overwrite,
    )  # fmt: skip
    return CapacityOutcome(answers, out, trials.runs, trials.resumed, trials.requests)


def answer(plan: CapacityPlan, point: Point, trials: Trials) -> Answer:
    """Search one point."""
    study, label = point.study, Setting(point.values, {}).label()
    assert study.slo is not None  # it was checked
    promises = promises_of(study.slo)
    varied = Varied(study, plan.key, plan.study.run_requests)
    if plan.key == REPLICAS:
        found = _replicas(plan, point, trials, label, promises)
        count = found.replicas or plan.study.most
        return Answer(point, found, math.nan, usd_per_hour(with_values(study, {REPLICAS: count})))
    capacity = capacity_per_s(study) if plan.is_rate else math.nan
    search = Search(
        varied, trials.ask, promises, plan.study.half_width, label, capacity,
        plan.study.confidence,
    )  # fmt: skip
    return Answer(point, search.run(), capacity, usd_per_hour(study))


def _replicas(
    plan: CapacityPlan, point: Point, trials: Trials, label: str, promises: Sequence[Promise]
) -> Smallest:
    """The smallest number of replicas; where there is a rate, its capacity says where to look."""
    one = with_values(point.study, {REPLICAS: 1})
    rate = getattr(one.workload.arrivals, "rate_per_s", None)
    least = first = 1
    if rate is not None:
        capacity = capacity_per_s(one)
        least = max(1, math.ceil(rate / (FULL * capacity)))
        first = max(1, math.ceil(rate / (SAFE * capacity)))
    requests = round(OF_A_TEST * plan.study.run_requests)
    return smallest(
        lambda count: long_enough(with_values(one, {REPLICAS: count}), requests),
        label, trials.ask, least=least, first=first, most=plan.study.most, promises=promises,
        confidence=plan.study.confidence,
    )  # fmt: skip
