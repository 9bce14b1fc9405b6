"""The prefix cache of an engine with drafts: blocks of tokens that are not known have no identity.

Drafts are in the cache before anybody knows whether they are right. vLLM names blocks of what is
known when a step is planned (``KVCacheManager.allocate_slots`` caps it at ``num_tokens``) and,
ahead, when one has ended (``AsyncScheduler._update_request_with_output``).
"""

from collections.abc import Callable

from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.caches.texts import Spans
from sim.engine.sequence import Sequence


def known_tokens(sequence: Sequence, step: int) -> int:
    """Return the tokens of a sequence whose full blocks can be found.

    Args:
        sequence: that runs.
        step: whether those who are in the coming step have their blocks (1, else 0).
    """
    if sequence.finish_step >= 0 or sequence.goes_on:
        return sequence.next_told_tokens if step and sequence.rows else sequence.told_tokens
    if sequence.leaves:
        return max(sequence.told_tokens, min(sequence.kv_tokens, sequence.target_tokens))
    return sequence.kv_tokens


class DraftedCache(PrefixCache):
    """See ``PrefixCache``. Told of answers in every step (``tell``), with ``step`` 0.

    Args:
        num_blocks: of the pool.
        block_size: tokens of a block.
        spans_of: see ``PrefixCache``.
        unhashed_first: see ``PrefixCache``.
        drops_block: whether the last block that is found is computed again: the drafter needs what
            the target's last layer makes of it (EAGLE, MTP).
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        spans_of: Callable[[int], Spans] | None = None,
        unhashed_first: bool = False,
        drops_block: bool = False,
    ) -> None:
        super().__init__(num_blocks, block_size, spans_of, unhashed_first)
        self._drops_block = drops_block

    def find(self, sequence: Sequence) -> int:
        """See ``PrefixCache``."""
        tokens = super().find(sequence)
        if not tokens or not self._drops_block:
            return tokens
        run, first, count = self.hits.pop()
        if count > 1:
            self.hits.append((run, first, count - 1))
        self._found -= 1
        self._idle -= not run.holders
        return tokens - self.block_size

    def _known_tokens(self, sequence: Sequence, step: int) -> int:
        """See ``known_tokens``."""
        return known_tokens(sequence, step)

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """See ``PrefixCache``; of one that has ended, what its last step brought is not known."""
        if sequence.leaves:
            sequence.kv_tokens = self._known_tokens(sequence, 1)
        super().lose(sequence, held_tokens, step)

    def _age(self, tokens: int) -> int:
        """All that is told at once has become full in the same step."""
        return 0
