"""Blocks of several groups that are held before they are filled: KV comes from elsewhere.

window = 6, blocks of 4 tokens: 8 of 19 tokens are here, 16 are to be there when it has loaded

full attention   [k0] [k1] [  ] [  ]     held as found; taken to be filled
the window        .    .   [  ] [  ]     what the window has left behind by then is not held
"""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import Table
from sim.engine.caches.hybrid_blocks import HybridBlocks
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.texts import Piece
from sim.engine.sequence import Sequence


class LoadedBlocks(HybridBlocks):
    """See ``HybridBlocks``; with what a connector asks of it (``Scheduler.connect``)."""

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], lag: bool, settings: HybridSettings
    ) -> None:
        super().__init__(num_blocks, groups, lag, settings)
        self._looked_for: Sequence | None = None

    def find(self, sequence: Sequence) -> int:
        """See ``BlockPool``."""
        self._looked_for = sequence
        return super().find(sequence)

    def _found(self, loaded: int) -> list[list[Piece]]:
        """Of each group, what was found of what it still sees behind so many tokens."""
        found, sequence = list[list[Piece]](), self._looked_for
        assert sequence is not None
        for place, kind in enumerate(self.kinds):
            first, end = self.groups[place].behind(loaded), self._hit // kind.block_size
            for group in range(kind.first, kind.first + kind.count):
                pieces = list[Piece]()
                if first < end:
                    pieces = self._searcher.pieces(kind, group, sequence.spans, first, end)
                found.append(pieces)
        return found

    def load_asks(self, tokens: int, loaded: int, whole: bool) -> int:
        """See ``BlockPool``."""
        blocks = _idle(self._found(loaded))
        for group in self.groups:
            here = max(self._hit // group.block_size, group.behind(loaded))
            taken = group.taken(tokens)
            blocks += group.count * max((min(taken, group.most) if whole else taken) - here, 0)
        return blocks

    def hold(self, sequence: Sequence, tokens: int) -> None:
        """See ``BlockPool``."""
        found = self._found(tokens)
        blocks = _idle(found)
        self._queued -= blocks
        tables: list[Table] = []
        for place, kind in enumerate(self.kinds):
            group = self.groups[place]
            gone = group.behind(tokens)
            here = max(self._hit // kind.block_size, gone)
            blocks += kind.count * max(group.taken(tokens) - here, 0)
            for number in range(kind.first, kind.first + kind.count):
                table = Table(gone, here, self._holds(found[number]))
                table.keeps = kind.kept.of(sequence.prompt_tokens, self._junction)
                tables.append(table)
        self.free -= blocks
        sequence.tables, sequence.begun_tokens = tables, tokens
        if not sequence.preemptions:
            sequence.cached_tokens = self._hit
        self._hits = []

    def planned(self) -> None:
        """See ``BlockPool``."""
        self._settle()

    def seat(self, sequence: Sequence) -> None:
        """See ``BlockPool``."""
        self._admissions += 1
        sequence.admission = self._admissions


def _idle(found: list[list[Piece]]) -> int:
    """Blocks of these that are free."""
    blocks = 0
    for pieces in found:
        for run, _, count in pieces:
            if not run.holders:
                blocks += count
    return blocks
