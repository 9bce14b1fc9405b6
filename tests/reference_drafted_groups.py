"""Drafts where layers keep different tokens: blocks of every group, one by one, as vLLM has them.

What a search finds is looked for as vLLM's managers do, block by block, from the left where layers
keep everything, from the right where they have a window.
"""

from math import inf

from sim.engine.drafts.drafting import Acceptance
from sim.settings.pools import Pool
from tests.draft_reference import DraftEngine
from tests.reference_hybrid import HybridEngine
from tests.reference_sequence import Seq


class DraftGroupsEngine(DraftEngine):
    """Nothing is found; windows look back from what is known to be computed."""

    def computed(self, seq: Seq, past: int) -> int:
        return max(0, past - seq.under_way)

    def look(self, seq: Seq) -> int:
        return 0

    def enter(self, seq: Seq, past: int, tokens: int, whole: int) -> bool:
        wanted = sum(-(-tokens // size) for size, _ in self.groups)
        if self.whole_fits:
            wanted = max(wanted, self.most_held(whole))
        if self.free - wanted < (self.watermark if self.running else 0):
            return False
        seq.kv, seq.tables = past, [[] for _ in self.groups]
        self.waiting.remove(seq)
        self.running.append(seq)
        return True

    def after_schedule(self, entry: dict, requests: int) -> None:
        super().after_schedule(entry, requests)
        entry["seq"].under_way += entry["tokens"]

    def end(self) -> list[Seq]:
        for entry in self.step["rows"]:
            entry["seq"].under_way -= entry["tokens"]
        return super().end()


class DraftHybridEngine(DraftGroupsEngine, HybridEngine):
    """Blocks outlive their requests; some groups compute the last one that is found again."""

    def __init__(self, pool: Pool, acceptance: Acceptance) -> None:
        super().__init__(pool, acceptance)
        layout, version = pool.ledger.layout, self.version
        drops = self.drafting.drops_block
        self.drops = [drops and (version < (0, 33) or each.drafts) for each in layout.groups]

    def enter(self, seq: Seq, past: int, tokens: int, whole: int) -> bool:
        return HybridEngine.enter(self, seq, past, tokens, whole)

    # --- what is found
    def look(self, seq: Seq) -> int:
        kinds: dict[tuple, list[int]] = {}
        for number, group in enumerate(self.groups):
            kinds.setdefault(group, []).append(number)
        order = sorted(kinds.values(), key=lambda numbers: self.groups[numbers[0]][1] < inf)
        whole: dict[int, int] = {}
        dropped: set[int] = set()
        hit, longest = seq.target - 1, 0
        while True:
            tokens = hit
            for numbers in order:
                first = numbers[0]
                size, window = self.groups[first]
                if first in whole:
                    tokens = min(tokens, whole[first])
                    continue
                drop = self.drops[first] and first not in dropped
                last = seq.target - (self.version < (0, 32))
                most = min(tokens + size, last) if drop else tokens
                there = [
                    all(self.there(at, tuple(seq.text[: (place + 1) * size])) for at in numbers)
                    for place in range(most // size)
                ]
                if window == inf:
                    found = whole[first] = self.from_left(there, size, drop)
                else:
                    found = self.from_right(there, size, window, drop)
                if drop:
                    dropped.add(first)
                elif found < tokens:
                    dropped = set()
                tokens = found
                longest = max(longest, tokens)
            if tokens >= hit:
                break
            hit = tokens
            if len(order) == 2 and self.groups[order[0][0]][1] == inf:
                break
        self.junction[seq] = longest if longest > hit else 0
        return hit

    def from_left(self, there: list[bool], size: int, drop: bool) -> int:
        blocks = there.index(False) if False in there else len(there)
        tokens = max(0, blocks - drop) * size
        return tokens - tokens % self.common

    def from_right(self, there: list[bool], size: int, window: int, drop: bool) -> int:
        need, step = max(1, -((1 - window) // size) + drop), self.common // size
        behind, stop = 0, None
        for place in reversed(range(len(there))):
            if not there[place]:
                behind = 0
                continue
            if not behind and (place + 1 - drop) % step:
                continue
            behind += 1
            if behind == need:
                stop = place + need
                break
        blocks = behind if stop is None else stop
        while stop is None and blocks % step:
            blocks -= 1
        if drop and blocks:
            blocks -= 1
            while blocks % step:
                blocks -= 1
        return blocks * size

    # --- what is kept
    def stays(self, group: int, seq: Seq, place: int) -> bool:
        size, window = self.groups[group]
        if window == inf:
            return True
        common, more = self.common, int(self.drops[group])
        need = -((1 - window) // size) + more
        ends = []
        every = common if self.dense else self.interval
        if every:
            if need >= every // size:
                return True
            if place >= more and (place - more) % (every // size) >= every // size - need:
                return True
        if self.dense:
            return False
        if any(self.drops):
            for tokens in (seq.prompt - 1, seq.prompt):
                ends.append(max(0, tokens // common * common - common))
        else:
            ends.append(seq.prompt - 1)
        if self.junction[seq]:
            ends.append(self.junction[seq])
            if more and self.version >= (0, 33):
                ends.append(self.junction[seq] - size)
        lasts = [end // common * common // size + more for end in ends]
        return any(max(0, last - need) <= place < last for last in lasts)

    def name(self, seq: Seq, tokens: int) -> None:
        for group, ((size, window), table) in enumerate(zip(self.groups, seq.tables, strict=True)):
            named = tokens - tokens % self.names_at
            if self.drops[group] and named:
                named = min(tokens, named + size)
            for place, block in enumerate(table[: named // size]):
                unnamed = block is not None and (block.text is None or block.text[0] == "tail")
                if unnamed and self.stays(group, seq, place):
                    self.named += 1
                    block.text = (group, tuple(seq.text[: (place + 1) * size]))
                    block.since = self.named
            if self.drops[group] and window == inf and size > self.size:
                end = seq.prompt // self.size * self.size
                if end % size and end <= named and table[end // size].text is None:
                    table[end // size].text = ("tail",)  # it has a hash that nobody looks for
