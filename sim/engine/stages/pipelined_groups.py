"""Several groups of the KV cache in an engine with pipeline stages, several steps of which are
under way: blocks come and go at once, request by request."""

from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.sequence import Sequence


class PipelinedGroups(GroupedPool):
    """See ``GroupedPool``. With ``lag`` a window has left behind what is behind computed tokens;
    without, those of steps under way count as computed."""

    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Give back what windows have left behind; return the blocks of the next tokens.

        Asked again in the same step it gives nothing back and returns the same."""
        computed = past - sequence.under_way_tokens if self.lag else past
        self.free += self._behind(computed) - self._behind(sequence.settled_tokens)
        sequence.settled_tokens = computed
        return self.blocks(past + tokens) - self.blocks(past)
