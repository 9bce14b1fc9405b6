"""One engine on one tensor-parallel group, on the simulation's clock."""

from bisect import bisect_right

from sim.engine.agenda import Sleeper
from sim.engine.any_replica import AnyReplica
from sim.engine.loop import Loop
from sim.engine.sequence import Batch, Sequence


class Replica(AnyReplica):
    """Goes on by itself (``sim.engine.loop``) while nothing else is due, else sleeps until then.

    While it is asleep, a request can come by surprise or be given up: the run of steps under way is
    then cut short. One whose loop knows all its requests beforehand need not be on any clock.

    Args:
        loop: its own.
        priority: among those who wake at one instant.
    """

    def __init__(self, loop: Loop, priority: int) -> None:
        super().__init__(loop.number, loop.scheduler, loop.journal, loop.aborted, loop.agenda)
        self.loop = loop
        self._sleeper = Sleeper(loop.agenda, loop, priority)

    def start(self) -> None:
        """Be on the clock, from time 0 on."""
        self._sleeper.sleep_until(0.0)

    def submit(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        self.scheduler.admit(sequence)
        loop = self.loop
        if loop.gauge is not None:
            loop.gauge.came.append(self.steps_ended())
        if not self._sleeper.asleep:
            return
        batch = loop.batch
        if batch is None:
            self._sleeper.wake_at(self.agenda.now_s)
        elif batch.steps > 1 and batch.open:
            self._cut_short()

    def abort(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        if self.loop.batch is None:
            self.scheduler.abort(sequence)
            self._sleeper.wake_at(self.agenda.now_s)
        else:
            self.aborted.append(sequence)
            self._cut_short()

    def tell(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        self.scheduler.tell(sequence)
        if not self._sleeper.asleep:
            return
        batch = self.loop.batch
        if batch is None:
            self._sleeper.wake_at(self.agenda.now_s)
        elif batch.steps > 1:
            self._cut_short()

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

    def under_way(self) -> Batch | None:
        """See ``AnyReplica``."""
        return self.loop.batch

    def reached_s(self) -> float:
        """See ``AnyReplica``."""
        return self.loop.now_s

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

    def _cut_short(self) -> None:
        """End a run of steps with the one that is in progress."""
        ends_s = self.journal.step_end_s
        del ends_s[self._ended_until_now(self.number) + 1 :]
        self._sleeper.wake_at(ends_s[-1])
