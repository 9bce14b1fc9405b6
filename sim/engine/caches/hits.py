"""How long a beginning of a text all groups of a KV cache have: vLLM's hybrid coordinator.

Full attention needs every block from the first on. A window needs those that it still sees: the
search goes from the right, to as many blocks behind each other as the window is long. Each kind of
groups shortens what the others found, until none does (``HybridKVCacheCoordinator``). A chunk needs
those from its beginning on, and may end where it begins.

A kind that drops has to have one block more than is found: once for every length, so that nothing
is dropped twice (``eagle_verified``).
"""

from sim.engine.caches.block_tables import Kept
from sim.engine.caches.texts import Piece, Spans, Texts, place


class Kind:
    """Groups that are alike: found together, each with blocks of its own.

    Args:
        first: number of its first group.
        count: how many there are.
        kept: its blocks, and how many a window needs.
        full: whether it keeps everything.
        unhashed_first: whether free blocks that cannot be found are taken before all others.
        skipped_first: the same of what is left behind while a request runs.
        chunk: blocks of a chunk; 0: what is kept does not begin anew.
    """

    __slots__ = (
        "block_size", "chunk", "count", "drops", "first", "full", "kept", "skipped_first",
        "unhashed_first",
    )  # fmt: skip

    def __init__(
        self,
        first: int,
        count: int,
        kept: Kept,
        full: bool,
        unhashed_first: bool,
        skipped_first: bool,
        chunk: int = 0,
    ) -> None:
        self.drops = kept.drops
        self.first, self.count, self.kept, self.full = first, count, kept, full
        self.unhashed_first, self.skipped_first = unhashed_first, skipped_first
        self.chunk = chunk
        self.block_size = kept.block_size


class Searcher:
    """Finds hits in several groups.

    Args:
        kinds: of all groups.
        alignment: tokens that a hit is a multiple of.
        texts: where blocks are, see ``key``.
        at_end: whether a block that is dropped may be the last of a text (0.32 on).
    """

    def __init__(
        self, kinds: list[Kind], alignment: int, texts: Texts, at_end: bool = True
    ) -> None:
        self._at_end = int(at_end)
        self._order = [kind for kind in kinds if kind.full]
        self._order += [kind for kind in kinds if not kind.full]
        self._once = len(kinds) == 2 and self._order[0].full
        self._whole_tokens = [-1] * len(kinds)
        self._alignment = alignment
        self._texts = texts
        self._groups = sum([kind.count for kind in kinds])

    def key(self, stream: int, group: int) -> int:
        """Under which number the blocks of a stream in one group are kept."""
        return stream * self._groups + group

    def longest(self, spans: Spans, target: int) -> tuple[int, int]:
        """Return the tokens that all groups have, and the most that a kind has.

        Args:
            spans: of the text.
            target: its tokens, of which the last one is computed.
        """
        hit, longest, settled = target - 1, 0, 0
        behind = hit + self._at_end
        whole = self._whole_tokens
        for number in range(len(whole)):
            whole[number] = -1
        while True:
            tokens = hit
            for number, kind in enumerate(self._order):
                if whole[number] >= 0:
                    tokens = min(tokens, whole[number])
                    continue
                drops = kind.drops and not settled >> number & 1
                most = min(tokens + kind.block_size, behind) if drops else tokens
                if kind.full:
                    found = whole[number] = self._whole(kind, spans, most, drops)
                elif kind.chunk:
                    found = self._in_chunk(kind, spans, most)
                else:
                    found = self._windowed(kind, spans, most, drops)
                if drops:
                    settled |= 1 << number
                elif found < tokens:
                    settled = 0
                tokens = found
                longest = max(longest, tokens)
            if tokens >= hit:
                return hit, longest
            hit = tokens
            if self._once:
                return hit, longest

    def _whole(self, kind: Kind, spans: Spans, most: int, drops: bool) -> int:
        blocks = most // kind.block_size
        for group in range(kind.first, kind.first + kind.count):
            blocks = self._from_left(kind, group, spans, blocks, 0)
        tokens = (max(0, blocks - 1) if drops else blocks) * kind.block_size
        return tokens - tokens % self._alignment

    def _in_chunk(self, kind: Kind, spans: Spans, most: int) -> int:
        blocks = most // kind.block_size
        first = blocks - blocks % kind.chunk
        for group in range(kind.first, kind.first + kind.count):
            blocks = self._from_left(kind, group, spans, blocks, first)
        return blocks * kind.block_size

    def _from_left(self, kind: Kind, group: int, spans: Spans, most: int, have: int) -> int:
        return self._texts.beginning(spans, kind.block_size, most, have, self._groups, group)

    def _windowed(self, kind: Kind, spans: Spans, most: int, drops: bool) -> int:
        """Tokens of the longest beginning whose last window is there, and a block more to drop."""
        size, more = kind.block_size, int(drops)
        need, step = max(kind.kept.seen + more, 1), self._alignment // size
        end = most // size
        while end > 0:
            end = self._last(kind, spans, end)
            end -= (end - more) % step
            if end <= 0:
                break
            first = 0
            for group in range(kind.first, kind.first + kind.count):
                first = max(first, self._to_left(kind, group, spans, end))
            if end - first >= need:
                return (end - more) * size
            if first == 0:
                end -= end % step
                if drops and end:
                    end -= 1
                return (end - end % step) * size
            end = min(first, end) - 1
        return 0

    def _last(self, kind: Kind, spans: Spans, end: int) -> int:
        """The end of the last block before ``end`` that all groups may have; 0: none has."""
        for group in range(kind.first, kind.first + kind.count):
            end = min(end, self._last_in(kind, group, spans, end))
        return end

    def _last_in(self, kind: Kind, group: int, spans: Spans, end: int) -> int:
        at = len(spans) - 1
        while at >= 0:
            stream, tokens = spans[at]
            low = spans[at - 1][1] // kind.block_size if at else 0
            stop = min(end, tokens // kind.block_size)
            if low < stop:
                runs = self._texts.oldest.get(self.key(stream, group))
                if runs is not None:
                    found = place(runs, stop - 1)
                    if found >= 0:
                        last = min(runs[found].end, stop)
                        if last > low:
                            return last
            at -= 1
        return 0

    def _to_left(self, kind: Kind, group: int, spans: Spans, end: int) -> int:
        """The first of the blocks behind each other that a group has before ``end``."""
        first, at = end, len(spans) - 1
        while at >= 0 and first > 0:
            stream, tokens = spans[at]
            low = spans[at - 1][1] // kind.block_size if at else 0
            at -= 1
            if low >= first:
                continue
            if tokens // kind.block_size < first:
                break
            runs = self._texts.oldest.get(self.key(stream, group))
            if runs is None:
                break
            found = place(runs, first - 1)
            while found >= 0 and first > low and runs[found].end >= first:
                first = max(runs[found].first, low)
                found -= 1
            if first > low:
                break
        return first

    def pieces(self, kind: Kind, group: int, spans: Spans, first: int, end: int) -> list[Piece]:
        """Return of which runs the blocks from ``first`` to before ``end`` are; all are there."""
        found: list[Piece] = []
        for stream, tokens in spans:
            stop = min(end, tokens // kind.block_size)
            if first < stop:
                found += self._texts.pieces(self.key(stream, group), first, stop)
                first = stop
        return found
