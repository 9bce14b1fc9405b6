"""A replica, or one of several ranks, whose loop sleeps while nothing is due."""

from sim.engine.agenda import Sleeper
from sim.engine.any_replica import AnyReplica
from sim.engine.loop import Loop
from sim.engine.sequence import Batch, Sequence


class LoopReplica(AnyReplica):
    """While its loop is asleep, a request can come by surprise, be given up, or be told of: the run
    of steps under way is then cut short.

    Args:
        loop: its own.
        sleeper: who wakes it.
    """

    def __init__(self, loop: Loop, sleeper: Sleeper) -> None:
        super().__init__(loop.number, loop.scheduler, loop.journal, loop.aborted, loop.agenda)
        self.loop = loop
        self._sleeper = sleeper

    def submit(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        self.scheduler.admit(sequence)
        loop = self.loop
        if loop.gauge is not None:
            loop.gauge.came.append(self.steps_ended())
        if not self._sleeper.asleep:
            return
        if loop.batch is None:
            self._sleeper.wake_at(self.agenda.now_s)
        elif loop.batch.open and self._goes_on():
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
        if self.loop.batch is None:
            self._sleeper.wake_at(self.agenda.now_s)
        elif self._goes_on():
            self._cut_short()

    def under_way(self) -> Batch | None:
        """See ``AnyReplica``."""
        return self.loop.batch

    def reached_s(self) -> float:
        """See ``AnyReplica``."""
        return self.loop.now_s

    def _goes_on(self) -> bool:
        """Whether several steps are under way."""
        raise NotImplementedError

    def _cut_short(self) -> None:
        """End a run of steps with the one that is in progress."""
        raise NotImplementedError
