"""The search for a highest value, on systems whose missed share is a known function of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from experiments.planning.capacity.highest import Search
from experiments.planning.expected import effect_of_load
from experiments.planning.promises import Promise
from experiments.planning.samples import MOST_STRAIN, Sample
from experiments.planning.trials import Trial
from experiments.reporting.support import Load
from experiments.study.document import Study

JOINT = Promise("", 0.01, ("ttft_s",))
REQUESTS = 9000


@dataclass(frozen=True)
class Known:
    """A key whose value is the study itself."""

    point: Any
    key: str = "rate"
    value: float = 5.0
    is_whole: bool = False
    draw: int | None = None

    def at(self, value: float) -> Study:
        return cast(Study, value)


def alone(_: Study, __: Promise, ___: float) -> float:
    """Let seeds tell alone."""
    return 0.0


class Zero:
    seed = 0


def asking(share: Callable[[float], float]) -> Callable[[Sequence[Trial]], list[Sample]]:
    """Requests that miss independently, with a share that depends on the value alone."""

    def one(trial: Trial) -> Sample:
        value = cast(float, trial.study)
        rng = np.random.default_rng((trial.seed, 7))
        mask = rng.random(REQUESTS) < share(value)
        return Sample(np.arange(float(REQUESTS)), {"": mask}, {"ttft_s": mask})

    return lambda trials: [one(trial) for trial in trials]


@pytest.mark.parametrize("at", [8.03, 8.31, 8.5])
@pytest.mark.parametrize("growth", [30.0, 300.0, 3000.0])
def test_a_limit_is_found_however_steep_the_misses_grow(at: float, growth: float) -> None:
    """Log odds that reach those of 1% at the answer, and grow so much per logarithm of the value.

    The pair that is searched begins 4% too high.
    """

    def share(value: float) -> float:
        odds = math.log(0.01 / 0.99) + growth * math.log(value / at)
        return 1 / (1 + math.exp(-max(min(odds, 500.0), -500.0)))

    search = Search(Known(Zero()), asking(share), (JOINT,), 0.02, capacity=20.0, expected=alone)
    found = search.around(at * 1.04)
    assert found.outcome == "found"
    assert found.value == pytest.approx(at, rel=0.012 if growth == 30 else 0.005)
    assert found.high / found.low < 1.05


@pytest.mark.parametrize(("others", "outcome"), [(0.03, "found"), (0.0, "capacity")])
def test_one_lucky_run_near_the_capacity_does_not_end_a_search(others: float, outcome: str) -> None:
    """At 98% of the capacity the first seed misses nothing; what the others miss tells."""
    ask = asking(lambda value: others * (value / 9.8) ** 40)

    def lucky(trials: Sequence[Trial]) -> list[Sample]:
        none = np.zeros(REQUESTS, dtype=bool)
        kept = Sample(np.arange(float(REQUESTS)), {"": none}, {"ttft_s": none})
        return [
            kept if trial.seed == Zero.seed else sample
            for trial, sample in zip(trials, ask(trials), strict=True)
        ]

    found = Search(Known(Zero()), lucky, (JOINT,), 0.02, capacity=10.0, expected=alone).run()
    assert found.outcome == outcome
    if outcome == "found":
        assert found.value == pytest.approx(9.8 * (0.01 / 0.03) ** (1 / 40), rel=0.01)


def straining(strain: Callable[[float], float]) -> Callable[[Sequence[Trial]], list[Sample]]:
    """Requests that all take the same part of their limit, which depends on the value alone."""

    def one(trial: Trial) -> Sample:
        taken = min(strain(cast(float, trial.study)), MOST_STRAIN)
        mask = np.full(REQUESTS, taken > 1)
        return Sample(np.arange(float(REQUESTS)), {"": mask}, {"ttft_s": mask}, taken)

    return lambda trials: [one(trial) for trial in trials]


@pytest.mark.parametrize(
    ("strain", "tried"),
    [
        (lambda value: 4 / value, [5, 10, 20, 40]),
        (lambda value: 0.5, [5, 10, 20, 40]),
        (lambda value: 20 / value, [1.8, 3, 5, 10]),
        (lambda value: 3.0, [1.8, 3, 5, 10]),
    ],
    ids=[
        "easier and kept",
        "of no matter and kept",
        "easier and missed",
        "of no matter and missed",
    ],
)
def test_a_few_values_show_that_more_of_a_key_is_not_harder(
    strain: Callable[[float], float], tried: list[float]
) -> None:
    found = Search(Known(Zero(), "engine.max_num_seqs"), straining(strain), (JOINT,)).run()
    assert found.outcome == "not harder"
    assert [value for value, _ in found.tried] == pytest.approx(tried)
    assert found.strains == tuple((value, strain(value)) for value, _ in found.tried)


@pytest.mark.parametrize(
    ("key", "strain"),
    [
        ("engine.max_num_seqs", lambda value: value / 4),  # begins above, and has one below
        ("engine.max_num_seqs", lambda value: 0.01 * (1 + value**2)),
        ("engine.max_num_seqs", lambda value: 1e6 * value),  # all are lost down to the least
        ("workload.arrivals.users", lambda value: 0.9 if value < 300 else 2.0),
    ],
)
def test_keys_that_are_harder_are_searched_on(key: str, strain: Callable[[float], float]) -> None:
    search = Search(Known(Zero(), key), straining(strain), (JOINT,), expected=alone)
    found = search.run()
    assert found.outcome != "not harder"
    assert max(value for value, _ in found.tried) >= 5


def test_a_load_near_the_capacity_asks_for_more_seeds() -> None:
    """Misses that come together are worth fewer, however alike the seeds look."""

    def share(value: float) -> float:
        return 1 / (1 + math.exp(-(math.log(0.01 / 0.99) + 30 * math.log(value / 8))))

    def load(study: Study, _: Promise, waited: float) -> float:
        assert waited == 1
        return effect_of_load(Load(cast(float, study), 9.0, 1.0, 1))

    found = [
        Search(Known(Zero()), asking(share), (JOINT,), 0.02, capacity=9.0, expected=of).around(8.0)
        for of in (alone, load)
    ]
    assert found[0].seeds < found[1].seeds
    few = Search(
        Known(Zero()), asking(share), (JOINT,), 0.02, capacity=9.0, expected=load, most_seeds=9
    )
    assert few.around(8.0).seeds == 9
    assert found[0].value == pytest.approx(found[1].value, rel=0.01)
    assert found[1].root is not None
    assert found[1].root.half_width > 0.005
