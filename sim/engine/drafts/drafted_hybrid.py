"""The prefix cache of several groups in an engine with drafts: see ``DraftedCache``.

Windows follow what is known, drafts of the coming step and slots behind them are ahead of it::

    window = 6, block_size = 4, 11 tokens known, 4 rows and 3 slots of lookahead to come

    tokens   [0 1 2 3] [4 5 6 7] [8 9 10 .] [. . . .] [. . . .]
    blocks    given back  held      held       taken     taken
"""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.loaded_blocks import LoadedBlocks
from sim.engine.drafts.drafted_cache import known_tokens
from sim.engine.sequence import Sequence


class DraftedHybrid(LoadedBlocks):
    """See ``HybridBlocks``. Told of answers before every plan, and when a request leaves (``tell``,
    with ``step`` 0); in a plan everybody is served in turn."""

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], lag: bool, settings: HybridSettings
    ) -> None:
        super().__init__(num_blocks, groups, lag, settings)
        self._tellers: dict[Sequence, None] = {}  # who runs

    def start(self, sequence: Sequence, tokens: int) -> None:
        """See ``HybridBlocks``."""
        super().start(sequence, tokens)
        self._tellers[sequence] = None

    def seat(self, sequence: Sequence) -> None:
        """See ``BlockPool``."""
        super().seat(sequence)
        self._tellers[sequence] = None

    def leave_behind(self, sequence: Sequence, computed: int, known: int) -> None:
        """See ``HybridBlocks``. Blocks that right drafts have filled may have no names yet: a chunk
        that ends with them leaves them without."""
        super().leave_behind(sequence, computed, min(known, known_tokens(sequence, 0)))

    def tell(self, step: int, coming: int) -> None:
        """Name the full blocks of answers, in order of admission."""
        for sequence in self._tellers:
            self.fill(sequence, known_tokens(sequence, step + coming))

    def end(self, sequences: list[Sequence], step: int) -> None:
        """Free the blocks of those who ended, in order of admission."""
        self.tell(step, 0)
        for sequence in sorted(sequences, key=lambda each: each.admission):
            held_tokens, sequence.slots = max(sequence.kv_tokens, sequence.slots), 0
            self.release(sequence, held_tokens)

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """See ``BlockPool``; of one that has ended, what its last step brought is not known."""
        if sequence.leaves:
            sequence.kv_tokens = known_tokens(sequence, 1)
        self.tell(step, 0)
        self._name_all(sequence)

    def _give_back(self, sequence: Sequence, held_tokens: int, places: list[int]) -> None:
        self._tellers.pop(sequence, None)  # who loads is not among them
        super()._give_back(sequence, held_tokens, places)
