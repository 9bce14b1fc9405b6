"""Schedulers: who computes what in the next step. They know no clock and no prices.

A scheduler is driven by whoever owns the time: the simulator, which waits the priced duration, or a
real engine, which runs the batch::

    scheduler.admit(sequence)                   # a request has arrived
    batch = scheduler.next_batch(now_s)         # None: nothing to do before scheduler.wake_s
    finished = scheduler.complete(batch, steps) # 1 <= steps <= batch.steps have been computed

The batch is the scheduler's own: the next call of ``next_batch`` forms the next one in its place.

No scheduler reads a request's true output length to decide anything; it only learns that a sequence
has ended. (``Batch.steps`` tells the simulator how far the next change is; it changes no decision.)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import inf

from sim.decoding import DecodeSet
from sim.kv_cache import BlockPool
from sim.sequence import Batch, Sequence
from sim.waiting import waiting_queue


class Scheduler(ABC):
    """What the three policies share: the queue, the running set, blocks and preemption."""

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        token_budget: int,
        watermark_blocks: int = 0,
        order: str = "fcfs",
        sliding_window: int | None = None,
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size)
        self.decoding = DecodeSet(block_size, sliding_window)
        self.waiting = waiting_queue(order)
        self.running: dict[Sequence, None] = {}
        """Everyone who holds blocks, in order of admission."""
        self.prefilling: list[Sequence] = []
        """Those of them whose prompt is not yet computed, in order of admission."""
        self.padding: list[Sequence] = []
        """Rows that have ended and are computed all the same (static batching only)."""
        self.max_num_seqs = max_num_seqs
        self.token_budget = token_budget
        self.watermark_blocks = watermark_blocks
        self.longest_request_tokens = self._longest_request_tokens()
        """Prompt and output together. The last token of an output is never put into the cache."""
        self.wake_s = inf
        """After ``next_batch`` gave None: when to ask again, if nobody arrives before."""
        self.tokens_to_prefill = 0
        """Prompts, and after a preemption what was generated, of all here who do not decode."""
        self.held_blocks = 0
        """Blocks held in the last computed step, those of sequences that ended with it included."""
        self._by_priority = order == "priority"
        self._in_turn = order == "fcfs"
        self._served: set[Sequence] = set()  # who has its blocks, when served one by one
        self.batch = Batch()
        """The one that was formed last."""

    def _longest_request_tokens(self) -> int:
        return (self.pool.num_blocks - self.watermark_blocks) * self.pool.block_size + 1

    def admit(self, sequence: Sequence) -> None:
        """Queue an arrived request that passed ``fits``."""
        self.tokens_to_prefill += sequence.target_tokens
        self.waiting.push(sequence)

    def abort(self, sequence: Sequence) -> bool:
        """Drop a request that nobody wants any more, between two steps; say whether it was here."""
        if sequence.finish_step >= 0:
            self.decoding.leave(sequence)
            self._release([sequence])
            return True
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self._release([sequence])
        elif not self.waiting.discard(sequence):
            return False
        self.tokens_to_prefill -= sequence.target_tokens
        return True

    def outstanding_tokens(self) -> int:
        """Of all requests here, prompts and what was generated: all that a router may know."""
        return self.tokens_to_prefill + self.decoding.tokens

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request could ever run here, alone, to its end."""
        return prompt_tokens + output_tokens <= self.longest_request_tokens

    def decodes(self) -> list[Sequence]:
        """Who decodes in the coming step, in order of admission: for engines that compute them."""
        return [sequence for sequence in self.running if sequence.finish_step >= 0]

    def unfinished(self) -> list[Sequence]:
        """Everyone who was admitted and has not ended, in no particular order."""
        ended = set(self.padding)
        running = [sequence for sequence in self.running if sequence not in ended]
        return running + self.waiting.members()

    @abstractmethod
    def next_batch(self, now_s: float) -> Batch | None:
        """Form the next batch; allocate the blocks of its (first) step."""

    def complete(
        self, batch: Batch, steps: int = 1, unwanted: Iterable[Sequence] = ()
    ) -> list[Sequence]:
        """Account for ``steps`` computed steps; return who finished with the last one.

        Whoever is ``unwanted`` since it began is dropped before those are, as by vLLM.
        """
        pool = self.pool
        finished: list[Sequence] = []
        if batch.decodes:
            decoding = self.decoding
            if steps > 1:
                pool.free -= decoding.blocks_needed_after(steps - 1)
            finished = decoding.advance(steps)
        self.held_blocks = pool.num_blocks - pool.free
        if batch.chunks:
            self._complete_prompts(batch, finished)
        if batch.held_back:
            self._rejoin(batch)
        ended = finished
        for sequence in unwanted:
            if sequence in ended:
                ended = [each for each in ended if each is not sequence]
                self._release([sequence])
            self.abort(sequence)
        if ended:
            self._release(ended)
        return finished

    def _pause(self, sequence: Sequence) -> None:
        """Take a sequence out of those who decode; it will compute or go on later."""
        self.decoding.leave(sequence)
        self.tokens_to_prefill += sequence.prompt_tokens + sequence.generated_tokens

    def _rejoin(self, batch: Batch) -> None:
        """Let those decode again who were held back in a batch."""
        for sequence in batch.held_back:
            self.tokens_to_prefill -= sequence.prompt_tokens + sequence.generated_tokens
            self.decoding.join(sequence)

    def _complete_prompts(self, batch: Batch, finished: list[Sequence]) -> None:
        """Count the chunks; who has its prompt computed now, decodes, or has ``finished``."""
        chunks = batch.chunks
        for place, sequence in enumerate(batch.prefills):
            chunk_tokens, past_tokens = chunks[place]
            sequence.kv_tokens = computed = past_tokens + chunk_tokens
            if computed < sequence.target_tokens:
                continue
            self.prefilling.remove(sequence)
            self.tokens_to_prefill -= computed
            sequence.generated_tokens = generated = sequence.generated_tokens + 1
            if generated == sequence.output_tokens:
                finished.append(sequence)
            else:
                self.decoding.join(sequence)

    def _release(self, sequences: list[Sequence]) -> None:
        """Let sequences leave the batch, and their blocks with them."""
        pool, running = self.pool, self.running
        blocks = 0
        for sequence in sequences:
            del running[sequence]
            blocks -= -sequence.kv_tokens // pool.block_size
        pool.give(blocks)

    def _give_back(self, sequence: Sequence, held_tokens: int) -> None:
        """Free the blocks of one that was thrown out."""
        self.pool.give(self.pool.blocks(held_tokens))

    def _seat(self, sequence: Sequence, blocks: int) -> None:
        self.pool.take(blocks)
        self.running[sequence] = None
        self.prefilling.append(sequence)

    def _victim(self) -> Sequence:
        if self._by_priority:
            return max(self.running, key=lambda s: (s.priority, s.arrival_s, s.request))
        return next(reversed(self.running))

    def _preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        """Throw out the newest (by priority: the least important) and queue it again.

        ``decodes_ready``: those who decode hold the blocks of the coming step already.
        """
        victim = self._victim()
        if victim.finish_step >= 0:
            self._pause(victim)
            held_tokens = victim.kv_tokens + (decodes_ready or victim in self._served)
        else:
            self.prefilling.remove(victim)
            held_tokens = victim.kv_tokens
            if victim in batch.prefills:
                place = batch.prefills.index(victim)
                del batch.prefills[place]
                held_tokens += batch.chunks.pop(place)[0]
        del self.running[victim]
        self._give_back(victim, held_tokens)
        victim.kv_tokens = 0
        victim.target_tokens = victim.prompt_tokens + victim.generated_tokens
        victim.preemptions += 1
        self.waiting.push_back(victim)
        batch.preempted.append(victim)

    def _ready_decodes(self, batch: Batch) -> None:
        """Allocate the coming step's blocks of all decodes, preempting until they suffice."""
        pool, decoding = self.pool, self.decoding
        place = decoding.step % decoding.block_size
        while (needed := decoding.needs[place]) > pool.free:
            self._preempt_one(batch, decodes_ready=False)
        pool.free -= needed

    def _add_decodes(self, batch: Batch) -> Batch:
        """Put all decodes into the batch; if it is theirs alone, say how long it can go on."""
        decoding = self.decoding
        batch.decodes = decoding.count
        batch.context_tokens = decoding.context_tokens
        batch.growth = decoding.growth
        if batch.chunks or batch.preempted or batch.closed:
            batch.steps = 1
            batch.open = True
        else:
            # Where somebody waits already, and did not fit in, nobody passes by.
            passes = not (self._in_turn and self.waiting)
            batch.open = passes and len(self.running) < self.max_num_seqs
            batch.steps = decoding.steps_ahead(self.pool.free)
        return batch

    def _only_prompts(self, batch: Batch) -> Batch:
        """Leave the decodes out of this step."""
        batch.decodes = batch.padding = batch.context_tokens = batch.growth = 0
        batch.steps = 1
        return batch

    def _admit_prompts(self, batch: Batch) -> None:
        """Take waiting prompts whole, as long as seats, token budget and blocks last."""
        pool = self.pool
        budget = self.token_budget
        while self.waiting and len(self.running) < self.max_num_seqs:
            sequence = self.waiting.head()
            tokens = sequence.target_tokens
            blocks = pool.blocks(tokens)
            # A prompt longer than the budget is a step of its own: it cannot be split.
            if (batch.chunks and tokens > budget) or pool.free - blocks < self.watermark_blocks:
                break
            self._seat(self.waiting.pop(), blocks)
            batch.prefills.append(sequence)
            batch.chunks.append((tokens, 0))
            budget -= tokens


