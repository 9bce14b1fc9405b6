"""Blocks of steps under way stay where others fill what is free: vLLM's ``defer_block_free``.

With a connector that reads KV from elsewhere, and steps that are planned while the one before is
computed, blocks that this one writes to may not be given to a load. So nobody whom it computes is
thrown out (vllm/v1/core/sched/scheduler.py, ``_request_blocks_can_be_freed``, vLLM 0.30 on): who
lacks a block, and all behind it, wait for a step::

    step n     A  B  C      computed
    plan n+1   A            B lacks a block, C is under way: both wait; who waits may begin
    plan n+2   A  B         C was in no step: it is thrown out

Who is given up keeps its blocks as long as a step computes it (``fence``).
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.fence import Fence
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DeferringPrefill(ChunkedPrefill):
    """See ``ChunkedPrefill``; for engines that plan ahead."""

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.fence = Fence(pool)

    def _plan(self, now_s: float) -> Batch | None:
        fence = self.fence
        assert fence is not None
        fence.waits, before = False, fence.steps
        batch = super()._plan(now_s)
        if batch is None:
            fence.ended()
        elif fence.steps == before:  # else it was planned in a second try
            idle = batch.held_back.copy()
            if len(self.prefilling) > len(batch.prefills):
                idle += [each for each in self.prefilling if each not in batch.prefills]
            fence.planned(idle)
        return batch

    def _in_order(self) -> bool:
        return True

    def _stop(self, victim: Sequence, batch: Batch, decodes_ready: bool) -> int:
        held_tokens = super()._stop(victim, batch, decodes_ready)
        # No step computes it: all of its tokens are known, as those of a prompt are.
        victim.target_tokens = max(victim.target_tokens, victim.kv_tokens)
        return held_tokens

    def _catch_up(self) -> None:
        super()._catch_up()
        assert self.fence is not None
        if self.fence.waits and not self.fence.is_under_way:
            self._hold_nobody(self.batch)  # they were left out of an empty step
            self.batch.held_back = []
