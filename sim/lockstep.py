"""The data-parallel ranks of one engine on the simulation's clock: they wake and sleep together."""

from bisect import bisect_right

from sim.clock import NORMAL, Clock
from sim.engine.agenda import Sleeper
from sim.engine.lockstep import Lockstep
from sim.engine.loop import Loop
from sim.engine.sequence import Sequence
from sim.replica import queue_of, steps_ended


class Rank:
    """One of them, to whom requests are sent and of whom they are taken back.

    Args:
        loop: its own.
        together: all of them.
        sleeper: who wakes all of them.
        clock: of the simulation.
    """

    def __init__(self, loop: Loop, together: Lockstep, sleeper: Sleeper, clock: Clock) -> None:
        self.number = loop.number
        self.loop = loop
        self.scheduler = loop.scheduler
        self.journal = loop.journal
        self._together, self._sleeper, self._clock = together, sleeper, clock

    def submit(self, sequence: Sequence) -> None:
        """Take a request, now."""
        self.scheduler.admit(sequence)
        if not self._sleeper.asleep:
            return
        batch = self.loop.batch
        if batch is None:
            self._sleeper.wake_at(self._clock.now)
        elif self._together.steps > 1 and batch.open:
            self._cut_short()

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if self.loop.batch is None:
            self.scheduler.abort(sequence)
            self._sleeper.wake_at(self._clock.now)
        else:
            self.loop.aborted.append(sequence)
            self._cut_short()

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        tokens, batch = self.scheduler.outstanding_tokens(), self.loop.batch
        if batch is not None:
            tokens += batch.decodes * self._ended()
        return tokens

    def tell(self, sequence: Sequence) -> None:
        """The blocks of one that loads are filled, or of one that has ended were read, now."""
        self.scheduler.tell(sequence)
        if not self._sleeper.asleep:
            return
        if self.loop.batch is None:
            self._sleeper.wake_at(self._clock.now)
        elif self._together.steps > 1:
            self._cut_short()

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of a prompt, without its last one, that the prefix cache has now."""
        ended = self._ended()
        if self._sleeper.asleep and self.loop.batch is not None and self._together.steps > 1:
            self._cut_short()
        return self.scheduler.look(sequence, ended)

    def steps_ended(self) -> int:
        """Count the steps of the run under way that ended until now."""
        return self._ended()

    def queue(self) -> tuple[int, int, float]:
        """How many wait, how many run, and the share of the KV cache in use, now."""
        return queue_of(self.scheduler, self._ended())

    def unsettled(self) -> bool:
        """Tell whether these tokens are also of somebody who has left, until the step has ended."""
        return bool(self.loop.aborted)

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

    def _ended(self) -> int:
        """Steps of the run under way that have ended."""
        if not self._sleeper.asleep or self.loop.batch is None:
            return 0
        ended = steps_ended(self._clock, self.journal, self._together.loops[0].number)
        return ended - self.journal.steps

    def _cut_short(self) -> None:
        """End the run of steps of all ranks with the one that is in progress."""
        kept = self._ended() + 1
        for loop in self._together.loops:
            del loop.journal.step_end_s[loop.journal.steps + kept :]
        self._sleeper.wake_at(self.journal.step_end_s[-1])


def ranks_on(clock: Clock, together: Lockstep) -> list[Rank]:
    """Let ranks go on together on a clock; return them."""
    # At one instant, replicas go by their numbers.
    sleeper = Sleeper(clock.agenda, together, NORMAL + together.loops[0].number)
    sleeper.sleep_until(0.0)
    return [Rank(loop, together, sleeper, clock) for loop in together.loops]
