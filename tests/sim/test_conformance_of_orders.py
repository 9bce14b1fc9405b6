"""Queue orders that break a rule are told which."""

from random import random

import pytest

from sim.conformance import ConformanceError, check_order
from sim.engine.sequence import Sequence
from sim.engine.waiting import FirstCome, Ranked, WaitingQueue
from sim.settings.registry import ORDERS


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_that_is_built_in_keeps_the_rules(name: str) -> None:
    check_order(ORDERS[name])


class LastFirst(FirstCome):
    """Says nobody passes by, and lets everybody pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[Sequence] = []

    def push(self, sequence: Sequence) -> None:
        super().push_back(sequence)


class ByAnswer(Ranked):
    def rank(self, sequence: Sequence) -> float:
        return sequence.output_tokens


class ByLuck(Ranked):
    def rank(self, sequence: Sequence) -> float:
        return random()


class LosesCount(FirstCome):
    def pop(self) -> Sequence:
        first = super().pop()
        self.count += 1
        return first


class PopsAnother(FirstCome):
    def pop(self) -> Sequence:
        last = self.members()[-1]
        self.discard(last)
        return last


class KeepsWhoLeft(FirstCome):
    def discard(self, sequence: Sequence) -> bool:
        return sequence.waits


class ForgetsToMark(Ranked):
    def rank(self, sequence: Sequence) -> float:
        return sequence.prompt_tokens

    def push(self, sequence: Sequence) -> None:
        super().push(sequence)
        sequence.waits = sequence.preemptions == 0


@pytest.mark.parametrize(
    ("order", "rule"),
    [
        (LastFirst, "many steps equal single steps"),
        (ByAnswer, "never reads the true output length"),
        (ByLuck, "the same twice"),
        (LosesCount, "count, waits and members"),
        (PopsAnother, "everybody comes out once"),
        (KeepsWhoLeft, "count, waits and members"),
        (ForgetsToMark, "count, waits and members"),
    ],
)
def test_an_order_that_breaks_a_rule_is_told_which(order: type[WaitingQueue], rule: str) -> None:
    with pytest.raises(ConformanceError, match=f"^{rule}: "):
        check_order(order)
