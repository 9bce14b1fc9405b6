"""Prefix caching in several groups, block by block: every block knows all that stands before its
end, a hit is looked for at every place where one may end, and what is kept is asked of each block.
"""

from collections.abc import Iterable
from math import lcm

from tests.reference_engine import Engine
from tests.reference_sequence import Block, Seq


class HybridEngine(Engine):
    """A replica whose layers keep different tokens, and whose blocks outlive their requests."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        self.common = lcm(*(size for size, _ in self.groups))
        told = pool.engine.prefix_cache_retention_interval
        self.dense, self.interval = told == "dense", told
        self.version = tuple(map(int, pool.engine.version.split(".")))
        self.names_at = self.common if self.version >= (0, 23) else 1
        self.windows_first = self.unhashed_first or self.version >= (0, 23)
        self.junction: dict[Seq, int] = {}

    # --- what is there
    def there(self, group: int, text: tuple) -> Block | None:
        same = [block for block in self.blocks if block.text == (group, text)]
        return min(same, key=lambda block: block.since, default=None)

    def needed(self, group: int, tokens: int) -> list[int]:
        """Which blocks of a group whoever has so many tokens still sees."""
        size, window = self.groups[group]
        blocks = list(range(tokens // size))
        if window == float("inf"):
            return blocks
        if self.chunked[group]:
            return blocks[tokens // window * window // size :]
        return blocks[-max(1, -((1 - window) // size)) :]

    def holds(self, group: int, seq: Seq, tokens: int, texts: set) -> bool:
        """Whether a beginning is there, where these texts are."""
        size = self.groups[group][0]
        return all(
            (group, tuple(seq.text[: (place + 1) * size])) in texts
            for place in self.needed(group, tokens)
        )

    def look(self, seq: Seq) -> int:
        """The longest beginning that all groups have; and the most that one kind of them has."""
        kinds: dict[tuple, list[int]] = {}
        for number, group in enumerate(self.groups):
            kinds.setdefault(group, []).append(number)
        whole = [kind for kind in kinds if kind[1] == float("inf")]
        first = kinds[(whole or list(kinds))[0]]
        texts = {block.text for block in self.blocks}

        def longest_in(numbers: Iterable[int]) -> int:
            ends = reversed(range(0, seq.target, self.common))
            return next(e for e in ends if all(self.holds(g, seq, e, texts) for g in numbers))

        hit, longest = longest_in(range(len(self.groups))), longest_in(first)
        self.junction[seq] = longest if longest > hit else 0
        return hit

    def stays(self, group: int, seq: Seq, place: int) -> bool:
        """Whether a block is one of those that a hit needs which may end at an expected place."""
        size, window = self.groups[group]
        if window == float("inf") or self.chunked[group]:
            return True
        ends = []
        if self.dense:
            ends = list(range(0, len(seq.text) + 2 * self.common, self.common))
        elif self.interval:
            ends = list(range(0, len(seq.text) + 2 * self.interval, self.interval))
        if not self.dense:
            ends += [(seq.prompt - 1) // self.common * self.common]
            ends += [self.junction[seq] // self.common * self.common]
        need = -((1 - window) // size)
        every = self.common if self.dense else self.interval
        if every and need >= every // size:
            return True
        return any(end // size - need <= place < end // size for end in ends)

    # --- blocks
    def gone(self, group: int, computed: int) -> int:
        """Blocks that nobody sees any more who has computed so many tokens."""
        size, window = self.groups[group]
        if window == float("inf"):
            return 0
        seen = computed % window if self.chunked[group] else window - 1
        return int(max(0, computed - seen) // size)

    def seat(self, seq: Seq, most: int, batch: dict) -> bool:
        past = self.look(seq)
        tokens = min(seq.target - past, most)
        if not self.enter(seq, past, past + tokens, seq.target):
            return False
        if not seq.preemptions and not seq.status:
            seq.cached = past
        assert self.grow(seq, past + tokens, past)
        self.name(seq, past + tokens)
        batch["chunks"].append((seq, tokens, past))
        return True

    def enter(self, seq: Seq, past: int, tokens: int, whole: int) -> bool:
        """Hold what was found, if there are blocks for so many tokens, and for all of them."""
        tables, idle = [], []
        for group, (size, _) in enumerate(self.groups):
            gone = self.gone(group, past)
            found = [
                self.there(group, tuple(seq.text[: (place + 1) * size]))
                for place in range(gone, past // size)
            ]
            tables.append([None] * gone + found)
            idle += [block for block in found if not block.holders]

        def missing(tokens: int, capped: bool) -> int:
            return len(idle) + sum(
                max(0, min(-(-tokens // size), most if capped else tokens) - len(table))
                for (size, _), most, table in zip(self.groups, self.most, tables, strict=True)
            )

        lacks = missing(tokens, False)
        if self.whole_fits:
            lacks = max(lacks, missing(whole, True))
        if self.free - lacks < (self.watermark if self.running else 0):
            return False
        for table in tables:
            for block in table:
                if block is not None:
                    block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.kv, seq.tables = past, tables
        self.waiting.remove(seq)
        self.running.append(seq)
        return True

    def goes_first(self, group: int) -> bool:
        """Whether its free blocks without a name are taken before all others when a request lets go
        of all: of windows since an earlier release than of chunks."""
        slides = self.groups[group][1] < float("inf") and not self.chunked[group]
        return self.windows_first if slides else self.unhashed_first

    def grow(self, seq: Seq, tokens: int, past: int) -> bool:
        computed = self.computed(seq, past)
        for group, table in enumerate(seq.tables):
            if behind := self.gone(group, computed):
                self.give(table[:behind], self.windows_first)
                table[:behind] = [None] * behind
        wanted = [-(-tokens // size) for size, _ in self.groups]
        more = sum(want - len(table) for want, table in zip(wanted, seq.tables, strict=True))
        if more > self.free:
            return False
        for want, table in zip(wanted, seq.tables, strict=True):
            for _ in range(want - len(table)):
                block = self.queue.pop(0)
                block.text, block.holders = None, 1
                table.append(block)
        seq.begun, seq.in_step = past, self.formed
        return True

    def give(self, blocks: list[Block | None], unhashed_first: bool) -> None:
        """The last one first; those that nobody can find before all others."""
        for block in reversed(blocks):
            if block is None:
                continue
            block.holders -= 1
            if not block.holders and unhashed_first and block.text is None:
                self.queue.insert(0, block)
            elif not block.holders:
                self.queue.append(block)

    def name(self, seq: Seq, tokens: int) -> None:
        tokens -= tokens % self.names_at
        for group, ((size, _), table) in enumerate(zip(self.groups, seq.tables, strict=True)):
            for place, block in enumerate(table[: tokens // size]):
                if block is not None and block.text is None and self.stays(group, seq, place):
                    self.named += 1
                    block.text = (group, tuple(seq.text[: (place + 1) * size]))
                    block.since = self.named

    def drop_late(self, seq: Seq) -> None:
        """The last group first."""
        for group in range(len(self.groups) - 1, -1, -1):
            self.give(seq.tables[group], self.goes_first(group))
        seq.tables, seq.in_step = [[] for _ in self.groups], -1

    def drop(self, seq: Seq) -> None:
        self.running.remove(seq)
        for group, table in enumerate(seq.tables):
            self.give(table, self.goes_first(group))
        seq.tables, seq.in_step = [[] for _ in self.groups], -1
