"""Routers that break a rule are told which."""

import itertools
import random
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from sim.conformance import ConformanceError, check_router
from sim.routers.llm_d import LlmD
from sim.routers.registry import ROUTERS
from sim.routers.router import Arrival, Looks, Router, View
from sim.routers.scorers import SCORERS


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_that_is_built_in_keeps_the_rules(name: str) -> None:
    check_router(ROUTERS[name])


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_keeps_the_rules(scorer: str) -> None:
    check_router(LlmD, {"scorers": {scorer: 1}}, cases=10)
    picked = {"scorers": {scorer: 1, "queue": 1}, "picker": "weighted_random"}
    precise = {"precise_prefix_cache": {"speculative_indexing": True}}
    check_router(LlmD, {**picked, **precise}, cases=10)


class Routes(Router):
    looks_at = Looks.NOTHING

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self.turn = 0
        self.has = [0] * len(view.numbers)

    def choose(self, arrival: Arrival) -> int:
        self.turn += 1
        return self.turn % len(self.has)


class OneTooFar(Routes):
    def choose(self, arrival: Arrival) -> int:
        return super().choose(arrival) + 1


class AnArray(Routes):
    def choose(self, arrival: Arrival) -> int:
        return np.float64(super().choose(arrival))


class Rolls(Routes):
    def choose(self, arrival: Arrival) -> int:
        return random.randrange(len(self.has))


class RollsInSecret(Routes):
    def choose(self, arrival: Arrival) -> int:
        return int(self.rng.integers(len(self.has)))


class ReadsAnswers(Routes):
    def choose(self, arrival: Arrival) -> int:
        return arrival.output_tokens % len(self.has)


class CountsInSecret(Routes):
    def choose(self, arrival: Arrival) -> int:
        return self.has.index(min(self.has))

    def sent(self, number: int) -> None:
        self.has[number] += 1

    def left(self, number: int, requests: int) -> None:
        self.has[number] -= requests


class AsksForTokens(Routes):
    looks_at = Looks.LOADS

    def choose(self, arrival: Arrival) -> int:
        return min(self.view.numbers, key=self.view.tokens)


class LooksIntoCachesInSecret(Routes):
    looks_at = Looks.TOKENS

    def choose(self, arrival: Arrival) -> int:
        found = self.view.cached.cached_tokens([], arrival.prompt_tokens)
        return found.index(max(found))


class ClaimsTooMuch(Routes):
    claims = True

    def choose(self, arrival: Arrival) -> int:
        self.claimed_tokens = arrival.prompt_tokens + 1
        return super().choose(arrival)


class DealsOtherwise(Routes):
    def deal(self, arrivals: Iterable[Arrival]) -> Iterator[int]:
        return itertools.repeat(0)


class SaysNothing(Router):
    def choose(self, arrival: Arrival) -> int:
        return 0


@pytest.mark.parametrize(
    ("router", "rule"),
    [
        (OneTooFar, "chooses one of the replicas"),
        (AnArray, "chooses one of the replicas"),
        (Rolls, "the same twice"),
        (RollsInSecret, "draws only if it says so"),
        (ReadsAnswers, "never reads the true output length"),
        (CountsInSecret, "looks at no more than it says"),
        (AsksForTokens, "looks at no more than it says"),
        (LooksIntoCachesInSecret, "looks at no more than it says"),
        (ClaimsTooMuch, "claims no more than the prompt"),
        (SaysNothing, "looks at no more than it says"),
        (DealsOtherwise, "dealt beforehand as one by one"),
    ],
)
def test_a_router_that_breaks_a_rule_is_told_which(router: type[Router], rule: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{rule}: "):
        check_router(router)
    check_router(Routes)
