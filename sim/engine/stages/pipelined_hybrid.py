"""Prefix caching over several groups in an engine with pipeline stages: its scheduler says what can
be found, and blocks come and go at once, request by request."""

from sim.engine.caches.hybrid_blocks import HybridBlocks
from sim.engine.sequence import Sequence


class PipelinedHybrid(HybridBlocks):
    """See ``HybridBlocks``, with the rules of ``PipelinedGroups``. Of everybody who runs, it knows
    ``told_tokens``."""

    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Give back what windows have left behind; return the blocks of the next tokens.

        Asked again in the same step it gives nothing back and returns the same."""
        computed = past - sequence.under_way_tokens if self.lag else past
        self.leave_behind(sequence, computed, sequence.told_tokens)
        return self.blocks(past + tokens) - self.blocks(past)

    def end(self, sequences: list[Sequence], step: int) -> None:
        """Free the blocks of those who ended, in order of admission: of more tokens than are known,
        where steps under way have them."""
        for sequence in sorted(sequences, key=lambda each: each.admission):
            self.release(sequence, max(sequence.kv_tokens, sequence.slots))
            sequence.slots = 0
