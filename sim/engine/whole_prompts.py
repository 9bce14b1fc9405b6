"""Schedulers that compute prompts whole: vLLM v0's, and request-level batching."""

from math import inf
from typing import ClassVar

from mypy_extensions import mypyc_attr

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


@mypyc_attr(allow_interpreted_subclasses=True)
class WholePrompts(Scheduler):
    """A step is either whole prompts or all decodes."""

    def only_prompts(self, batch: Batch) -> Batch:
        """Leave the decodes out of this step."""
        batch.decodes = batch.padding = 0
        for place in range(len(batch.reads)):
            batch.reads[place] = batch.growth[place] = 0
        batch.steps = 1
        batch.open = True
        return batch

    def admit_prompts(self, batch: Batch, seats: int) -> None:
        """Take waiting prompts, as long as ``seats`` in all, token budget and blocks last."""
        pool, waiting = self.pool, self.waiting
        budget = self.token_budget
        while waiting.count and len(self.running) < seats:
            sequence = waiting.head()
            tokens = sequence.target_tokens
            # A prompt longer than the budget is a step of its own: it cannot be split.
            if batch.chunks and tokens > budget:
                break
            pool.find(sequence)
            if pool.free - pool.lacks(tokens) < self.watermark_blocks:
                break
            waiting.pop()
            self.seat(sequence)
            pool.start(sequence, tokens)
            batch.prefills.append(sequence)
            batch.chunks.append((tokens, 0))
            budget -= tokens


@mypyc_attr(allow_interpreted_subclasses=True)
class PrefillFirst(WholePrompts):
    """vLLM v0: prompts go first.

    Its block manager lets a request decode only while a block is free, even if it needs none.
    """

    def form(self, now_s: float) -> Batch | None:
        """Prompts if any can be admitted, else decodes, preempting when blocks run out."""
        batch = self.batch
        batch.clear()
        if self.waiting.count:
            self.admit_prompts(batch, self.max_num_seqs)
            if batch.chunks:
                return self.only_prompts(batch)
        if not self.decoding.count:
            return None
        self.ready_decodes(batch)
        if not self.decoding.count:  # the last one was thrown out for its own sake
            return self._begin_anew(batch, now_s)
        self.add_decodes(batch)
        return batch

    def _begin_anew(self, batch: Batch, now_s: float) -> Batch | None:
        preempted = batch.preempted.copy()
        again = self.form(now_s)
        if again is not None:
            again.preempted[:0] = preempted
        return again

    def ready_decodes(self, batch: Batch) -> None:
        """Blocks for all; what those before it leave to the newest is at least one."""
        pool, decoding = self.pool, self.decoding
        place = decoding.step % decoding.block_size
        while decoding.count:
            newest = next(reversed(self.running))
            kv_tokens = newest.kv_tokens + decoding.step - newest.joined_step
            idle = 1 if kv_tokens % decoding.block_size else 0  # wanted, and not taken
            if decoding.needs[place] + idle <= pool.free:
                break
            self.preempt_one(batch, decodes_ready=False)
        pool.free -= decoding.needs[place]

    def add_decodes(self, batch: Batch) -> None:
        """As all; until the last block may be wanted."""
        super().add_decodes(batch)
        if batch.steps > 1:
            free = self.pool.free
            batch.steps = self.decoding.steps_ahead(free - 1) if free else 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Static(WholePrompts):
    """Request-level batching, as before Orca (Yu et al., OSDI 2022, section 2).

    A batch starts when ``max_num_seqs`` requests wait, or when the next in line has waited
    ``batch_timeout_s``. Its prompts are computed whole, as many per step as the token budget holds;
    then all rows decode until the longest has ended. A row that has ended stays in the batch: its
    seat and blocks are kept and it is computed as padding. Nobody joins before all have ended.
    """

    reads: ClassVar[tuple[str, ...]] = ("batch_timeout_s",)

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.batch_timeout_s = settings.batch_timeout_s
        self._seats_left = 0
        self._padding_reads = [0] * len(settings.windows)

    def form(self, now_s: float) -> Batch | None:
        """Start a batch when it is due; else its remaining prompts; else decode all rows."""
        if not self.running:
            if not self._due(now_s):
                return None
            self._seats_left = min(self.waiting.count, self.max_num_seqs)
        batch = self.batch
        batch.clear()
        if self._seats_left:
            before = len(self.running)
            self.admit_prompts(batch, before + self._seats_left)
            self._seats_left -= len(self.running) - before
            if batch.chunks:
                return self.only_prompts(batch)
            self._seats_left = 0
        if not self.decoding.count:  # what was left of the batch found no blocks beside padding
            self._end_batch()
            return self.form(now_s)
        self.ready_decodes(batch)
        self.add_decodes(batch)
        batch.open = False
        batch.padding = len(self.padding)
        for place, reads in enumerate(self._padding_reads):
            batch.reads[place] += reads
        return batch

    def _due(self, now_s: float) -> bool:
        if not self.waiting.count:
            self.wake_s = inf
            return False
        self.wake_s = self.waiting.head().arrival_s + self.batch_timeout_s
        return self.waiting.count >= self.max_num_seqs or now_s >= self.wake_s

    def complete(
        self, batch: Batch, steps: int = 1, unwanted: list[Sequence] | None = None
    ) -> list[Sequence]:
        """As every scheduler; release all rows when the last has ended."""
        finished = super().complete(batch, steps, unwanted)
        if not self._seats_left and not self.decoding.count:
            self._end_batch()
        return finished

    def _end_batch(self) -> None:
        self._let_go(self.padding)
        self.padding = []
        self._padding_reads = [0] * len(self._padding_reads)

    def _end(self, sequences: list[Sequence]) -> None:
        """They stay as padding."""
        self.padding += sequences
        for sequence in sequences:
            self._count_padding(sequence, 1)

    def preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        """Padding goes first: it has nothing to lose."""
        if not self.padding:
            super().preempt_one(batch, decodes_ready=decodes_ready)
            return
        row = self.padding.pop()
        self._count_padding(row, -1)
        self._let_go([row])

    def _count_padding(self, row: Sequence, rows: int) -> None:
        """A row of padding attends the KV positions of its last token."""
        for place, reach in enumerate(self.decoding.reaches):
            self._padding_reads[place] += rows * reach.attended(row.kv_tokens)
