"""Drafts where prompts are computed by one replica and answers by another one.

Blocks of a prompt come without room for drafts. Whoever takes them for a load leaves others what
their next step needs with drafts, and what its own will need (vllm/v1/core/sched/scheduler.py,
``_request_remaining_blocks`` and ``_spec_decode_step_blocks``, vLLM 0.32 on)::

    prompt of 10 tokens, block_size = 4, 3 drafts, loaded:  [0 1 2 3] [4 5 6 7] [8 9 . .]
    its first step: the last token again and 3 rows, 3 slots of lookahead        + [. . . .]

Ahead, who ends by an accepted draft is in the coming step all the same: its blocks are free when
that one has ended, as it writes to them, also where others have loaded by then. Nobody is thrown
out whom the step under way computes: who lacks blocks waits for that to end (``defer_block_free``).
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.drafts.drafted_prefill import DraftedPrefill
from sim.engine.drafts.drafting import Acceptance
from sim.engine.loads import Loads
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DraftedHandover(DraftedPrefill):
    """See ``DraftedPrefill``; with a connector (``Scheduler.connect``)."""

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, acceptance: Acceptance
    ) -> None:
        super().__init__(pool, waiting, settings, acceptance)
        self._whole: set[Sequence] = set()  # whose prompts begin and end in the step being formed
        self._deferred: list[Sequence] = []  # who has ended, and is in the step under way
        self._under_way: set[Sequence] = set()  # ahead: who is in that step
        self._blocked = False  # whether somebody waits for that, as nobody can be thrown out

    def start_prompts(self, batch: Batch) -> None:
        """See ``DraftedPrefill``."""
        self._whole.clear()
        super().start_prompts(batch)

    def _begin(self, sequence: Sequence, past: int, budget: int, batch: Batch) -> int:
        chunk = super()._begin(sequence, past, budget, batch)
        if chunk and past + chunk >= sequence.target_tokens:
            self._whole.add(sequence)
        return chunk

    def _plan(self, now_s: float) -> Batch | None:
        self._blocked = False
        batch = super()._plan(now_s)
        self._under_way.clear()
        if batch is not None and self.ahead:
            self._under_way.update(batch.prefills)
            for sequence in [*self.drafts.members, *self._ghosts()]:
                if sequence.rows:
                    self._under_way.add(sequence)
        return batch

    def _try_again(self, batch: Batch, now_s: float) -> Batch | None:
        self._under_way.clear()
        return super()._try_again(batch, now_s)

    def _may_stop(self, victim: Sequence) -> bool:
        self._blocked = victim in self._under_way
        return not self._blocked

    def _has_news(self) -> bool:
        return self._blocked or len(self._deferred) > 0 or super()._has_news()

    def _catch_up(self) -> None:
        deferred, self._deferred = self._deferred, []
        if deferred:
            self.pool.end(deferred, self.decoding.step)
        super()._catch_up()

    def _let_go(self, sequences: list[Sequence]) -> None:
        for sequence in [each for each in sequences if each.goes_on and each.rows]:
            sequence.leaves = False
            del self.running[sequence]
            self.pool.stay(sequence, self.decoding.step)
            self._deferred.append(sequence)
        super()._let_go([each for each in sequences if each in self.running])

    def _step_tokens(self) -> int:
        """Slots of one step behind those that are known."""
        return 1 + self.drafting.tokens + self.drafting.lookahead

    def _has_room(self, sequence: Sequence, tokens: int, batch: Batch) -> bool:
        pool = self.pool
        free = pool.free - (self.watermark_blocks if self.running else 0)
        if self.whole_prompts_fit and pool.lacks(sequence.target_tokens) > free:
            return False
        own = pool.lacks(tokens) + pool.blocks(self._step_tokens())
        return own + self._promised(batch) <= free

    def _promised(self, batch: Batch) -> int:
        pool, more, blocks = self.pool, self._step_tokens(), 0
        for sequence in self.prefilling:
            if sequence not in self._whole:
                blocks += self._lacks_slots(sequence, sequence.target_tokens + more)
        assert self.loads is not None
        for sequence in self.loads.wanted():
            held = pool.blocks(sequence.loaded_tokens)
            blocks += pool.blocks(sequence.target_tokens + more) - held
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
            most = self._slots(past + chunk)
            whole = max(target, most) if self.whole_prompts_fit else most
            after = pool.free - max(pool.blocks(whole) - pool.blocks(loaded), 0)
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
