"""The data-parallel ranks of one engine on the simulation's clock: they wake and sleep together."""

from bisect import bisect_right

from sim.engine.agenda import Sleeper
from sim.engine.lockstep import Lockstep
from sim.engine.loop import Loop
from sim.engine.loop_replica import LoopReplica
from sim.engine.sequence import Sequence


class Rank(LoopReplica):
    """One of them, to whom requests are sent and of whom they are taken back.

    Args:
        loop: its own.
        together: all of them.
        sleeper: who wakes all of them.
    """

    def __init__(self, loop: Loop, together: Lockstep, sleeper: Sleeper) -> None:
        super().__init__(loop, sleeper)
        self._together = together

    def outstanding_tokens(self) -> int:
        """See ``AnyReplica``."""
        tokens, batch = self.scheduler.outstanding_tokens(), self.loop.batch
        if batch is not None:
            tokens += batch.decodes * self.steps_ended()
        return tokens

    def cached_tokens(self, sequence: Sequence) -> int:
        """See ``AnyReplica``."""
        ended = self.steps_ended()
        if self._sleeper.asleep and self.loop.batch is not None and self._together.steps > 1:
            self._cut_short()
        return self.scheduler.look(sequence, ended)

    def steps_ended(self) -> int:
        """See ``AnyReplica``."""
        if not self._sleeper.asleep or self.loop.batch is None:
            return 0
        return self._ended_until_now(self._together.loops[0].number) - self.journal.steps

    def queue(self) -> tuple[int, int, float]:
        """See ``AnyReplica``."""
        return self._queue_after(self.steps_ended())

    def halt(self, stop_s: float) -> None:
        """Complete the steps of all ranks that ended by ``stop_s``, at most once."""
        together = self._together
        if not together.steps:
            return
        for loop in together.loops:
            ends_s, begun = loop.journal.step_end_s, loop.journal.steps
            del ends_s[bisect_right(ends_s, stop_s, begun) :]
        if len(self.journal.step_end_s) > self.journal.steps:
            together.end(self.journal.step_end_s[-1])
        together.steps = 0

    def _goes_on(self) -> bool:
        return self._together.steps > 1

    def _cut_short(self) -> None:
        """See ``LoopReplica``: that of all ranks."""
        kept = self.steps_ended() + 1
        for loop in self._together.loops:
            del loop.journal.step_end_s[loop.journal.steps + kept :]
        self._sleeper.wake_at(self.journal.step_end_s[-1])


def ranks_of(together: Lockstep, priority: int) -> list[Rank]:
    """Let ranks go on together from time 0 on; return them.

    ``priority`` is theirs among those who wake at one instant.
    """
    sleeper = Sleeper(together.agenda, together, priority)
    sleeper.sleep_until(0.0)
    return [Rank(loop, together, sleeper) for loop in together.loops]
