"""One engine on one tensor-parallel group, on the simulation's clock."""

from bisect import bisect_right

from sim.engine.agenda import Sleeper
from sim.engine.journal import cut
from sim.engine.loop import Loop
from sim.engine.loop_replica import LoopReplica
from sim.engine.sequence import Sequence


class Replica(LoopReplica):
    """Goes on by itself (``sim.engine.loop``) while nothing else is due, else sleeps until then.

    One whose loop knows all its requests beforehand need not be on any clock.

    Args:
        loop: its own.
        priority: among those who wake at one instant.
    """

    def __init__(self, loop: Loop, priority: int) -> None:
        super().__init__(loop, Sleeper(loop.agenda, loop, priority))

    def start(self) -> None:
        """Be on the clock, from time 0 on."""
        self._sleeper.sleep_until(0.0)

    def look_again(self, now_s: float) -> None:
        """See ``AnyReplica``."""
        if self._sleeper.asleep and self.loop.batch is None:
            self._sleeper.wake_at(now_s)

    def outstanding_tokens(self) -> int:
        """See ``AnyReplica``."""
        tokens, batch = self.scheduler.outstanding_tokens(), self.loop.batch
        if self._sleeper.asleep and batch is not None:
            tokens += batch.decodes * self.steps_ended()
        return tokens

    def steps_ended(self) -> int:
        """See ``AnyReplica``."""
        return self._ended_until_now(self.number) - self.journal.steps

    def queue(self) -> tuple[int, int, float]:
        """See ``AnyReplica``."""
        asleep = self._sleeper.asleep and self.loop.batch is not None
        return self._queue_after(self.steps_ended() if asleep else 0)

    def cached_tokens(self, sequence: Sequence) -> int:
        """See ``AnyReplica``."""
        ended, batch = 0, self.loop.batch
        if self._sleeper.asleep and batch is not None:
            ended = self.steps_ended()
            if batch.steps > 1:
                self._cut_short()
        return self.scheduler.look(sequence, ended)

    def halt(self, stop_s: float) -> None:
        """See ``AnyReplica``."""
        loop, journal = self.loop, self.journal
        loop.take_arrivals(stop_s)
        if loop.batch is None:
            return
        ends_s, begun = journal.step_end_s, journal.steps
        del ends_s[bisect_right(ends_s, stop_s, begun) :]
        if len(ends_s) > begun:
            loop.end(loop.batch, loop.start_s, ends_s[-1])

    def _goes_on(self) -> bool:
        batch = self.loop.batch
        return batch is not None and batch.steps > 1

    def _cut_short(self) -> None:
        ends_s = self.journal.step_end_s
        cut(ends_s, self._ended_until_now(self.number) + 1)
        self._sleeper.wake_at(ends_s[-1])
