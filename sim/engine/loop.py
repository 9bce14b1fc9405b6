"""The main loop of one engine: ask the scheduler, let the machine compute the batch, complete it.

While a decode batch cannot change, many steps are priced at once. An arrival that could join ends
such a run with the step in progress: one that is known beforehand (``arrivals``) bounds the run,
one that comes by surprise makes the owner cut it short. Results are those of going step by step,
to the bit.
"""

from collections.abc import Callable
from math import inf

from sim.engine.agenda import Agenda, GoesOn
from sim.engine.arrivals import Coming
from sim.engine.gauge import Gauge
from sim.engine.journal import Journal
from sim.engine.machine import Machine
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import NOBODY, Batch, Sequence

OnFinish = Callable[[list[Sequence], int, float], None]
"""Told who finished, on which replica, and when."""


class Loop(GoesOn):
    """One engine that goes on until something else is due, and says when to be woken.

    Args:
        number: the replica's.
        scheduler: whose batches are computed.
        machine: what computes them.
        idle_start_s: before the first step after idling.
        journal: where it is noted.
        arrivals: who comes when, as far as it is known beforehand.
        agenda: what is going to happen elsewhere.
        on_finish: told of those who finish.
    """

    def __init__(
        self,
        number: int,
        scheduler: Scheduler,
        machine: Machine,
        idle_start_s: float,
        journal: Journal,
        arrivals: Coming,
        agenda: Agenda,
        on_finish: OnFinish,
    ) -> None:
        super().__init__()
        self.number = number
        self.scheduler = scheduler
        self.machine = machine
        self.idle_start_s = idle_start_s
        self.journal = journal
        self.arrivals = arrivals
        self.arrival = arrivals.take()
        """Who comes next."""
        self.agenda = agenda
        self.on_finish = on_finish
        self.gauge: Gauge | None = None
        """Its metrics, if anybody looks at them."""
        self.aborted: list[Sequence] = []
        """Whom the scheduler still has, though nobody wants them: until the step has ended."""
        self.batch: Batch | None = None
        """What is computed until the next waking; None: nothing, it is idle."""
        self.start_s = 0.0
        """When that began."""

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``, when the batch under way ends; return when to be woken.

        That is when a step ends behind which something else is due, or which ends after ``stop_s``.

        Raises:
            ValueError: the scheduler wants to be asked again in the past, or forms steps of nobody:
                with either it would go on for ever.
        """
        scheduler, machine, journal = self.scheduler, self.machine, self.journal
        ends_s = journal.step_end_s
        while True:
            self.now_s = now_s
            if self.arrival.arrival_s <= now_s:
                self.take_arrivals(now_s)
            # Complete what was computed until now, and ask for what is computed next.
            batch = self.batch
            idle = batch is None
            if batch is not None:
                self.end(batch, self.start_s, now_s)
            batch, start_s = scheduler.next_batch(now_s), now_s
            if self.gauge is not None:
                self._planned(self.gauge, now_s, idle)
            # When does that end: one step, or many that are alike; or when does somebody come?
            if batch is None:
                now_s = min(scheduler.wake_s, self.arrival.arrival_s)
                if now_s <= start_s:
                    raise ValueError(f"the scheduler waits for {now_s:g} s at {start_s:g} s")
            else:
                if batch.chunks or batch.preempted or batch.held_back:
                    journal.begin(batch, now_s)
                if idle:
                    start_s += self.idle_start_s
                if not batch.chunks and not batch.decodes + batch.padding:
                    raise ValueError(f"the scheduler formed a step of nobody at {now_s:g} s")
                until_s = batch.until_s
                if batch.open and self.arrival.arrival_s < until_s:
                    until_s = self.arrival.arrival_s
                now_s = machine.compute(batch, start_s, until_s, ends_s)
            self.batch, self.start_s = batch, start_s
            # Go on behind it, unless something else happens before.
            if now_s > stop_s or now_s == inf or now_s >= self.agenda.next_s():
                return now_s

    def take_arrivals(self, now_s: float) -> None:
        """Admit everybody who has come until now."""
        sequence = self.arrival
        while sequence.arrival_s <= now_s and sequence is not NOBODY:
            self.scheduler.admit(sequence)
            sequence = self.arrivals.take()
        self.arrival = sequence

    def end(self, batch: Batch, start_s: float, end_s: float) -> None:
        """The batch under way has ended."""
        self.batch = None
        gauge = self.gauge
        if gauge is not None:
            gauge.ending(end_s, self.journal.steps)
        finished = self.journal.end(batch, self.scheduler, start_s, end_s, self.aborted)
        if self.aborted:
            self.aborted.clear()
        if gauge is not None and not self.scheduler.ahead:
            gauge.ended(end_s)
        if finished:
            self.on_finish(finished, self.number, end_s)

    def _planned(self, gauge: Gauge, now_s: float, idle: bool) -> None:
        """The next batch is formed, at the moment at which one ended, if none was ``idle``."""
        gauge.came.clear()
        if self.scheduler.ahead and not idle:
            gauge.ended(now_s)
