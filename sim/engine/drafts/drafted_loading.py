"""Drafts where KV of prompts comes from elsewhere: another replica, or the memory of the host.

Blocks of a prompt come without room for drafts. Whoever takes them for a load leaves others what
their next step needs with drafts, and what its own will need (vllm/v1/core/sched/scheduler.py,
``_request_remaining_blocks`` and ``_spec_decode_step_blocks``, vLLM 0.32 on)::

    prompt of 10 tokens, block_size = 4, 3 drafts, loaded:  [0 1 2 3] [4 5 6 7] [8 9 . .]
    its first step: the last token again and 3 rows, 3 slots of lookahead        + [. . . .]
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.drafts.drafted_prefill import DraftedPrefill
from sim.engine.drafts.drafting import Acceptance
from sim.engine.loads import Loads
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DraftedLoading(DraftedPrefill):
    """See ``DraftedPrefill``; with a connector (``Scheduler.connect``)."""

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, acceptance: Acceptance
    ) -> None:
        super().__init__(pool, waiting, settings, acceptance)
        self._whole: set[Sequence] = set()  # whose prompts begin and end in the step being formed

    def loads_all(self) -> None:
        """Every prompt is loaded: take none for which there is never room."""
        pool = self.pool
        if pool.longest_tokens(pool.num_blocks) < self.drafting.max_model_len:
            left = max(pool.num_blocks - pool.remaining(self._step_tokens(), 0), 0)
            longest = pool.longest_tokens(left) + 1
            self.longest_request_tokens = min(self.longest_request_tokens, longest)

    def start_prompts(self, batch: Batch) -> None:
        """See ``DraftedPrefill``."""
        self._whole.clear()
        super().start_prompts(batch)

    def _begin(self, sequence: Sequence, past: int, budget: int, batch: Batch) -> int:
        chunk = super()._begin(sequence, past, budget, batch)
        if chunk and past + chunk >= sequence.target_tokens:
            self._whole.add(sequence)
        return chunk

    def _drop_from(self, batch: Batch, sequence: Sequence) -> None:
        """See ``Scheduler``."""
        super()._drop_from(batch, sequence)
        if self.loads is not None:
            self.loads.connector.gone(sequence)

    def _catch_up(self) -> None:
        """See ``Scheduler``: of one that was given up in the step that ended it, what that step
        brought is not known to a connector."""
        given_up = [each for each in self.unwanted if each.leaves and each.goes_on]
        super()._catch_up()
        for sequence in given_up:
            sequence.kv_tokens = min(sequence.kv_tokens, sequence.next_told_tokens)

    def _step_tokens(self) -> int:
        """Slots of one step behind those that are known."""
        return 1 + self.drafting.tokens + self.drafting.lookahead

    def _has_room(self, sequence: Sequence, tokens: int, batch: Batch) -> bool:
        pool = self.pool
        free = pool.free - (self.watermark_blocks if self.running else 0)
        if self.whole_prompts_fit and pool.load_asks(sequence.target_tokens, tokens, True) > free:
            return False
        own = pool.load_asks(tokens, tokens, False) + pool.remaining(self._step_tokens(), 0)
        return own + self._promised(batch) <= free

    def _promised(self, batch: Batch) -> int:
        pool, more, blocks = self.pool, self._step_tokens(), 0
        for sequence in self.prefilling:
            if sequence not in self._whole:
                blocks += pool.remaining(sequence.target_tokens + more, sequence.slots)
        assert self.loads is not None
        for sequence in self.loads.wanted():
            blocks += pool.remaining(sequence.target_tokens + more, sequence.loaded_tokens)
        return blocks

    def _start_loaded(self, loads: Loads, batch: Batch) -> bool:
        pool, running = self.pool, self.running
        for sequence in loads.in_turn(self.waiting.by_priority):
            budget = self._budget_left(batch)
            if budget <= 0 or len(running) >= self.max_num_seqs:
                return False
            loaded, target = sequence.loaded_tokens, sequence.target_tokens
            pool.fill(sequence, loaded)
            sequence.kv_tokens = loaded
            past = min(loaded, target - 1)  # the last token is computed again
            chunk = self._first_chunk(sequence, past, budget)
            if not chunk:
                return False
            blocks = max(pool.blocks(self._slots(past + chunk)) - pool.blocks(loaded), 0)
            whole = pool.remaining(target, loaded) if self.whole_prompts_fit else 0
            after = pool.free - max(blocks, whole)
            if after < (self.watermark_blocks if running else 0):
                return False
            loads.leave(sequence)
            self.seat(sequence)
            pool.seat(sequence)
            if not sequence.preemptions:
                sequence.brought_tokens = past - sequence.cached_tokens
            sequence.slots = pool.room(loaded)
            self._put(sequence, past, chunk, batch)
            pool.fill(sequence, min(past + chunk, target))
        return True
