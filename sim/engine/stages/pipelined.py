"""An engine with pipeline stages on the simulation's clock."""

from sim.engine.agenda import Sleeper
from sim.engine.any_replica import AnyReplica
from sim.engine.sequence import Batch, Sequence
from sim.engine.stages.pipeline import Pipeline


class Pipelined(AnyReplica):
    """One replica, to which requests are sent and from which they are taken back.

    Steps end one by one, and who comes is seen when the oldest of them has: nothing is cut short.

    Args:
        loop: its own.
        priority: among those who wake at one instant.
    """

    def __init__(self, loop: Pipeline, priority: int) -> None:
        super().__init__(loop.number, loop.scheduler, loop.journal, loop.aborted, loop.agenda)
        self.loop = loop
        self._sleeper = Sleeper(loop.agenda, loop, priority)
        self._sleeper.sleep_until(0.0)

    def submit(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        self.scheduler.admit(sequence)
        if self._sleeper.asleep and not self.loop.under_way:
            self._sleeper.wake_at(self.agenda.now_s)

    def abort(self, sequence: Sequence) -> None:
        """See ``AnyReplica``."""
        if self.loop.under_way:
            self.aborted.append(sequence)
        else:
            self.scheduler.abort(sequence)
            self._sleeper.wake_at(self.agenda.now_s)

    def tell(self, sequence: Sequence) -> None:
        """See ``AnyReplica``: no KV ever comes to a pipeline."""
        raise NotImplementedError(f"request {sequence.request}: no KV comes to a pipeline")

    def outstanding_tokens(self) -> int:
        """See ``AnyReplica``."""
        return self.scheduler.outstanding_tokens()

    def steps_ended(self) -> int:
        """See ``AnyReplica``: each is completed at once."""
        return 0

    def queue(self) -> tuple[int, int, float]:
        """See ``AnyReplica``."""
        return self._queue_after(0)

    def cached_tokens(self, sequence: Sequence) -> int:
        """See ``AnyReplica``."""
        return self.scheduler.look(sequence, 0)

    def under_way(self) -> Batch | None:
        """See ``AnyReplica``: there may be several."""
        return None

    def reached_s(self) -> float:
        """See ``AnyReplica``."""
        return self.loop.now_s

    def halt(self, stop_s: float) -> None:
        """The clock has stopped: what ended by then was completed, what is under way is not."""
