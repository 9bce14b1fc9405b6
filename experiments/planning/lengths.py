"""How long a run of a search has to be, and what its values do to a study."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from experiments.planning.promises import limits_of, longest_stay_s
from experiments.reporting.support import SHORT, Load
from experiments.running.pooling import load_of
from experiments.study.build import looks_at_nothing, scenario_of, settled
from experiments.study.document import Study, validate
from experiments.study.errors import StudyError, show
from experiments.study.grid import substitute
from experiments.study.keys import dotted, key_path
from experiments.study.requests import requests_of
from experiments.study.schema import value_at
from model.dataclass import dataclass
from workloads.arrivals import ClosedLoop
from workloads.config import LATEST_S

RATES = {
    "poisson": "rate_per_s",
    "gamma": "rate_per_s",
    "deterministic": "rate_per_s",
    "diurnal": "mean_rate_per_s",
    "closed_loop": "users",
}
"""Process to the key that says how much there is of it."""
STEADY = ("workload.arrivals.rate_per_s",)
"""Keys that are a rate of arrivals without a clock: such a study has a capacity to compare with."""
FEWEST = 20_000
"""Requests of one run. Shorter ones have neither filled up nor seen the busy periods: three of
1,000 requests sell 5 to 9% too much."""
FILLINGS = 20
"""Or so many times as many as are in the system at most while limits are kept; a tenth of them is
warm-up, so it lasts twice as long as a request may, and two sessions of every user."""
SHARED = 2
"""So many replicas of a router that looks at no load have enough of such a run; more of them ask
for more, since each sees but its own requests: ten relaxation times at 95% of the capacity."""
WARMUP = 0.1
LONGEST = 4 * FEWEST
"""A run becomes at most so long for its load: at 98% of the capacity it would take 61,000."""


@dataclass(frozen=True, slots=True)
class Varied:
    """A point of a study, one key of which is searched."""

    point: Study
    """Settled."""
    key: str
    fewest: int = FEWEST
    """Requests of one run, at least."""
    draw: int | None = None

    @property
    def value(self) -> float:
        """What the study says."""
        value = value_at(self.point.resolved(), key_path(self.key))
        assert isinstance(value, int | float)
        return float(value)

    @property
    def is_whole(self) -> bool:
        """Whether the key counts something."""
        return isinstance(value_at(self.point.resolved(), key_path(self.key)), int)

    def at(self, value: float) -> Study:
        """Return the settled study with that value, long enough to be measured.

        Raises:
            StudyError: the value is not allowed there.
        """
        shown: Any = round(value) if self.is_whole else value
        with _told({self.key: shown}):
            return long_enough(with_values(self.point, {self.key: shown}), self.fewest)


def with_values(point: Study, values: dict[str, Any]) -> Study:
    """Return a settled study with other values of dotted keys.

    Raises:
        StudyError: what is wrong with it then.
    """
    study, faults = validate(substitute(point.resolved(), values))
    if study is None:
        texts = [f"{dotted(path)}: {text}" for path, text in faults]
        raise StudyError.of(f"{_given(values)}: {'; '.join(texts)}")
    with _told(values):
        return settled(study)


@contextmanager
def _told(values: Mapping[str, Any]) -> Iterator[None]:
    """Make what refuses a point, such as one that does not fit, an error of the study."""
    try:
        yield
    except StudyError:
        raise
    except ValueError as error:
        sentence = str(error).split("\n", 1)[0].removesuffix(":")  # before a ledger
        raise StudyError.of(f"{_given(values)}: {sentence}") from error


def _given(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {show(value)}" for key, value in values.items())


def long_enough(study: Study, fewest: int = FEWEST) -> Study:
    """Return a study whose runs have as many requests as their load needs.

    A workload with a clock is as long as it is.
    """
    if study.workload.has_clock:
        return study
    count = max(round(fewest * _queues(study) / SHARED), fewest)
    count = max(count, math.ceil(FILLINGS * in_system(study)))
    workload = study.workload.model_copy(update={"num_requests": count, "duration_s": None})
    return study.model_copy(
        update={"workload": workload, "warmup_fraction": WARMUP, "warmup_s": None}
    )


def load_that_waits(study: Study) -> Load | None:
    """Return the load of a study that has one, and a limit of whose SLO is about a wait.

    Limits on the time per token alone have no queue to wait for.
    """
    slo = study.slo
    if slo is None or all(one.latency == "tpot" for one in limits_of(slo).values()):
        return None
    load = load_of(study)
    return None if load is None or math.isnan(load.share) else load


def long_for_its_load(study: Study, load: Load) -> Study | None:
    """Return a study whose runs are as long as its load asks for; None where they are already.

    A queue near its capacity forgets slowly how it was at the start, which is empty: shorter runs
    than ``SHORT`` relaxation times have not seen what waits are like there, and keep too much.
    """
    count = study.workload.num_requests
    if count is None:
        return None
    asked = math.ceil(min(SHORT * load.relaxation / (1 - WARMUP), LONGEST))
    return with_values(study, {"workload.num_requests": asked}) if asked > count else None


def _queues(study: Study) -> int:
    """Return how many queues the replicas of a study have: one, if its router looks at them."""
    return study.cluster.all_replicas if looks_at_nothing(study) else 1


def in_system(study: Study) -> float:
    """Return about how many requests are in the system at once, at most, while an SLO is kept.

    Little's law with the longest that a request that keeps its limits stays; and not more than
    there are seats, or users. Of sessions all turns count, those that are asked later too.
    """
    arrivals, slo = study.workload.arrivals, study.slo
    if isinstance(arrivals, ClosedLoop):
        return arrivals.users * _turns(study)
    scenario = scenario_of(study, study.seed)
    seats = float(sum(pool.engine.max_num_seqs * pool.replicas for pool in scenario.pools))
    if slo is None:
        return seats
    rate = getattr(arrivals, "rate_per_s", None)
    requests = requests_of(study, study.seed)
    if rate is None:
        rate = len(requests) / max(float(requests.arrival_s[-1]), 1 / LATEST_S)
    return min(seats, float(rate) * longest_stay_s(slo, float(requests.output_tokens.mean()), 0.0))


def _turns(study: Study) -> float:
    """Requests of a session; 1 where each stands alone."""
    if not study.workload.has_sessions:
        return 1.0
    turn = requests_of(study, study.seed).turn
    assert turn is not None
    return len(turn) / float((turn == 0).sum())