class PrefillFirst(Scheduler):
    """vLLM v0: a step is either whole prompts or all decodes; prompts go first."""

    def next_batch(self, now_s: float) -> Batch | None:
        """Prompts if any can be admitted, else decodes, preempting when blocks run out."""
        batch = self.batch
        batch.clear()
        if self.waiting:
            self._admit_prompts(batch)
            if batch.chunks:
                return self._only_prompts(batch)
        if not self.decoding.count:
            return None
        self._ready_decodes(batch)
        return self._add_decodes(batch)


class Static(Scheduler):
    """Request-level batching, as before Orca (Yu et al., OSDI 2022, section 2).

    A batch starts when ``max_num_seqs`` requests wait, or when the next in line has waited
    ``batch_timeout_s``. Its prompts are computed whole, as many per step as the token budget holds;
    then all rows decode until the longest has ended. A row that has ended stays in the batch: its
    seat and blocks are kept and it is computed as padding. Nobody joins before all have ended.
    """

    def __init__(self, *, batch_timeout_s: float = 0.0, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.batch_timeout_s = batch_timeout_s
        self._seats_left = 0
        self._padding_context_tokens = 0

    def next_batch(self, now_s: float) -> Batch | None:
        """Start a batch when it is due; else its remaining prompts; else decode all rows."""
        if not self.running:
            if not self._due(now_s):
                return None
            self._seats_left = min(len(self.waiting), self.max_num_seqs)
        batch = self.batch
        batch.clear()
        if self._seats_left:
            self._fill(batch)
            if batch.chunks:
                return self._only_prompts(batch)
            self._seats_left = 0
        if not self.decoding.count:  # what was left of the batch found no blocks beside padding
            self._end_batch()
            return self.next_batch(now_s)
        self._ready_decodes(batch)
        self._add_decodes(batch)
        batch.open = False
        batch.padding = len(self.padding)
        batch.context_tokens += self._padding_context_tokens
        return batch

    def _due(self, now_s: float) -> bool:
        if not self.waiting:
            self.wake_s = inf
            return False
        self.wake_s = self.waiting.head().arrival_s + self.batch_timeout_s
        return len(self.waiting) >= self.max_num_seqs or now_s >= self.wake_s

    def _fill(self, batch: Batch) -> None:
        before, seats = len(self.running), self.max_num_seqs
        self.max_num_seqs = before + self._seats_left
        self._admit_prompts(batch)
        self.max_num_seqs = seats
        self._seats_left -= len(self.running) - before

    def complete(
        self, batch: Batch, steps: int = 1, unwanted: Iterable[Sequence] = ()
    ) -> list[Sequence]:
        """As every scheduler; release all rows when the last has ended."""
        finished = super().complete(batch, steps, unwanted)
        if not self._seats_left and not self.decoding.count:
            self._end_batch()
        return finished

    def _end_batch(self) -> None:
        super()._release(self.padding)
        self.padding.clear()
        self._padding_context_tokens = 0

    def _release(self, sequences: list[Sequence]) -> None:
        """They stay as padding."""
        self.padding += sequences
        self._padding_context_tokens += sum(map(self._attended, sequences))

    def _preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        """Padding goes first: it has nothing to lose."""
        if not self.padding:
            super()._preempt_one(batch, decodes_ready=decodes_ready)
            return
        row = self.padding.pop()
        self._padding_context_tokens -= self._attended(row)
        super()._release([row])

    def _attended(self, row: Sequence) -> int:
        """KV positions that a row of padding attends: those of its last token."""
        window = self.decoding.window
        return row.kv_tokens if window is None else min(row.kv_tokens, window)
