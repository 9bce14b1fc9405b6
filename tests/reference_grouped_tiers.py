"""KV in the host's memory where layers keep different tokens: every group of the cache has chunks
of its own, and each block knows what is in it.
"""

from math import inf

from tests.reference_grouped_loading import GroupedLoading
from tests.reference_host import Kept, Use
from tests.reference_hybrid import HybridEngine
from tests.reference_sequence import Block, Seq
from tests.reference_tiers import TierEngine


class GroupedTierEngine(GroupedLoading, TierEngine, HybridEngine):
    """One replica with a host. The chunk of group g at place p of a text: p * groups + g."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        self.host.groups = self.count_of = len(self.groups)
        self.ids: dict[Seq, list[list[Block | None]]] = {}  # blocks as they were given out
        self.loaded: list[Seq] = []  # whose load began in the step that is formed

    def text_of(self, seq: Seq, place: int) -> tuple:
        chunk, group = divmod(place, self.count_of)
        return group, tuple(seq.text[: (chunk + 1) * self.chunk])

    # --- who begins
    def here(self, seq: Seq) -> int:
        return self.look(seq)

    def find_chunk(self, seq: Seq, group: int, chunk: int) -> Kept | None:
        return self.host.get(self.text_of(seq, chunk * self.count_of + group))

    def window_of(self, group: int, tokens: int) -> int:
        """Chunks that whoever has so many tokens has to have of a window."""
        _, window = self.groups[group]
        padding = -tokens % self.chunk
        return int(max(-(-window // self.chunk), -(-(window - 1 + padding) // self.chunk)))

    def hits(self, seq: Seq, group: int, first: int, most: int) -> int | None:
        """Chunks from the first on that a group may have of so many tokens; None: being written."""
        found = [self.find_chunk(seq, group, at) for at in range(first, -(-most // self.chunk))]
        if self.groups[group][1] == inf:
            whole = found.index(None) if None in found else len(found)
            return whole if all(kept.written for kept in found[:whole]) else None
        for end in range(len(found), 0, -1):  # the last run that is long enough
            need = self.window_of(group, most if end == len(found) else 0)
            run = found[max(0, end - need) : end]
            if None not in run and (len(run) == need or end <= need):
                return end if all(kept.written for kept in run) else None
        return 0

    def matched(self, seq: Seq, past: int) -> int | None:
        use = self.uses.setdefault(seq, Use())
        use.offered = 0
        if use.under_way:
            return None
        self.ids.pop(seq, None)
        order = sorted(range(self.count_of), key=lambda group: -self.groups[group][1])
        windows = [group for group in order if self.groups[group][1] < inf]
        most = min(seq.target - bool(windows), seq.target // self.chunk * self.chunk)
        found, waits, todo = 0, False, order
        while todo:
            now, todo, window_seen = todo, [], False
            for group in now:
                if most - past < self.chunk:
                    return 0
                hits = self.hits(seq, group, past // self.chunk, most)
                if hits == 0:
                    return 0
                waits |= hits is None
                if hits is not None:
                    most = min(most, past + hits * self.chunk)
                if most - past < self.chunk:
                    return 0
                if most - past < found:
                    if waits:
                        waits, todo = False, order
                    elif window_seen and not todo:
                        todo = windows
                window_seen |= group in windows
                found = most - past
        if waits or any(
            self.find_chunk(seq, group, at) in self.being_brought
            for group in range(self.count_of)
            for at in self.sees(group, past, most)
        ):
            return None
        return found

    def sees(self, group: int, past: int, total: int) -> range:
        """Chunks that a group needs of so many tokens, and that may come."""
        end, first = -(-total // self.chunk), past // self.chunk
        if self.groups[group][1] < inf:
            first = max(first, end - self.window_of(group, total))
        return range(first, end)

    def bring(self, seq: Seq, past: int, more: int, batch: dict) -> bool:
        total = past + more
        if not self.take(seq, past, total):
            return False
        self.waiting.remove(seq)
        self.parked.append(seq)
        self.loaded.append(seq)
        seq.brought_to, seq.loading_s = total, seq.loading_s - self.now_s
        self.fetch(seq, past, more)
        return True

    def seat_loaded(self, seq: Seq, most: int, batch: dict) -> bool:
        self.name(seq, seq.brought_to)
        seq.kv = seq.brought_to
        past = min(seq.brought_to, seq.target - 1)
        tokens = min(seq.target - past, most)
        lacks = sum(
            max(0, -(-(past + tokens) // size) - len(table))
            for (size, _), table in zip(self.groups, seq.tables, strict=True)
        )
        if self.whole_fits:
            lacks = max(lacks, self.still_wants(seq, seq.target))
        if self.free - lacks < (self.watermark if self.running else 0):
            return False
        self.seat_with(seq, tokens, past, batch)
        return True

    def fetch(self, seq: Seq, past: int, more: int) -> None:
        use, total = self.uses[seq], past + more
        end = -(-total // self.chunk)
        places = [
            at * self.count_of + group
            for group in range(self.count_of)
            for at in range(max(past // self.chunk, self.gone(group, total)), end)
        ]
        texts = {place: self.text_of(seq, place) for place in places}
        self.host.see(use, texts)
        chunks = [self.host.get(text) for text in texts.values()]
        for place, kept in zip(places, chunks, strict=True):
            kept.readers += 1
            use.seen.add(place)
            if place not in use.inserted:
                use.reused.add(place)
        use.offered = end
        use.under_way += 1
        self.being_brought += chunks
        self.coming.append(self.job("in", self.now_s, len(chunks), seq, chunks))

    # --- what is kept
    def before_offers(self, batch: dict) -> None:
        """Whose block is whose is noted as it was given out, and a window's block is forgotten as
        soon as somebody else is given it."""
        super().before_offers(batch)
        given = [block for seq in self.loaded for table in seq.tables for block in table]
        before: dict[Seq, list[int]] = {}
        for seq in [seq for seq, _, _ in batch["chunks"]] + batch["decodes"]:
            ids = self.ids.setdefault(seq, [[] for _ in self.groups])
            before[seq] = [len(blocks) for blocks in ids]
            for blocks, table in zip(ids, seq.tables, strict=True):
                fresh = table[len(blocks) :]
                blocks += fresh
                given += fresh
        anew = {id(block) for block in given if block is not None}
        for seq, ids in self.ids.items():
            ends = before.get(seq, [len(blocks) for blocks in ids])
            for blocks, end, (_, window) in zip(ids, ends, self.groups, strict=True):
                for at in range(self.uses[seq].offered, end):
                    if window < inf and id(blocks[at]) in anew:
                        blocks[at] = None

    def to_offer(self, seq: Seq, use: Use, end: int) -> list[int]:
        return [
            at * self.count_of + group
            for group, blocks in enumerate(self.ids.get(seq, []))
            for at in range(use.offered, end)
            if self.groups[group][1] == inf or (blocks[at] and self.stays(group, seq, at))
        ]

    def after_offers(self) -> None:
        super().after_offers()
        self.loaded = []
        self.ids = {seq: ids for seq, ids in self.ids.items() if seq in self.uses}
