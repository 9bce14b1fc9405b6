"""One engine on one tensor-parallel group, as a process on the simulation's clock."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from sim.clock import NORMAL, Clock
from sim.engine.agenda import Agenda, Sleeper
from sim.engine.journal import Journal
from sim.engine.loop import Loop
from sim.engine.machine import Machine
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence

OnFinish = Callable[[list[Sequence], int, float], None]
"""Told who finished, on which replica, and when."""


class Replica:
    """Goes on by itself (``sim.engine.loop``) while nothing else is due, else sleeps until then.

    While it is asleep, a request can come by surprise or be given up: the run of steps under way is
    then cut short. One that is ``alone`` knows all its requests beforehand, and is on no clock.
    """

    def __init__(
        self,
        number: int,
        clock: Clock,
        scheduler: Scheduler,
        machine: Machine,
        idle_start_s: float,
        journal: Journal,
        on_finish: OnFinish,
        arrivals: Iterator[Sequence],
        *,
        alone: bool = False,
    ) -> None:
        self.number = number
        self.clock = clock
        self.scheduler = scheduler
        self.journal = journal
        agenda = Agenda([], iter(())) if alone else clock.agenda
        self.loop = Loop(
            number, scheduler, machine, idle_start_s, journal, arrivals, agenda, on_finish
        )
        # At one instant, replicas go by their numbers.
        self._sleeper = Sleeper(agenda, self.loop, NORMAL + number)
        if not alone:
            self._sleeper.sleep_until(0.0)

    def run_alone(self, stop_s: float) -> None:
        """Go through all that was known beforehand, up to the last moment of the simulation."""
        self.loop.go_on(0.0, stop_s)

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        self.scheduler.admit(sequence)
        if self.loop.gauge is not None:
            self.loop.gauge.came.append(self.steps_ended())
        if not self._sleeper.asleep:
            return
        batch = self.loop.batch
        if batch is None:
            self._sleeper.wake_at(self.clock.now)
        elif batch.steps > 1 and batch.open:
            self._cut_short()

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if self.loop.batch is None:
            self.scheduler.abort(sequence)
            self._sleeper.wake_at(self.clock.now)
        else:
            self.loop.aborted.append(sequence)
            self._cut_short()

    def tell(self, sequence: Sequence) -> None:
        """The blocks of one that loads are filled, or of one that has ended were read, now."""
        self.scheduler.tell(sequence)
        if not self._sleeper.asleep:
            return
        if self.loop.batch is None:
            self._sleeper.wake_at(self.clock.now)
        elif self.loop.batch.steps > 1:
            self._cut_short()

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        tokens, batch = self.scheduler.outstanding_tokens(), self.loop.batch
        if self._sleeper.asleep and batch is not None:
            tokens += batch.decodes * (self._steps_ended() - self.journal.steps)
        return tokens

    def steps_ended(self) -> int:
        """Count the steps of the run under way that ended until now."""
        return self._steps_ended() - self.journal.steps

    def queue(self) -> tuple[int, int, float]:
        """How many wait, how many run, and the share of the KV cache in use, now."""
        asleep = self._sleeper.asleep and self.loop.batch is not None
        return queue_of(self.scheduler, self._steps_ended() - self.journal.steps if asleep else 0)

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of a prompt, without its last one, that the prefix cache has now."""
        ended, batch = 0, self.loop.batch
        if self._sleeper.asleep and batch is not None:
            ended = self._steps_ended() - self.journal.steps
            if batch.steps > 1:
                self._cut_short()
        return self.scheduler.look(sequence, ended)

    def unsettled(self) -> bool:
        """Tell whether these tokens are also of somebody who has left, until the step has ended."""
        return bool(self.loop.aborted)

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
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
        del ends_s[self._steps_ended() + 1 :]
        self._sleeper.wake_at(ends_s[-1])

    def _steps_ended(self) -> int:
        """Count the steps that ended until now: of this instant, if it was this replica's turn."""
        return steps_ended(self.clock, self.journal, self.number)


def steps_ended(clock: Clock, journal: Journal, number: int) -> int:
    """Count the steps of a replica that ended until now: of this instant, if it had its turn."""
    had_its_turn = clock.turn_s == clock.now and clock.turn > number
    bisect = bisect_right if had_its_turn else bisect_left
    return bisect(journal.step_end_s, clock.now, journal.steps)


def queue_of(scheduler: Scheduler, ended: int) -> tuple[int, int, float]:
    """Count who waits and who runs, and the share of blocks in use.

    ``ended`` steps of the run under way are not completed yet.
    """
    pool, decoding = scheduler.pool, scheduler.decoding
    free = pool.free - (decoding.blocks_needed_after(ended) if ended else 0)
    waiting = scheduler.waiting.count + len(scheduler.arrived)
    running = len(scheduler.running) - len(scheduler.leaving)
    return waiting, running, 1.0 - free / pool.num_blocks
