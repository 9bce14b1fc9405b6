"""One engine on one tensor-parallel group: the main loop of the simulation."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from math import inf

from simpy.events import Event

from hardware.step_cost import StepCost
from sim.clock import NORMAL, Clock
from sim.express import express, goes_express
from sim.recorder import ReplicaRecorder
from sim.scheduler import Scheduler
from sim.sequence import NOBODY, Batch, Sequence

OnFinish = Callable[[list[Sequence], int, float], None]
"""Told who finished, on which replica, and when."""


class Replica:
    """Asks its scheduler for a batch, waits as long as the batch takes, completes it; for ever.

    While a decode batch cannot change, many steps are priced at once and slept through. An arrival
    that could join ends such a run with the step in progress: one that is known beforehand
    (``arrivals``) bounds the run, one that comes by surprise (``submit``) cuts it short. Results
    are those of going step by step, to the bit.
    """

    def __init__(
        self,
        number: int,
        clock: Clock,
        scheduler: Scheduler,
        price: StepCost,
        recorder: ReplicaRecorder,
        on_finish: OnFinish,
        arrivals: Iterator[Sequence],
    ) -> None:
        self.number = number
        self.clock = clock
        self.scheduler = scheduler
        self.price = price
        self.recorder = recorder
        self.on_finish = on_finish
        self._goes_express = goes_express(scheduler)
        self.arrivals = arrivals
        self.arrival = next(arrivals, NOBODY)
        """Who comes next."""
        self.aborted: list[Sequence] = []
        """Whom the scheduler still has, though nobody wants them: until the step has ended."""
        self.wake: Event | None = None  # what is waited for while asleep
        self._wake_s = 0.0
        # Of the batch under way, for others to see while this replica is asleep:
        self.batch: Batch | None = None
        self.start_s = 0.0
        self._priority = NORMAL + number  # at one instant, replicas go by their numbers
        clock.process(self.run())

    def run(self) -> Generator[Event, None, None]:
        """The main loop."""
        clock, scheduler, price, recorder = self.clock, self.scheduler, self.price, self.recorder
        ends_s = recorder.step_end_s
        yield self.sleep_until(0.0)
        self.wake, now_s, idle = None, 0.0, True
        self.take_arrivals(now_s)
        while True:
            if self._goes_express:
                now_s, idle = yield from express(self, now_s, idle)
            start_s, batch = now_s, scheduler.next_batch(now_s)
            if batch is None:
                now_s, idle = min(scheduler.wake_s, self.arrival.arrival_s), True
                if now_s <= start_s:  # it would be asked again and again, at the same time
                    raise ValueError(f"the scheduler waits for {now_s:g} s at {start_s:g} s")
            else:
                if batch.chunks or batch.preempted:
                    recorder.begin(batch, now_s)
                if idle:
                    start_s, idle = now_s + price.idle_start_s, False
                decodes, context = batch.decodes + batch.padding, batch.context_tokens
                if batch.chunks:
                    now_s = start_s + price.step_s(decodes, context, batch.chunks)
                    ends_s.append(now_s)
                else:
                    until_s = self.arrival.arrival_s if batch.open else inf
                    now_s = price.decode_ends_s(
                        start_s, decodes, context, batch.growth, batch.steps, until_s, ends_s
                    )
            if not clock.skip_to(now_s):
                self.batch, self.start_s = batch, start_s
                yield self.sleep_until(now_s)
                self.wake, now_s = None, clock.now
            if self.arrival.arrival_s <= now_s:
                self.take_arrivals(now_s)
            if batch is not None:
                self._end(batch, start_s, now_s)

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        self.scheduler.admit(sequence)
        if self.wake is None:
            return
        if self.batch is None:
            self._wake_at(self.clock.now)
        elif self.batch.steps > 1 and self.batch.open:
            self._cut_short()

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if self.batch is None:
            self.scheduler.abort(sequence)
            self._wake_at(self.clock.now)
        else:
            self.aborted.append(sequence)
            self._cut_short()

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        tokens = self.scheduler.outstanding_tokens()
        if self.wake is not None and self.batch is not None:
            ended = self._steps_ended() - self.recorder.steps
            tokens += self.batch.decodes * ended
        return tokens

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
        self.take_arrivals(stop_s)
        if self.batch is None:
            return
        ends_s, begun = self.recorder.step_end_s, self.recorder.steps
        del ends_s[bisect_right(ends_s, stop_s, begun) :]
        if len(ends_s) > begun:
            self._end(self.batch, self.start_s, ends_s[-1])

    def take_arrivals(self, now_s: float) -> None:
        """Admit everybody who has come until now."""
        sequence = self.arrival
        while sequence.arrival_s <= now_s and sequence is not NOBODY:
            self.scheduler.admit(sequence)
            sequence = next(self.arrivals, NOBODY)
        self.arrival = sequence

    def drop_aborted(self) -> None:
        """The step has ended: let go of those whom nobody wants any more."""
        for sequence in self.aborted:
            self.scheduler.abort(sequence)
            self.recorder.left(sequence)
        self.aborted.clear()

    def _end(self, batch: Batch, start_s: float, end_s: float) -> None:
        """The batch under way has ended."""
        finished = self.recorder.end(batch, self.scheduler, start_s, end_s, self.aborted)
        self.aborted.clear()
        if finished:
            self.on_finish(finished, self.number, end_s)

    def _cut_short(self) -> None:
        """End a run of steps with the one that is in progress."""
        ends_s = self.recorder.step_end_s
        del ends_s[self._steps_ended() + 1 :]
        self._wake_at(ends_s[-1])

    def _steps_ended(self) -> int:
        """Count the steps that ended until now: of this instant, if it was this replica's turn."""
        clock, recorder = self.clock, self.recorder
        had_its_turn = clock.turn_s == clock.now and clock.turn > self.number
        bisect = bisect_right if had_its_turn else bisect_left
        return bisect(recorder.step_end_s, clock.now, recorder.steps)

    def sleep_until(self, time_s: float) -> Event:
        """Return what to wait for: others can move it to an earlier time."""
        self._wake_s = time_s
        at_all = time_s < inf
        wake = self.clock.at(time_s, self._priority) if at_all else Event(self.clock)
        self.wake = wake
        return wake

    def _wake_at(self, time_s: float) -> None:
        """Wake up earlier than planned."""
        if time_s < self._wake_s:
            assert self.wake is not None
            self._wake_s = time_s
            self.wake = self.clock.move(self.wake, time_s, self._priority)
