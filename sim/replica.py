"""One engine on one tensor-parallel group: the main loop of the simulation."""

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, MutableSequence
from math import inf

from simpy.events import Event

from hardware.step_cost import StepCost
from sim.clock import NORMAL, Clock
from sim.recorder import ReplicaRecorder
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence

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
        self._arrivals = arrivals
        self._next = next(arrivals, None)
        self._next_s = inf if self._next is None else self._next.arrival_s
        self.aborted: list[Sequence] = []
        """Whom the scheduler still has, though nobody wants them: until the step has ended."""
        self._batch: Batch | None = None
        self._start_s = 0.0
        self._ends_s: MutableSequence[float] = []
        self._wake: Event | None = None  # what is waited for while asleep
        self._wake_s = 0.0
        self._priority = NORMAL + number  # at one instant, replicas go by their numbers
        clock.process(self.run())

    def run(self) -> Generator[Event, None, None]:
        """The main loop."""
        clock, scheduler, price = self.clock, self.scheduler, self.price
        yield self._sleep_until(0.0)
        self._wake, now_s = None, 0.0
        while True:
            if self._next_s <= now_s:
                self._take_arrivals(now_s)
            ended = self._batch
            if ended is not None:
                self._end(ended)
            self._batch = batch = scheduler.next_batch(now_s)
            if batch is None:
                wake_s = min(scheduler.wake_s, self._next_s)
            else:
                if batch.prefills or batch.preempted:
                    self.recorder.begin(batch, now_s)
                start_s = now_s if ended is not None else now_s + price.idle_start_s
                rows, chunks = batch.decodes + batch.padding, batch.chunks
                if chunks:
                    wake_s = start_s + price.step_s(rows, batch.context_tokens, chunks)
                    self._ends_s = [wake_s]
                else:
                    until_s = self._next_s if scheduler.has_seats() else inf
                    self._ends_s = price.decode_ends_s(
                        start_s, rows, batch.context_tokens, batch.growth, batch.steps, until_s
                    )
                    wake_s = self._ends_s[-1]
                self._start_s = start_s
            if clock.skip_to(wake_s):
                now_s = wake_s
            else:
                yield self._sleep_until(wake_s)
                self._wake, now_s = None, clock.now

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        scheduler = self.scheduler
        cuts_short = len(self._ends_s) > 1 and scheduler.has_seats()
        scheduler.admit(sequence)
        if self._wake is None:
            return
        if self._batch is None:
            self._wake_at(self.clock.now)
        elif cuts_short:
            self._cut_short()

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if self._batch is None:
            self.scheduler.abort(sequence)
            self._wake_at(self.clock.now)
        else:
            self.aborted.append(sequence)
            self._cut_short()

    def _cut_short(self) -> None:
        """End a run of steps with the one that is in progress."""
        ends_s = self._ends_s
        del ends_s[bisect_left(ends_s, self.clock.now) + 1 :]
        self._wake_at(ends_s[-1])

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        tokens = self.scheduler.prompt_tokens + self.scheduler.generated_tokens
        if self._batch is not None and self._batch.steps > 1:
            tokens += self._batch.decodes * bisect_left(self._ends_s, self.clock.now)
        return tokens

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
        self._take_arrivals(stop_s)
        if self._batch is not None and self._ends_s[0] <= stop_s:
            self._ends_s = [end_s for end_s in self._ends_s if end_s <= stop_s]
            self._end(self._batch)

    def _take_arrivals(self, now_s: float) -> None:
        """Admit everybody who has come until now."""
        admit, sequence = self.scheduler.admit, self._next
        while sequence is not None and sequence.arrival_s <= now_s:
            admit(sequence)
            sequence = next(self._arrivals, None)
        self._next = sequence
        self._next_s = inf if sequence is None else sequence.arrival_s

    def _end(self, batch: Batch) -> None:
        self._batch = None
        ends_s = self._ends_s
        finished = self.recorder.end(batch, self.scheduler, self._start_s, ends_s)
        if finished:
            self.on_finish(finished, self.number, ends_s[-1])
        if self.aborted:
            for sequence in self.aborted:
                if self.scheduler.abort(sequence):
                    self.recorder.left(sequence)
            self.aborted.clear()

    def _sleep_until(self, time_s: float) -> Event:
        self._wake_s = time_s
        at_all = time_s < inf
        wake = self.clock.at(time_s, self._priority) if at_all else Event(self.clock)
        self._wake = wake
        return wake

    def _wake_at(self, time_s: float) -> None:
        """Wake up earlier than planned."""
        if time_s < self._wake_s:
            assert self._wake is not None
            self._wake_s = time_s
            self._wake = self.clock.move(self._wake, time_s, self._priority)
