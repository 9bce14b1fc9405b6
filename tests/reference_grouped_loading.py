"""Requests that take blocks of several groups for KV from elsewhere, or leave theirs to others."""

from math import inf

from tests.reference_hybrid import HybridEngine
from tests.reference_sequence import Seq


class GroupedLoading(HybridEngine):
    """What a window will have left behind when all is there is not held."""

    def take(self, seq: Seq, past: int, total: int) -> bool:
        """Hold what is here of the first ``past`` tokens, and blocks of ``total`` in all."""
        tables, idle = [], []
        for group, (size, _) in enumerate(self.groups):
            gone = self.gone(group, total)
            texts = [tuple(seq.text[: (at + 1) * size]) for at in range(gone, past // size)]
            found = [self.there(group, text) for text in texts]
            tables.append([None] * gone + found)
            idle += [block for block in found if not block.holders]

        def missing(tokens: int, capped: bool) -> int:
            return len(idle) + sum(
                max(0, min(-(-tokens // size), most if capped else tokens) - len(table))
                for (size, _), most, table in zip(self.groups, self.most, tables, strict=True)
            )

        free = self.free - (self.watermark if self.running else 0)
        if self.whole_fits and missing(seq.target, True) > free:
            return False
        promised = sum(
            self.still_wants(other, other.target)
            for other in self.running + self.parked
            if other.kv < other.target and other.loads != "cancelled"
        )
        if missing(total, False) + promised > free:
            return False
        for block in [block for table in tables for block in table if block is not None]:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.tables, seq.kv, seq.loads = tables, past, "loading"
        if not seq.preemptions and not seq.status:
            seq.cached = past
        for table, (size, _) in zip(tables, self.groups, strict=True):
            for _ in range(-(-total // size) - len(table)):
                block = self.queue.pop(0)
                block.text, block.holders = None, 1
                table.append(block)
        return True

    def still_wants(self, seq: Seq, tokens: int) -> int:
        """Blocks that it lacks of what it holds at most at a time."""
        return sum(
            max(0, min(-(-tokens // size), most) - len(table))
            for (size, _), most, table in zip(self.groups, self.most, seq.tables, strict=True)
        )

    def leave(self, seq: Seq) -> None:
        """Windows move on before others are told what there is, but not by the step in which
        somebody was given up."""
        self.name(seq, seq.kv)
        in_flight = seq in self.unwanted and seq.in_step == self.formed
        processed = seq.begun if in_flight else seq.kv
        for group, ((_, window), table) in enumerate(zip(self.groups, seq.tables, strict=True)):
            if window < inf:
                behind = self.gone(group, processed)
                self.give(table[:behind], self.windows_first)
                table[:behind] = [None] * behind
        super().leave(seq)


class HandedEngine(GroupedLoading):
    """One replica of a pool with a role, with prefix caching or without."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        self.states = sum(size == 10**9 for size, _ in self.groups)

    def name(self, seq: Seq, tokens: int) -> None:
        if self.caching:
            super().name(seq, tokens)

    def cached_tokens(self, seq: Seq) -> int:
        return self.look(seq)

    def blocks_of(self, past: int, tokens: int) -> int:
        return sum(
            len(range(max(self.gone(group, tokens), past // size), -(-tokens // size)))
            for group, (size, _) in enumerate(self.groups)
        )

    def park(self, seq: Seq, batch: dict) -> bool:
        past, cached = self.look(seq), seq.cached
        if not self.take(seq, past, seq.prompt - self.left_out(seq)):
            return False
        seq.cached, seq.remote = cached, False  # what counts is what the other one had
        self.waiting.remove(seq)
        self.parked.append(seq)
        self.load(seq, past, self.now_s)
        return True

    def seat_loaded(self, seq: Seq, most: int, batch: dict) -> bool:
        """The last token is computed again, or here alone: then it may want a block."""
        loaded = seq.prompt - self.left_out(seq)
        self.name(seq, loaded)
        lacks = sum(
            -(-seq.prompt // size) - len(table)
            for (size, _), table in zip(self.groups, seq.tables, strict=True)
        )
        if self.free - lacks < (self.watermark if self.running else 0):
            return False
        self.parked.remove(seq)
        seq.loads, seq.kv = "", seq.prompt - 1
        self.running.append(seq)
        assert self.grow(seq, seq.prompt, seq.kv)
        batch["chunks"].append((seq, 1, seq.kv))
        return True
