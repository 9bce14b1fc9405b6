"""A connector between replicas, for cases: prompts come from elsewhere, blocks stay for others."""

from math import inf

from sim.conformance.cases import TICK_S
from sim.engine.loads import Connector
from sim.engine.sequence import Sequence


class Handing(Connector):
    """Every second request loads its whole prompt, once; the blocks of every third one are read.

    Args:
        ticks: that each of the two takes, at least one.
        ahead: whether steps are planned while the one before is computed, so that ends are learned
            of in a plan.
    """

    def __init__(self, ticks: int, ahead: bool) -> None:
        self._spent_s, self._ahead = ticks * TICK_S, ahead
        self._now_s = 0.0
        self._kept: list[Sequence] = []  # since it was last asked
        self._begun: set[int] = set()
        self._due: list[tuple[float, Sequence]] = []

    def matched(self, sequence: Sequence, past: int) -> int:
        """The rest of the prompt."""
        loads = sequence.request % 2 == 0 and sequence.request not in self._begun
        return sequence.prompt_tokens - past if loads else 0

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """It is there after some ticks."""
        self._begun.add(sequence.request)
        self._due.append((now_s + self._spent_s, sequence))

    def keeps(self, sequence: Sequence) -> bool:
        """Somebody reads it, from now on: without planning ahead that is when it is asked next."""
        if sequence.request % 3:
            return False
        if self._ahead:
            self._due.append((self._now_s + self._spent_s, sequence))
        else:
            self._kept.append(sequence)
        return True

    def come(self, now_s: float) -> list[Sequence]:
        """See ``Connector``."""
        self._now_s = now_s
        self._due += [(now_s + self._spent_s, sequence) for sequence in self._kept]
        self._kept = []
        over = [sequence for due_s, sequence in self._due if due_s <= now_s]
        self._due = [each for each in self._due if each[0] > now_s]
        return over

    def next_s(self) -> float:
        """See ``Connector``."""
        return min([due_s for due_s, _ in self._due], default=inf)
