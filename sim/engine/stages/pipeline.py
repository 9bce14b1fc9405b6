"""The main loop of an engine with pipeline stages: several batches are under way, one per stage.

::

    stage 1   |- a1 -|- b1 -|- a2 -|- b2 -|           a and b: requests that decode
    stage 2          |- a1 -|- b1 -|- a2 -|- b2 -|

As in vLLM's engine core (``EngineCore.step_with_batch_queue``): while the queue of batches has
room, the scheduler is asked for another one; then one waits for the oldest. Whoever arrives in the
meantime is seen when that has ended. A batch passes the stages in order, each of which computes one
at a time. A scheduler may plan steps of nobody; they take no time, and a place in the queue.
"""

from collections import deque
from collections.abc import Callable
from math import inf

from hardware.steps.prices import StepPrices
from sim.engine.agenda import Agenda, GoesOn
from sim.engine.gauge import Gauge
from sim.engine.sequence import Sequence
from sim.engine.stages.pipelined_journal import PipelinedJournal
from sim.engine.stages.pipelined_prefill import PipelinedBatch, PipelinedPrefill


class Stages:
    """What computes the batches: one stage after the other, each busy with one of them.

    Args:
        prices: of every stage.
        places: of every stage, which classes of cache its own ones are.
        return_s: until the first stage has the tokens of the last one.
    """

    def __init__(self, prices: list[StepPrices], places: list[list[int]], return_s: float) -> None:
        self.prices = prices
        self.places = places
        self.return_s = return_s
        self.free_s = [0.0] * len(prices)

    def compute(self, batch: PipelinedBatch, start_s: float) -> None:
        """Say when a batch is in the first stage that may begin at ``start_s``, and when it is
        done."""
        decodes, reads, chunks = batch.decodes, batch.reads, batch.chunks
        end_s = max(start_s, self.free_s[0])
        batch.start_s = end_s
        for place, prices in enumerate(self.prices):
            own = [reads[each] for each in self.places[place]]
            end_s = max(end_s, self.free_s[place]) + prices.step_s(decodes, own, chunks)
            self.free_s[place] = end_s
        batch.end_s = end_s


class Pipeline(GoesOn):
    """One engine that goes on until something else is due, and says when to be woken.

    Args:
        number: the replica's.
        scheduler: whose batches are computed.
        stages: what computes them.
        batches: that the queue holds.
        fills: whether steps of nobody fill the queue before anybody waits for the oldest batch.
        idle_start_s: before the first step after idling.
        first_s: before the very first one, besides.
        journal: where it is noted.
        agenda: what is going to happen elsewhere.
        on_finish: told who finished, on which replica, and when.
    """

    def __init__(
        self,
        number: int,
        scheduler: PipelinedPrefill,
        stages: Stages,
        batches: int,
        fills: bool,
        idle_start_s: float,
        first_s: float,
        journal: PipelinedJournal,
        agenda: Agenda,
        on_finish: Callable[[list[Sequence], int, float], None],
    ) -> None:
        super().__init__()
        self.number = number
        self.scheduler = scheduler
        self.stages = stages
        self.batches = batches
        self.fills = fills
        self.idle_start_s = idle_start_s
        self.first_s = first_s
        self.journal = journal
        self.agenda = agenda
        self.on_finish = on_finish
        self.gauge: Gauge | None = None
        """Nobody looks at its metrics."""
        self.aborted: list[Sequence] = []
        """Whom the scheduler still has, though nobody wants them: until the oldest step has
        ended."""
        self.queue: deque[PipelinedBatch | None] = deque()
        """Batches under way, the oldest first; None: a step of nobody."""
        self.under_way = 0
        """How many of them are of somebody."""
        self._told_s = deque([-inf] * scheduler.spacing)  # when tokens of the last steps are known

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``, when the oldest step ends; return when to be woken.

        That is when a step ends behind which something else is due, or which ends after ``stop_s``.

        Raises:
            ValueError: the scheduler plans steps of nobody, though requests wait and nothing is
                under way: it would do so for ever.
        """
        while True:
            self.now_s = now_s
            now_s = self._plan(now_s)
            if now_s > stop_s or now_s == inf or now_s >= self.agenda.next_s():
                return now_s

    def _plan(self, now_s: float) -> float:
        """End what ends now, and plan steps; return when the oldest one ends."""
        queue, scheduler, nobody = self.queue, self.scheduler, 0
        if queue and (oldest := queue[0]) is not None:
            if oldest.end_s > now_s:
                return oldest.end_s
            self._end(oldest)
        while True:
            if scheduler.busy():
                batch = scheduler.next_batch(now_s)
                queue.append(batch)
                if batch is not None:
                    self._begin(batch, now_s)
                    nobody = 0
                else:
                    nobody += 1
                    self._pass_by()
                    if nobody > 2 * (self.batches + scheduler.spacing) and not self.under_way:
                        raise ValueError(f"the scheduler plans steps of nobody at {now_s:g} s")
                if len(queue) < self.batches and self._goes_on(batch, now_s):
                    continue
            elif not queue:
                return inf
            oldest = queue[0]
            if oldest is None:
                queue.popleft()
            elif oldest.end_s <= now_s:
                self._end(oldest)
            else:
                return oldest.end_s

    def _goes_on(self, batch: PipelinedBatch | None, now_s: float) -> bool:
        """Whether another step is planned behind this one, before anybody waits for the oldest."""
        if self.fills:
            return batch is not None or self.scheduler.busy()
        oldest = self.queue[0]
        return batch is not None and oldest is not None and oldest.end_s > now_s

    def _begin(self, batch: PipelinedBatch, now_s: float) -> None:
        """A step is planned: it passes the stages as soon as they, and its tokens, are there."""
        if not self.under_way:
            now_s += self.idle_start_s
        now_s += self.first_s
        self.first_s = 0.0
        told_s = self._told_s
        if told_s:
            now_s = max(now_s, told_s.popleft())
        self.stages.compute(batch, now_s)
        if spacing := self.scheduler.spacing:
            tells = _tells(batch, spacing)
            told_s.append(batch.end_s + self.stages.return_s if tells else -inf)
        self.under_way += 1
        self.journal.begin(batch, batch.start_s)

    def _pass_by(self) -> None:
        """A step of nobody: it brings no token, and steps are counted by it."""
        if self.scheduler.spacing > 1:
            self._told_s.popleft()
            self._told_s.append(-inf)

    def _end(self, batch: PipelinedBatch) -> None:
        """The oldest step has ended."""
        self.queue.popleft()
        self.under_way -= 1
        finished = self.journal.end(batch, self.scheduler, batch.start_s, batch.end_s, self.aborted)
        self.aborted.clear()
        if finished:
            self.on_finish(finished, self.number, batch.end_s)


def _tells(batch: PipelinedBatch, spacing: int) -> bool:
    """Whether the first stage is told of any token of a step: where steps are spaced, of those that
    are the input of a later one."""
    if batch.decoders:
        return True
    for place, sequence in enumerate(batch.prefills):
        goes_on = sequence.generated_tokens + 1 < sequence.output_tokens
        if batch.produces[place] and (goes_on or spacing == 1):
            return True
    return False
