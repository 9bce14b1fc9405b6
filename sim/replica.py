"""One engine on one tensor-parallel group: the main loop of the simulation."""

from bisect import bisect_left
from collections.abc import Callable, Generator
from itertools import accumulate
from math import inf

from simpy.events import Event

from hardware.step_cost import StepCost
from sim.clock import NORMAL, Clock
from sim.recorder import ReplicaRecorder
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence

OnFinish = Callable[[Sequence, int, float], None]


class Replica:
    """Asks its scheduler for a batch, waits as long as the batch takes, completes it; for ever.

    While a decode batch cannot change, many steps are priced at once and slept through; an arrival
    that could join cuts the sleep short at the end of the step in progress. Results are those of
    going step by step, to the bit.
    """

    def __init__(
        self,
        number: int,
        clock: Clock,
        scheduler: Scheduler,
        price: StepCost,
        recorder: ReplicaRecorder,
        on_finish: OnFinish,
    ) -> None:
        self.number = number
        self.clock = clock
        self.scheduler = scheduler
        self.price = price
        self.recorder = recorder
        self.on_finish = on_finish
        self._requests = 0
        self._batch: Batch | None = None
        self._start_s = 0.0
        self._ends_s: list[float] = []
        self._wake_s = 0.0
        self._priority = NORMAL + number  # at one instant, replicas go by their numbers
        self._wake = clock.at(0.0, self._priority)
        clock.process(self.run())

    def run(self) -> Generator[Event, None, None]:
        """The main loop."""
        scheduler, clock = self.scheduler, self.clock
        yield self._wake
        while True:
            now_s = self._wake_s
            batch = scheduler.next_batch(now_s)
            if batch is None:
                self._wake_s = scheduler.wake_s
                ask_again = self._wake_s < inf
                self._wake = clock.at(self._wake_s, self._priority) if ask_again else Event(clock)
                yield self._wake
                continue
            self._begin(batch, now_s)
            self._wake_s = self._ends_s[-1]
            self._wake = clock.at(self._wake_s, self._priority)
            yield self._wake
            self._end(batch)

    def submit(self, sequence: Sequence) -> None:
        """Take a request from the router, now."""
        self._requests += 1
        scheduler, now_s = self.scheduler, self.clock.now
        can_join = scheduler.has_seats()
        scheduler.admit(sequence)
        if self._batch is None:
            self._wake_at(now_s)
        elif can_join and len(self._ends_s) > 1:
            steps = bisect_left(self._ends_s, now_s) + 1
            del self._ends_s[steps:]
            self._wake_at(self._ends_s[-1])

    def outstanding_requests(self) -> int:
        """Requests submitted and not finished."""
        return self._requests

    def outstanding_tokens(self) -> int:
        """Their prompt tokens, and those generated until now."""
        tokens = self.scheduler.prompt_tokens + self.scheduler.generated_tokens
        if self._batch is not None and self._batch.steps > 1:
            tokens += self._batch.decodes * bisect_left(self._ends_s, self.clock.now)
        return tokens

    def halt(self, stop_s: float) -> None:
        """Complete the steps that ended by ``stop_s``, the last moment of the simulation."""
        if self._batch is not None and self._ends_s[0] <= stop_s:
            self._ends_s = [end_s for end_s in self._ends_s if end_s <= stop_s]
            self._end(self._batch)

    def _begin(self, batch: Batch, now_s: float) -> None:
        self.recorder.begin(batch, now_s)
        rows = batch.decodes + batch.padding
        if batch.steps == 1:
            ends_s = [now_s + self.price.step_s(rows, batch.context_tokens, batch.chunks)]
        else:
            durations_s = self.price.decode_steps_s(
                rows, batch.context_tokens, batch.decodes, batch.steps
            )
            ends_s = list(accumulate(durations_s, initial=now_s))
            del ends_s[0]
        self._batch, self._start_s, self._ends_s = batch, now_s, ends_s

    def _end(self, batch: Batch) -> None:
        self._batch = None
        end_s = self._ends_s[-1]
        finished = self.recorder.end(batch, self.scheduler, self._start_s, self._ends_s)
        self._requests -= len(finished)
        for sequence in finished:
            self.on_finish(sequence, self.number, end_s)

    def _wake_at(self, time_s: float) -> None:
        if self._wake_s == time_s and self._wake.triggered:
            return
        self._wake_s = time_s
        self._wake = self.clock.move(self._wake, time_s, self._priority)
