"""One engine on one tensor-parallel group: the main loop of the simulation."""

from bisect import bisect_left
from collections import deque
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

    With ``plans_ahead`` (vLLM's async scheduling) a batch is formed when the step before it starts:
    it holds nobody who arrived since. An engine that finds nothing planned looks again at once::

        step          |---- n ----|--- n+1 ---|--- n+2 ---|
        formed        n+1         n+2
        arrival              x                 is in n+2 at the earliest (n+1 otherwise)
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
        plans_ahead: bool = False,
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
        self._inbox: deque[Sequence] = deque()  # who was submitted and is not yet seen
        self._plans_ahead = plans_ahead
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
            seen_s, ended = now_s, self._batch
            if ended is not None and self._plans_ahead:
                seen_s = self._last_start_s()
            if self._next_s <= seen_s or self._inbox:
                self._take_arrivals(seen_s)
            if ended is not None:
                self._end(ended)
                if self._inbox:  # a user without think time who was just answered
                    self._take_arrivals(seen_s)
            batch = scheduler.next_batch(now_s)
            if batch is None and seen_s < now_s:  # nothing was planned
                ended = None
                self._take_arrivals(now_s)
                batch = scheduler.next_batch(now_s)
            self._batch = batch
            if batch is None:
                wake_s = min(scheduler.wake_s, self._next_s)
            else:
                if batch.prefills or batch.preempted:
                    self.recorder.begin(batch, now_s)
                self._start_s = now_s if ended is not None else now_s + price.idle_start_s
                self._ends_s = self._price(batch)
                wake_s = self._ends_s[-1]
            if clock.skip_to(wake_s):
                now_s = wake_s
            else:
                yield self._sleep_until(wake_s)
                self._wake, now_s = None, clock.now

    def _price(self, batch: Batch) -> MutableSequence[float]:
        """Return the ends of the batch's steps, as many as may follow each other."""
        price, start_s = self.price, self._start_s
        rows = batch.decodes + batch.padding
        if batch.chunks:
            return [start_s + price.step_s(rows, batch.context_tokens, batch.chunks)]
        context, growth, steps = batch.context_tokens, batch.growth, batch.steps
        if not self.scheduler.has_seats():
            return price.decode_ends_s(start_s, rows, context, growth, steps, inf)
        if self._inbox or self._next_s <= start_s:  # they are seen when this step ends
            return price.decode_ends_s(start_s, rows, context, growth, 1, inf)
        ends_s = price.decode_ends_s(start_s, rows, context, growth, steps, self._next_s)
        done = len(ends_s)
        if self._plans_ahead and done < steps and ends_s[-1] >= self._next_s:
            context += done * growth
            ends_s.append(price.decode_ends_s(ends_s[-1], rows, context, growth, 1, inf)[0])
        return ends_s

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        self._inbox.append(sequence)
        if self._wake is None:
            return
        if self._batch is None:
            self._wake_at(self.clock.now)
        elif len(self._ends_s) > 1 and self.scheduler.has_seats():
            self._cut_short(1 + self._plans_ahead)

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the step in progress has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if sequence in self._inbox:
            self._inbox.remove(sequence)
        elif self._batch is None:
            self.scheduler.abort(sequence)
            self._wake_at(self.clock.now)
        else:
            self.aborted.append(sequence)
            self._cut_short(1)

    def _cut_short(self, steps: int) -> None:
        """Let a run of steps end with the ``steps``-th from the one in progress."""
        ends_s = self._ends_s
        del ends_s[bisect_left(ends_s, self.clock.now) + steps :]
        self._wake_at(ends_s[-1])

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        tokens = self.scheduler.prompt_tokens + self.scheduler.generated_tokens
        tokens += sum(sequence.prompt_tokens for sequence in self._inbox)
        if self._batch is not None and self._batch.steps > 1:
            tokens += self._batch.decodes * bisect_left(self._ends_s, self.clock.now)
        return tokens

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
        self._take_arrivals(stop_s)
        if self._batch is not None and self._ends_s[0] <= stop_s:
            self._ends_s = [end_s for end_s in self._ends_s if end_s <= stop_s]
            self._end(self._batch)

    def _last_start_s(self) -> float:
        """When the last of the steps that end now started."""
        ends_s = self._ends_s
        return ends_s[-2] if len(ends_s) > 1 else self._start_s

    def _take_arrivals(self, seen_s: float) -> None:
        """Admit everybody who has come until ``seen_s``."""
        admit, inbox, sequence = self.scheduler.admit, self._inbox, self._next
        while inbox and inbox[0].arrival_s <= seen_s:
            admit(inbox.popleft())
        while sequence is not None and sequence.arrival_s <= seen_s:
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
