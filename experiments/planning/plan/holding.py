"""How much traffic a deployment holds, and how that changes with an assumption."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.highest import SEEDS, Search
from experiments.planning.expected import effect_at
from experiments.planning.lengths import long_enough
from experiments.planning.logit_line import Root
from experiments.planning.promises import Promise
from experiments.planning.traffic import scaled
from experiments.planning.trials import Ask
from experiments.reporting.student import t_quantile
from experiments.study.document import Study
from model.dataclass import dataclass
from workloads.arrivals import ClosedLoop

MOST_SEEDS = 16
"""Of what a plan's deployment holds: its answer rests on tests, not on this."""
UNTOLD = math.log(10.0)
"""A ratio of two roots that may be ten times as much or more says nothing."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A deployment under so much traffic; what ``highest`` varies.

    Users are counted, as half a user asks nothing; other traffic is a multiple of the study's.
    """

    point: Study
    """Settled."""
    fewest: int
    draw: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is users."""
        return isinstance(self.point.workload.arrivals, ClosedLoop)

    @property
    def key(self) -> str:
        """What messages call it."""
        return "users" if self.is_whole else "traffic"

    @property
    def value(self) -> float:
        """Of the study itself."""
        arrivals = self.point.workload.arrivals
        return float(arrivals.users) if isinstance(arrivals, ClosedLoop) else 1.0

    def at(self, value: float) -> Study:
        """Return the study with that traffic, long enough to be measured."""
        workload = scaled(self.point.workload, value / self.value)
        return long_enough(self.point.model_copy(update={"workload": workload}), self.fewest)


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
    traffic = Traffic(study, fewest, draw)
    search = Search(
        traffic, ask, promises, target, label, capacity * traffic.value, begin_with=seeds,
        most_seeds=MOST_SEEDS, expected=effect_at if around is None else _not_asked,
    )  # fmt: skip
    found = search.run() if around is None else search.around(around * traffic.value)
    return _relative(found, traffic.value)


def _not_asked(_: Study, __: Promise, ___: float) -> float:
    """What is compared with its like, seed by seed, has an interval of differences."""
    return 0.0


def _relative(found: Highest, whole: float) -> Highest:
    """Return what was found as multiples of the study's own traffic."""
    return replace(
        found, value=found.value / whole, low=found.low / whole, high=found.high / whole,
        tried=tuple((value / whole, missed) for value, missed in found.tried),
        pair=tuple((value / whole, missed) for value, missed in found.pair),
    )  # fmt: skip


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
    if not half + abs(mean) < UNTOLD:
        return Change(name, math.nan, math.nan, math.nan, "its runs are too short to tell")
    return Change(name, math.exp(mean), math.exp(mean - half), math.exp(mean + half))
