"""How much traffic a deployment holds, and how that changes with an assumption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.planning.highest import SEEDS, Highest, Search
from experiments.planning.lengths import long_enough
from experiments.planning.logit_line import Root
from experiments.planning.promises import Promise
from experiments.planning.traffic import scaled
from experiments.planning.trials import Ask
from experiments.reporting.student import t_quantile
from experiments.study.document import Study

KEY = "traffic"


@dataclass(frozen=True, slots=True)
class Traffic:
    """A deployment under so many times its traffic; what ``highest`` varies."""

    point: Study
    """Settled."""
    fewest: int
    key: str = KEY
    is_whole: bool = False
    value: float = 1.0
    draw: int | None = None

    def at(self, value: float) -> Study:
        """Return the study with that multiple, long enough to be measured."""
        study = self.point.model_copy(update={"workload": scaled(self.point.workload, value)})
        return long_enough(study, self.fewest)


def held_by(
    study: Study, ask: Ask, *, promises: Sequence[Promise], fewest: int, capacity: float,
    label: str, target: float = 0.02, around: float | None = None, draw: int | None = None,
    seeds: int = SEEDS,
) -> Highest:  # fmt: skip
    """Find the highest multiple of a study's traffic that keeps its SLO.

    Args:
        study: the deployment, settled.
        ask: gives what runs say.
        promises: of the SLO.
        fewest: requests of one run, at least.
        capacity: the multiple beyond which every queue grows; NaN if not known.
        label: what messages call it.
        target: wanted half-width of the interval.
        around: begin with the line here instead of looking for the neighbourhood.
        draw: of the calibration.
        seeds: of the first line.
    """
    search = Search(
        Traffic(study, fewest, draw=draw), ask, promises, target, label, capacity,
        begin_with=seeds,
    )  # fmt: skip
    return search.run() if around is None else search.around(around)


@dataclass(frozen=True, slots=True)
class Change:
    """How an assumption changes what a deployment holds."""

    name: str
    ratio: float
    """What is held over what was; NaN where it could not be told."""
    low: float
    high: float
    """95% interval, paired over the same seeds."""
    said: str = ""
    """Why there is no ratio."""


def ratio(name: str, base: Root, changed: Highest) -> Change:
    """Return the ratio of two roots of the same seeds, by differences of their logarithms."""
    if changed.root is None:
        said = {
            "never": "nothing keeps the SLO then",
            "capacity": "only the capacity ends it then",
        }.get(changed.outcome, "it could not be told")
        return Change(name, math.nan, math.nan, math.nan, said)
    count = min(len(base.shifts), len(changed.root.shifts))
    differences = changed.root.shifts[:count] - base.shifts[:count]
    mean = float(differences.mean())
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    half = t_quantile(0.975, count - 1) * error if error else 0.0
    return Change(name, math.exp(mean), math.exp(mean - half), math.exp(mean + half))
