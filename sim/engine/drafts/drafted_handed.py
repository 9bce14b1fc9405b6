"""The prefix cache of several groups where prompts are handed over, and answers have drafts."""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.drafts.drafted_hybrid import DraftedHybrid
from sim.engine.sequence import Sequence


class DraftedHanded(DraftedHybrid):
    """See ``DraftedHybrid``; a connector is told which blocks there are when somebody ends."""

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], lag: bool, settings: HybridSettings
    ) -> None:
        super().__init__(num_blocks, groups, lag, settings)
        self._giving.apart = True  # as wherever there is a connector

    def stay(self, sequence: Sequence, step: int) -> None:
        """See ``BlockPool``: a window moves on before the connector is told which blocks there are
        (``Scheduler._connector_finished``)."""
        self.fill(sequence, sequence.kv_tokens)
        self.leave_behind(sequence, sequence.kv_tokens, sequence.kv_tokens)

    def end(self, sequences: list[Sequence], step: int) -> None:
        """See ``BlockPool``."""
        self.tell(step, 0)
        for sequence in sorted(sequences, key=lambda each: each.admission):
            self.stay(sequence, step)
            held_tokens, sequence.slots = max(sequence.kv_tokens, sequence.slots), 0
            self.release(sequence, held_tokens)
