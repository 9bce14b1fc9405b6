"""Drives a scheduler through a case, one step at a time or as many as it allows, into a log."""

from collections.abc import Iterator
from math import ceil, inf
from typing import NamedTuple

from sim.conformance.cases import TICK_S, Case
from sim.conformance.error import ConformanceError
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence

STUCK = "never stuck"
ABORTS = "an abort frees blocks"


class Step(NamedTuple):
    """What one step computed."""

    tick: int
    decodes: int
    padding: int
    chunks: tuple[tuple[int, int, int], ...]
    """Request, tokens and past of each, in order."""
    preempted: tuple[int, ...]
    finished: tuple[int, ...]
    """Who got its last token in it, wanted or not."""


class Watch:
    """Looks at a scheduler around every step; this one sees nothing."""

    def formed(self, batch: Batch, running: list[Sequence]) -> None:
        """A batch has been formed; those ran before."""

    def completed(self) -> None:
        """Its steps have been computed."""

    def gone(self, sequence: Sequence) -> None:
        """It has been given up."""


def drive(
    case: Case, scheduler: Scheduler, *, many: bool, watch: Watch | None = None
) -> list[Step]:
    """Serve a case to its end, and return every step.

    ``many``: as many equal steps at once as the batch says, cut short as the simulator does: at an
    arrival if the batch is open, and when somebody is given up.

    Raises:
        ConformanceError: requests are left, and nothing is computed.
    """
    return _Drive(case, scheduler, many, watch or Watch()).run()


class _Drive:
    def __init__(self, case: Case, scheduler: Scheduler, many: bool, watch: Watch) -> None:
        self.case, self.scheduler, self.many, self.watch = case, scheduler, many, watch
        self.sequences = case.sequences()
        self.coming = list(range(len(case.rows)))
        self.in_flight: dict[int, Sequence] = {}
        self.gone: list[Sequence] = []
        self.log: list[Step] = []
        tokens = sum(row.prompt + row.output for row in case.rows)
        self.most = 50 * (tokens + 100)

    def run(self) -> list[Step]:
        """Return what was computed, step by step. Raises ConformanceError."""
        tick, scheduler, watch = 0, self.scheduler, self.watch
        while True:
            self._arrive(tick)
            for sequence in self._given_up(tick):
                self._abort(sequence)
            running = list(scheduler.running)
            batch = scheduler.next_batch(tick * TICK_S)
            self._check_gone()
            if batch is None:
                then = self._next(tick)
                if then == inf:
                    break
                tick = int(then)
                continue
            watch.formed(batch, running)
            self._check_progress(batch)
            steps = self._steps(batch, tick) if self.many else 1
            before = self._steps_of(batch, tick, steps)
            self._arrive(tick + steps)
            gone = list(self._given_up(tick + steps))
            finished = scheduler.complete(batch, steps, gone)
            self._log(before, finished)
            tick += steps
            for sequence in (*finished, *gone):
                self.in_flight.pop(sequence.request, None)
            self.gone += gone
            watch.completed()
        if self.in_flight:
            who = ", ".join(map(str, sorted(self.in_flight)))
            raise ConformanceError(STUCK, f"requests {who} wait, and no step is formed any more")
        return self.log

    def _arrive(self, tick: int) -> None:
        while self.coming and self.case.rows[self.coming[0]].arrival <= tick:
            number = self.coming.pop(0)
            self.in_flight[number] = self.sequences[number]
            self.scheduler.admit(self.sequences[number])

    def _given_up(self, tick: int) -> Iterator[Sequence]:
        for number, sequence in list(self.in_flight.items()):
            leaves = self.case.rows[number].leaves
            if leaves is not None and leaves <= tick:
                yield sequence

    def _abort(self, sequence: Sequence) -> None:
        if not self.scheduler.abort(sequence):
            raise ConformanceError(
                ABORTS,
                f"request {sequence.request} is here, abort() says it is not",
            )
        del self.in_flight[sequence.request]
        self.gone.append(sequence)
        self.watch.gone(sequence)

    def _check_gone(self) -> None:
        """Whoever was given up is nowhere any more: ahead, as soon as the next plan is made."""
        scheduler = self.scheduler
        for each in self.gone:
            runs = each in scheduler.running and each not in scheduler.padding
            if runs or each.waits:
                raise ConformanceError(ABORTS, f"request {each.request} was given up, and stays")
        self.gone.clear()

    def _next(self, tick: int) -> float:
        """The tick at which there may be something to do again."""
        rows = self.case.rows
        times = [rows[number].arrival for number in self.coming[:1]]
        times += [ceil(self.scheduler.wake_s / TICK_S)] if self.scheduler.wake_s < inf else []
        leaving = [rows[number].leaves for number in self.in_flight]
        times += [leaves for leaves in leaving if leaves is not None]
        then = min(times, default=inf)
        if then <= tick:
            raise ConformanceError(STUCK, f"it waits for tick {then} at tick {tick}")
        return then

    def _steps(self, batch: Batch, tick: int) -> int:
        rows, steps = self.case.rows, batch.steps
        if batch.until_s < inf:
            steps = min(steps, max(1, ceil(batch.until_s / TICK_S) - tick))
        if self.coming and batch.open:
            steps = min(steps, rows[self.coming[0]].arrival - tick)
        leaving = [rows[number].leaves for number in (*self.in_flight, *self.coming)]
        return min([steps, *(each - tick for each in leaving if each is not None and each > tick)])

    def _check_progress(self, batch: Batch) -> None:
        if not batch.chunks and not batch.decodes + batch.padding:
            raise ConformanceError(STUCK, "a step of nobody was formed")
        if len(self.log) > self.most:
            raise ConformanceError(STUCK, f"no end after {self.most} steps")

    def _steps_of(self, batch: Batch, tick: int, steps: int) -> list[Step]:
        prefills = zip(batch.prefills, batch.chunks, strict=True)
        chunks = tuple((each.request, *chunk) for each, chunk in prefills)
        preempted = tuple(each.request for each in batch.preempted)
        first = Step(tick, batch.decodes, batch.padding, chunks, preempted, ())
        later = first._replace(preempted=())
        return [first, *(later._replace(tick=tick + each) for each in range(1, steps))]

    def _log(self, steps: list[Step], finished: list[Sequence]) -> None:
        ended = tuple(sorted(each.request for each in finished))
        self.log += [*steps[:-1], steps[-1]._replace(finished=ended)]


def first_difference(one: list[Step], other: list[Step]) -> int | None:
    """Return the number of the first step that two logs do not share."""
    for number, pair in enumerate(zip(one, other, strict=False)):
        if pair[0] != pair[1]:
            return number
    return None if len(one) == len(other) else min(len(one), len(other))
