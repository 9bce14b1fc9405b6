"""Who is in the steps under way, and whose blocks wait for them: vLLM's ``defer_block_free``.

Ahead, a step is planned while the one before it is computed. Who is given up leaves behind both::

    step n       A  B  C      computed; A and C are given up meanwhile
    plan n+1     A  B         was made before: it writes to blocks of A, step n to those of C
    plan n+2        B         the blocks of A and C are not free yet
    n+1 has ended             now they are
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.sequence import Sequence


class Late:
    """Blocks that are free when a step has ended."""

    def __init__(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        self.sequence = sequence
        self.held_tokens = held_tokens
        self.known_tokens = sequence.kv_tokens
        """Those whose blocks can be found."""
        self.step = step


class Fence:
    """Of the steps of one engine that plans ahead.

    Args:
        pool: whose blocks they write to.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.steps = 0
        """How many were planned."""
        self.is_under_way = False
        """Whether the last one has not ended, while the next one is planned."""
        self.waits = False
        """Whether somebody waits for its end, as nobody can be thrown out before."""
        self.late: list[Late] = []
        self._idle: set[Sequence] = set()  # who runs, and is not in the step planned last
        self._idle_before: set[Sequence] = set()  # and not in the one before that

    def planned(self, idle: list[Sequence]) -> None:
        """A step was planned; these run, and are not in it."""
        self.is_under_way = True
        self.steps += 1
        self._idle, self._idle_before = set(idle), self._idle

    def ended(self) -> None:
        """What was planned last has ended, and nothing was planned behind it."""
        self.is_under_way = False

    def may_stop(self, victim: Sequence) -> bool:
        """Whether the step under way leaves one alone, so that it can be thrown out."""
        self.waits = self.is_under_way and victim not in self._idle
        return not self.waits

    def has_news(self) -> bool:
        """Whether what was just planned did not know something that the end of a step tells."""
        return self.waits or len(self.late) > 0

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """One was given up after a step was planned, while the one before it was computed."""
        if sequence in self._idle and sequence in self._idle_before:
            self.pool.throw_out(sequence, held_tokens, step)
        else:
            self.pool.lose(sequence, held_tokens, step)
            self.keep(sequence, held_tokens)

    def keep(self, sequence: Sequence, held_tokens: int) -> None:
        """Let the blocks of one that is here no more be free when the last step has ended."""
        self.late.append(Late(sequence, held_tokens, self.steps))

    def release(self) -> None:
        """The step before the one that was planned last has ended: some blocks are free."""
        over, waiting = self.steps - self.is_under_way, list[Late]()
        for late in self.late:
            if late.step > over:
                waiting.append(late)
                continue
            sequence = late.sequence
            computed, sequence.kv_tokens = sequence.kv_tokens, late.known_tokens
            self.pool.release_late(sequence, late.held_tokens)
            sequence.kv_tokens = computed
        self.late = waiting
