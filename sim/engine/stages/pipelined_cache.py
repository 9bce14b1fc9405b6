"""The prefix cache of an engine with pipeline stages: its scheduler says what can be found."""

from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.sequence import Sequence


class PipelinedCache(PrefixCache):
    """See ``PrefixCache``. Of everybody who runs, it knows ``told_tokens``."""

    def _known_tokens(self, sequence: Sequence, step: int) -> int:
        return sequence.told_tokens

    def _age(self, tokens: int) -> int:
        """Blocks are named as soon as they are told of."""
        return 0
