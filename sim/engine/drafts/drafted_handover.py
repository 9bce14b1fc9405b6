"""Drafts where prompts are computed by one replica and answers by another one.

Ahead, who ends by an accepted draft is in the coming step all the same: its blocks are free when
that one has ended, as it writes to them, also where others have loaded by then. Nobody is thrown
out whom the step under way computes: who lacks blocks waits for that to end (``defer_block_free``).
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.drafts.drafted_loading import DraftedLoading
from sim.engine.drafts.drafting import Acceptance
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DraftedHandover(DraftedLoading):
    """See ``DraftedLoading``; blocks of steps under way stay."""

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, acceptance: Acceptance
    ) -> None:
        super().__init__(pool, waiting, settings, acceptance)
        self._deferred: list[Sequence] = []  # who has ended, and is in the step under way
        self._under_way: set[Sequence] = set()  # ahead: who is in that step
        self._blocked = False  # whether somebody waits for that, as nobody can be thrown out

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
