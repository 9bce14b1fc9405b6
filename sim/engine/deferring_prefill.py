"""Blocks of steps under way stay where others fill what is free: vLLM's ``defer_block_free``.

With a connector that reads KV from elsewhere, and steps that are planned while the one before is
computed, blocks that this one writes to may not be given to a load. So nobody whom it computes is
thrown out (vllm/v1/core/sched/scheduler.py, ``_request_blocks_can_be_freed``, vLLM 0.30 on): who
lacks a block, and all behind it, wait for a step::

    step n     A  B  C      computed
    plan n+1   A            B lacks a block, C is under way: both wait; who waits may begin
    plan n+2   A  B         C was in no step: it is thrown out
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DeferringPrefill(ChunkedPrefill):
    """See ``ChunkedPrefill``; for engines that plan ahead."""

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self._is_under_way = False  # a step, while the next one is planned
        self._idle: set[Sequence] = set()  # who runs, and is not in it
        self._blocked = False  # whether somebody waits for its end

    def _plan(self, now_s: float) -> Batch | None:
        self._blocked = False
        batch = super()._plan(now_s)
        if batch is None and self._blocked:
            self._hold_nobody(self.batch)
        self._idle.clear()
        self._is_under_way = batch is not None
        if batch is not None:
            self._idle.update(batch.held_back)
            if len(self.prefilling) > len(batch.prefills):
                self._idle.update([each for each in self.prefilling if each not in batch.prefills])
        return batch

    def _in_order(self) -> bool:
        return True

    def _try_again(self, batch: Batch, now_s: float) -> Batch | None:
        self._is_under_way = False
        return super()._try_again(batch, now_s)

    def _stop(self, victim: Sequence, batch: Batch, decodes_ready: bool) -> int:
        held_tokens = super()._stop(victim, batch, decodes_ready)
        # No step computes it: all of its tokens are known, as those of a prompt are.
        victim.target_tokens = max(victim.target_tokens, victim.kv_tokens)
        return held_tokens

    def _may_stop(self, victim: Sequence) -> bool:
        self._blocked = self._is_under_way and victim not in self._idle
        return not self._blocked

    def _has_news(self) -> bool:
        return self._blocked or super()._has_news()
