"""Branch and bound with tests whose truth is known: the cheapest wins, nothing needless runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from experiments.planning.plan.branching import Branching, State
from experiments.planning.plan.candidates import Candidate
from experiments.planning.probes import Probe
from experiments.planning.samples import Sample
from experiments.planning.sequential import Verdict
from experiments.planning.sizes import Sizes
from experiments.planning.trials import Trial
from experiments.study.document import Study


@dataclass
class Known:
    """A test that knows the answer, and undecided where it is told so."""

    count: int
    needed: int
    undecided: tuple[int, ...] = ()
    runs: int = 0
    most: int = 10
    few: int = 4
    every: int = 10
    study: Study = field(default=cast(Study, None))

    @property
    def is_over(self) -> bool:
        return self.runs > 0

    @property
    def asked(self) -> int:
        return self.runs

    @property
    def verdict(self) -> Verdict:
        if self.count in self.undecided:
            return Verdict.UNDECIDED
        return Verdict.KEPT if self.count >= self.needed else Verdict.MISSED

    @property
    def missed(self) -> float:
        return 0.0 if self.count >= self.needed else 1.0

    def next(self) -> list[Trial]:
        return [cast(Trial, None)]

    def add(self, samples: Sequence[Sample]) -> None:
        self.runs += len(samples)


def state(number: int, kind: str, usd: float, least: int) -> State:
    sizes = Sizes((1,), (usd,), (1,), ((1.0,),))
    candidate = Candidate(number, f"c{number}", kind, {}, cast(Study, None), sizes)
    return State(candidate, least, least + 1)


def solved(
    states: list[State], needed: dict[int, int], places: int = 1,
    undecided: dict[int, tuple[int, ...]] | None = None,
) -> tuple[Branching, list[tuple[int, int]]]:  # fmt: skip
    asked: list[tuple[int, int]] = []

    def probe_at(candidate: Candidate, count: int) -> Probe:
        asked.append((candidate.number, count))
        told = (undecided or {}).get(candidate.number, ())
        return Known(count, needed[candidate.number], told)

    def ask(trials: object) -> list[Sample]:
        return [cast(Sample, None) for _ in cast("list[Trial]", trials)]

    branching = Branching(states, probe_at, ask, places, 100)
    branching.run()
    return branching, asked


def test_the_cheapest_is_found_though_its_bound_is_not_the_lowest() -> None:
    states = [state(1, "a", 3.0, 2), state(2, "b", 2.0, 4), state(3, "c", 10.0, 2)]
    branching, asked = solved(states, {1: 5, 2: 5, 3: 2})
    best = branching.ranked()[0]
    assert (best.candidate.number, best.replicas, best.usd_per_hour) == (2, 5, 10.0)
    assert states[2].fate == "price bound"
    assert all(number != 3 for number, _ in asked), "a bound decided it"


def test_one_test_is_enough_for_who_is_dearer() -> None:
    states = [state(1, "a", 1.0, 9), state(2, "b", 2.0, 5)]
    branching, asked = solved(states, {1: 12, 2: 50})
    assert branching.ranked()[0].candidate.number == 1
    assert states[1].fate == "needs more"
    assert [count for number, count in asked if number == 2] == [5], "6 would cost as much as 12"


def test_runners_up_are_of_other_kinds() -> None:
    states = [
        state(1, "a", 1.0, 3), state(2, "a", 1.0, 3), state(3, "b", 1.5, 3), state(4, "c", 9.0, 3),
    ]  # fmt: skip
    branching, _ = solved(states, {1: 4, 2: 6, 3: 4, 4: 3}, places=2)
    assert [one.candidate.number for one in branching.ranked()] == [1, 3]
    assert states[1].fate == "needs more"
    assert states[3].fate == "price bound"


def test_undecided_counts_as_not_kept_and_is_told() -> None:
    states = [state(1, "a", 1.0, 4), state(2, "b", 1.1, 4)]
    branching, _ = solved(states, {1: 4, 2: 3}, undecided={1: (4,), 2: (4, 5)})
    assert branching.ranked()[0].replicas == 5
    assert states[1].fate == "undecided"


def test_equal_prices_are_tested_at_that_price() -> None:
    states = [state(1, "a", 1.0, 4), state(2, "a", 1.0, 4), state(3, "a", 1.0, 4)]
    branching, _ = solved(states, {1: 5, 2: 5, 3: 6})
    branching.ties(branching.ranked()[0])
    assert [one.replicas for one in states] == [5, 5, None]


def test_a_winner_that_became_dearer_lets_others_in_again() -> None:
    states = [state(1, "a", 1.0, 4), state(2, "b", 1.0, 6)]
    branching, _ = solved(states, {1: 5, 2: 7})
    assert states[1].fate == "price bound"
    branching.reopen(8.0)
    branching.run()
    assert states[1].replicas == 7


@pytest.mark.parametrize("needed", range(4, 40))
def test_it_agrees_with_trying_everything(needed: int) -> None:
    truth = {1: needed, 2: needed // 2 + 1, 3: 2 * needed, 4: needed // 3 + 2}
    prices = {1: 1.0, 2: 2.1, 3: 0.45, 4: 3.3}
    states = [
        state(number, f"k{number}", prices[number], max(1, truth[number] * 2 // 3))
        for number in truth
    ]
    branching, _ = solved(states, truth)
    best = min(truth[number] * prices[number] for number in truth)
    assert branching.ranked()[0].usd_per_hour == pytest.approx(best)


def test_a_runner_up_that_is_twice_as_dear_is_none() -> None:
    """It would need 90; a test at the most that is below twice the price is enough to know."""
    states = [state(1, "a", 1.0, 4), state(2, "b", 1.0, 5)]
    branching, asked = solved(states, {1: 5, 2: 90}, places=2)
    assert [one.candidate.number for one in branching.ranked()] == [1]
    assert states[1].fate == "needs more"
    assert states[1].not_kept == 9
    assert max(count for number, count in asked if number == 2) == 9


def test_what_is_known_to_be_kept_is_not_told_as_missed() -> None:
    states = [state(1, "a", 1.0, 5), state(2, "b", 1.0, 4)]
    solved(states, {1: 6, 2: 40}, places=2)
    assert states[1].replicas is None
    assert states[1].not_kept is not None
    assert states[1].probes[states[1].not_kept].verdict is Verdict.MISSED


@dataclass
class Slow(Known):
    """Decides after seven runs only, and says undecided before."""

    @property
    def is_over(self) -> bool:
        return self.runs >= min(7, self.most)

    @property
    def verdict(self) -> Verdict:
        return super().verdict if self.runs >= 7 else Verdict.UNDECIDED


def test_what_cannot_be_the_answer_gets_few_runs_until_it_can() -> None:
    """b keeps it with 4 at 8.0; c with 5 at 10.0, if it is looked at long enough, and a test at
    the most that is below twice the price comes first."""
    states = [state(1, "b", 2.0, 3), state(2, "c", 2.0, 4)]
    made: list[Slow] = []

    def probe_at(candidate: Candidate, count: int) -> Probe:
        kind = Slow if candidate.number == 2 else Known
        made.append(kind(count, 4 if candidate.number == 1 else 5))
        return made[-1]

    def ask(trials: object) -> list[Sample]:
        return [cast(Sample, None) for _ in cast("list[Trial]", trials)]

    branching = Branching(states, probe_at, ask, 2, 100)
    states[0].replicas = 4
    branching.run()
    slow = states[1].probes[7]
    assert (slow.runs, slow.verdict) == (slow.few, Verdict.UNDECIDED)
    assert states[1].fate == "undecided"
    branching.reopen(16.0)
    assert (slow.runs, slow.verdict) == (7, Verdict.KEPT)
    branching.run()
    assert states[1].replicas == 5
