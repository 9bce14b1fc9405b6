"""What any replica is to those outside: it takes requests, gives them back, can be looked at."""

from bisect import bisect_left, bisect_right

from sim.engine.agenda import Agenda
from sim.engine.journal import Journal
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence


class AnyReplica:
    """One that has a scheduler of its own.

    Args:
        number: among all replicas.
        scheduler: its own.
        journal: where it is noted what it does.
        aborted: whom the scheduler still has, though nobody wants them: its loop's.
        agenda: on which it wakes.
    """

    def __init__(
        self,
        number: int,
        scheduler: Scheduler,
        journal: Journal,
        aborted: list[Sequence],
        agenda: Agenda,
    ) -> None:
        self.number = number
        self.scheduler = scheduler
        self.journal = journal
        self.aborted = aborted
        self.agenda = agenda

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        raise NotImplementedError

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        raise NotImplementedError

    def tell(self, sequence: Sequence) -> None:
        """The blocks of one that loads are filled, or of one that has ended were read, now."""
        raise NotImplementedError

    def look_again(self, now_s: float) -> None:
        """What its KV connector finds may have changed, now: plan again, if it computes nothing."""
        raise NotImplementedError

    def steps_ended(self) -> int:
        """Count the steps of the run under way that ended until now."""
        raise NotImplementedError

    def under_way(self) -> Batch | None:
        """Return what it computes until its next waking; None: nothing, or several batches."""
        raise NotImplementedError

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        raise NotImplementedError

    def queue(self) -> tuple[int, int, float]:
        """How many wait, how many run, and the share of the KV cache in use, now."""
        raise NotImplementedError

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of a prompt, without its last one, that the prefix cache has now."""
        raise NotImplementedError

    def unsettled(self) -> bool:
        """Tell whether these tokens are also of somebody who has left, until the step has ended."""
        return len(self.aborted) > 0

    def reached_s(self) -> float:
        """Return how far it has come."""
        raise NotImplementedError

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
        raise NotImplementedError

    def _ended_until_now(self, number: int) -> int:
        """Count the steps in the journal that ended until now: of this instant, if ``number`` had
        its turn."""
        agenda, journal = self.agenda, self.journal
        now_s, ends_s = agenda.now_s, journal.step_end_s
        if agenda.turn_s == now_s and agenda.turn > number:
            return bisect_right(ends_s, now_s, journal.steps)
        return bisect_left(ends_s, now_s, journal.steps)

    def _queue_after(self, ended: int) -> tuple[int, int, float]:
        """See ``queue``; so many steps of the run under way are not completed yet."""
        scheduler = self.scheduler
        pool = scheduler.pool
        free = pool.free - (scheduler.decoding.blocks_needed_after(ended) if ended else 0)
        waiting = scheduler.waiting.count + len(scheduler.arrived)
        running = len(scheduler.running) - len(scheduler.leaving)
        return waiting, running, 1.0 - free / pool.num_blocks
