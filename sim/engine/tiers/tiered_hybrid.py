"""A cache of several groups whose requests load what the GPU has no more."""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.hybrid_cache import HybridCache
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.sequence import Sequence


class TieredHybrid(HybridCache):
    """See ``HybridCache``; a connector is told which blocks there are."""

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], lag: bool, settings: HybridSettings
    ) -> None:
        super().__init__(num_blocks, groups, lag, settings)
        self._cut_short: set[Sequence] = set()
        self._giving.apart = True  # a connector may watch it

    def stay(self, sequence: Sequence, step: int) -> None:
        """See ``BlockPool``: a window moves on before the connector is told which blocks there are
        (``Scheduler._connector_finished``), but not past what a step computes in which somebody was
        given up (``num_in_flight_tokens``)."""
        computed = processed = sequence.kv_tokens
        if sequence in self._cut_short:
            self._cut_short.remove(sequence)
            processed = sequence.begun_tokens
        self.fill(sequence, computed)
        self.leave_behind(sequence, processed, computed)

    def end(self, sequences: list[Sequence], step: int) -> None:
        """See ``BlockPool``."""
        for sequence in sorted(sequences, key=_admission):
            self.stay(sequence, step)
            self.release(sequence, sequence.kv_tokens)

    def cut_short(self, sequence: Sequence) -> None:
        """See ``BlockPool``."""
        self._cut_short.add(sequence)


def _admission(sequence: Sequence) -> int:
    return sequence.admission
