"""Engines that compute every step together: the ranks of data-parallel attention.

Each has a scheduler, a cache and a journal of its own; a step begins when all have ended the one
before, and takes as long as all need (``hardware.steps.joint_prices``). Whoever has nothing to
compute computes a row for the others' sake, whose experts it holds a part of:

    rank 0   |--- step ---|- step -|-- dummy --|        |- step -|
    rank 1   |--- dummy --|- step -|-- dummy --|        |- dummy |
                                    sync: nobody has work left: all pause, until somebody has

vLLM calls what lies between two pauses a wave. Only after every ``sync_steps`` of its steps do the
ranks learn whether anybody has work left (vllm/v1/engine/core.py, ``DPEngineCoreProc``).
"""

from array import array
from math import inf
from typing import Final

from hardware.steps.joint_prices import JointPrices
from sim.engine.agenda import Agenda, GoesOn
from sim.engine.drafts.joint_drafts import JointDrafted
from sim.engine.loop import Loop
from sim.engine.scheduler import NEVER
from sim.engine.sequence import Batch, Sequence

CHUNKLESS: Final[list[tuple[int, int]]] = []


class Lockstep(GoesOn):
    """Loops that go on together until something else is due, and say when to be woken.

    Args:
        loops: of the ranks, in their order; they are driven from here.
        prices: of their steps.
        sync_steps: after so many steps of a wave all learn whether anybody has work left.
        syncs_first: and after its first one.
        idle_start_s: before the first step of a wave.
        agenda: what is going to happen elsewhere.
        drafted: prices of steps with drafts; None: there are none.
    """

    def __init__(
        self,
        loops: list[Loop],
        prices: JointPrices,
        sync_steps: int,
        syncs_first: bool,
        idle_start_s: float,
        agenda: Agenda,
        drafted: JointDrafted | None = None,
    ) -> None:
        super().__init__()
        self.drafted = drafted
        self.loops = loops
        self.prices = prices
        self.sync_steps = sync_steps
        self.syncs_first = syncs_first
        self.idle_start_s = idle_start_s
        self.agenda = agenda
        self.wave = 0
        """Steps of the wave so far; 0: all pause."""
        self.open = True
        """Whether the run of steps under way has to end early if somebody comes."""
        self.steps = 0
        """How many steps it has at most; 0: none is under way."""
        self._ends_s = array("d")
        rows = 0 if drafted is None else 1 + drafted.around.drafting.tokens
        self._dummies = [dummy(len(loop.scheduler.batch.reads), rows) for loop in loops]

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``, when the step under way ends; return when to be woken.

        That is when a step ends behind which something else is due, or which ends after ``stop_s``.

        Raises:
            ValueError: a scheduler wants to be asked again in the past, or forms steps of nobody.
        """
        while True:
            self.now_s = now_s
            if self.steps:
                self.end(now_s)
            wake_s = self._form(now_s)
            if wake_s == now_s:  # somebody has work, or a wave goes on
                start_s = now_s if self.wave else now_s + self.idle_start_s
                wake_s = self._compute(start_s)
            now_s = wake_s
            if now_s > stop_s or now_s == inf or now_s >= self.agenda.next_s():
                return now_s

    def end(self, end_s: float) -> None:
        """The steps under way have ended, for all ranks."""
        before, busy = self.wave, False
        ended: list[tuple[Loop, list[Sequence]]] = []
        for loop in self.loops:
            batch, journal, scheduler = loop.batch, loop.journal, loop.scheduler
            assert batch is not None
            self.wave = before + len(journal.step_end_s) - journal.steps
            finished = journal.end(batch, scheduler, loop.start_s, end_s, loop.aborted)
            loop.aborted.clear()
            loop.batch = None
            if finished:
                ended.append((loop, finished))
            busy = busy or _unfinished(loop)
        self.steps = 0
        synced = self.wave % self.sync_steps == 0 or (self.syncs_first and self.wave == 1)
        if synced and not busy:
            self.wave = 0
        for loop, finished in ended:
            loop.on_finish(finished, loop.number, end_s)

    def _form(self, now_s: float) -> float:
        """Let every rank form its batch; return now, or when to ask again if nobody has any."""
        wake_s, formed = inf, False
        for loop in self.loops:
            loop.now_s = now_s
            scheduler = loop.scheduler
            batch = scheduler.next_batch(now_s)
            loop.batch = batch
            if batch is None:
                if scheduler.wake_s <= now_s:
                    told = f"{scheduler.wake_s:g} s at {now_s:g} s"
                    raise ValueError(f"the scheduler waits for {told}")
                wake_s = min(wake_s, scheduler.wake_s)
                continue
            formed = True
            if batch.chunks or batch.preempted or batch.held_back:
                loop.journal.begin(batch, now_s)
            if not batch.chunks and not batch.decodes + batch.padding:
                raise ValueError(f"the scheduler formed a step of nobody at {now_s:g} s")
        return now_s if formed or self.wave else wake_s

    def _compute(self, start_s: float) -> float:
        """Price the steps of all batches; return when the last of them ends."""
        decodes: list[int] = []
        reads: list[list[int]] = []
        growth: list[list[int]] = []
        chunks: list[list[tuple[int, int]]] = []
        tokens: list[int] = []
        steps, alike, self.open = NEVER, True, False
        for rank, loop in enumerate(self.loops):
            batch = loop.batch
            if batch is None:
                loop.batch = batch = self._dummies[rank]
                self.open = True
            else:
                alike = False
                steps = min(steps, batch.steps)
                self.open = self.open or batch.open
            loop.start_s = start_s
            rows = batch.decodes + batch.padding
            decodes.append(0 if batch is self._dummies[rank] else rows)
            reads.append(batch.reads.copy())
            growth.append(batch.growth)
            chunks.append(batch.chunks)
            for chunk, _ in batch.chunks:
                rows += chunk
            tokens.append(rows)
        if alike:  # dummies alone: until the next sync
            steps = self.sync_steps - self.wave % self.sync_steps
            if self.syncs_first and not self.wave:
                steps = 1
        self.steps = steps
        if self.drafted is not None:
            return self._add_up_drafted(self.drafted, start_s)
        return self._add_up(start_s, decodes, reads, growth, chunks, tokens)

    def _add_up(
        self,
        start_s: float,
        decodes: list[int],
        reads: list[list[int]],
        growth: list[list[int]],
        chunks: list[list[tuple[int, int]]],
        tokens: list[int],
    ) -> float:
        """Write the ends of the steps into every journal; return the last of them."""
        prices, ends_s, end_s = self.prices, self._ends_s, start_s
        del ends_s[:]
        shares, together_s = prices.shares_s(tokens)
        for step in range(self.steps):
            if step:
                for rank, more in enumerate(growth):
                    if decodes[rank]:
                        of_rank = reads[rank]
                        for place in range(len(of_rank)):
                            of_rank[place] += more[place]
            end_s += prices.step_s(decodes, reads, chunks, shares, together_s)
            ends_s.append(end_s)
        for loop in self.loops:
            loop.journal.step_end_s.extend(ends_s)
        return end_s

    def _add_up_drafted(self, drafted: JointDrafted, start_s: float) -> float:
        """The same with drafts: either one step, or so many of dummies."""
        batches, dummies = list[Batch](), list[bool]()
        for rank, loop in enumerate(self.loops):
            batch = loop.batch
            assert batch is not None
            batches.append(batch)
            dummies.append(batch is self._dummies[rank])
        step_s, end_s = drafted.step_s(batches, dummies), start_s
        for _ in range(self.steps):
            end_s += step_s
            for loop in self.loops:
                loop.journal.step_end_s.append(end_s)
        return end_s


def dummy(classes: int, rows: int) -> Batch:
    """Rows that are computed for the others' sake, one without drafts: they attend nothing, and go
    on for ever."""
    batch = Batch(classes)
    batch.padding, batch.rows = 1, rows
    batch.steps = NEVER
    return batch


def _unfinished(loop: Loop) -> bool:
    """Whether a rank has requests that have not ended."""
    scheduler = loop.scheduler
    running = len(scheduler.running) - len(scheduler.leaving)
    return running + scheduler.waiting.count + len(scheduler.arrived) > 0
