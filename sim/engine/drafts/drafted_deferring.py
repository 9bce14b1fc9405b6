"""Drafts where KV comes from elsewhere, and blocks of steps under way stay.

Ahead, who ends by an accepted draft is in the coming step all the same: its blocks are free when
that one has ended, as it writes to them, also where others have loaded by then. Nobody is thrown
out whom the step under way computes: who lacks blocks waits for that to end (``defer_block_free``).
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.drafts.drafted_loading import DraftedLoading
from sim.engine.drafts.drafting import Acceptance
from sim.engine.fence import Fence
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DraftedDeferring(DraftedLoading):
    """See ``DraftedLoading`` and ``DeferringPrefill``."""

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, acceptance: Acceptance
    ) -> None:
        super().__init__(pool, waiting, settings, acceptance)
        self.fence = Fence(pool)

    def _plan(self, now_s: float) -> Batch | None:
        fence = self.fence
        assert fence is not None
        fence.waits, before = False, fence.steps
        batch = super()._plan(now_s)
        if batch is None:
            fence.ended()
        elif self.ahead and fence.steps == before:  # else it was planned in a second try
            idle = [each for each in self.prefilling if each not in batch.prefills]
            decodes = [*self.drafts.members, *self._ghosts()]
            fence.planned(idle + [each for each in decodes if not each.rows])
        return batch

    def _let_go(self, sequences: list[Sequence]) -> None:
        assert self.fence is not None
        for sequence in [each for each in sequences if each.goes_on and each.rows]:
            sequence.leaves = False
            del self.running[sequence]
            if self.loads is not None:
                self.loads.connector.gone(sequence)
            self.pool.stay(sequence, self.decoding.step)
            held_tokens, sequence.slots = max(sequence.kv_tokens, sequence.slots), 0
            self.fence.keep(sequence, held_tokens)
        super()._let_go([each for each in sequences if each in self.running])
