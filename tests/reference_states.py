"""Prefix caching where layers keep a state, block by block: a table of states has holes, and a
chunk stops at the first place where vLLM wants a state to be kept.
"""

from math import inf, lcm

from tests.reference_hybrid import HybridEngine
from tests.reference_sequence import Block, Seq


class StateEngine(HybridEngine):
    """A replica some of whose layers keep a state, which others can begin with."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        groups = pool.ledger.layout.groups
        self.states = [number for number, group in enumerate(groups) if group.state]
        self.groups = [
            (group.block_tokens, 2 if group.state else group.window or inf) for group in groups
        ]
        longest, flight = pool.max_model_len, pool.ledger.in_flight_tokens
        self.most = [group.most_blocks(longest, flight) for group in groups]
        self.chunked = [False] * len(self.groups)
        self.common = self.names_at = lcm(*(size for size, _ in self.groups))
        self.exports = groups[self.states[0]].states == 3
        self.before_last = self.version >= (0, 32)
        self.began: dict[tuple[Seq, int], int] = {}  # blocks with which steps began that took one
        self.new: set[tuple] = set()  # states that are written in this step

    def form_chunked(self, batch: dict) -> None:
        self.new = set()
        super().form_chunked(batch)

    # --- where chunks end
    def cut(self, seq: Seq, tokens: int, past: int) -> int:
        size, whole = self.common, max(seq.prompt, seq.target - 1)
        if past >= whole:
            return tokens
        end, longest = past + tokens, min(self.budget, self.threshold)
        last_state = (whole - 1) // size * size
        in_passing = end >= whole and self.exports and past % size == 0 and past < last_state
        if end < whole and (end // size * size > past or size <= longest):
            end = end // size * size
        for stop in range(past + 1, end):
            last = (seq.target - self.before_last) // size * size
            next_block = stop % size == 0 and past % size and stop - past < size
            others = past < self.junction[seq] < past + tokens
            shared = others and stop == past + (self.junction[seq] - past) // size * size
            if shared or (not in_passing and (stop == last or next_block)):
                return stop - past
        return max(end - past, 0)

    # --- blocks
    def wants(self, group: int, table: list, past: int, tokens: int, seq: Seq) -> int:
        """Blocks that a step takes: of states the last one, or two."""
        size = self.groups[group][0]
        more = -(-tokens // size) - len(table)
        if group not in self.states:
            return more
        ends = not self.at_ends or tokens >= max(seq.prompt, seq.target - 1)
        two = self.exports and ends and past % size == 0 and (tokens - 1) // size > past // size
        return min(more, 2 if two else 1)

    @property
    def at_ends(self) -> bool:
        return not self.dense and self.interval == 0

    def seat(self, seq: Seq, most: int, batch: dict) -> bool:
        past = self.look(seq) if self.caching else 0
        tables: list[list[Block | None]] = []
        idle, late = [], False
        for group, (size, window) in enumerate(self.groups):
            gone = int(max(0, past - window + 1) // size) if window < inf else 0
            texts = [tuple(seq.text[: (place + 1) * size]) for place in range(gone, past // size)]
            found = [self.there(group, text) for text in texts]
            tables.append([None] * gone + found)
            idle += [block for block in found if not block.holders]
            late = late or any((group, text) in self.new for text in texts)
        tokens = self.cut(seq, min(seq.target - past, most), past)
        ends = [past + tokens, *[seq.target] * self.whole_fits]
        lacks = max(
            len(idle)
            + sum(max(0, self.wants(g, tables[g], past, end, seq)) for g in range(len(tables)))
            for end in ends
        )
        if not tokens or late or self.free - lacks < (self.watermark if self.running else 0):
            return False
        for block in [block for table in tables for block in table if block is not None]:
            block.holders += 1
        for block in idle:
            self.queue.remove(block)
        seq.kv, seq.tables = past, tables
        if not seq.preemptions and not seq.status:
            seq.cached = past
        self.waiting.remove(seq)
        self.running.append(seq)
        assert self.grow(seq, past + tokens, past)
        self.name(seq, past + tokens)
        batch["chunks"].append((seq, tokens, past))
        return True

    def grow(self, seq: Seq, tokens: int, past: int) -> bool:
        computed = past
        if self.lag and seq.in_step == self.formed - 1:
            computed = seq.begun
        for group, ((size, window), table) in enumerate(zip(self.groups, seq.tables, strict=True)):
            if window < inf:
                behind = int(max(0, computed - window + 1) // size)
                given = self.given(seq, group, behind)
                self.give([table[place] for place in given], self.windows_first)
                for place in given:
                    table[place] = None
        more = [self.wants(g, table, past, tokens, seq) for g, table in enumerate(seq.tables)]
        if sum(more) > self.free:
            return False
        for group, new in enumerate(more):
            (size, _), table = self.groups[group], seq.tables[group]
            if -(-tokens // size) > len(table):
                self.began[seq, group] = len(table) - 1
            table += [None] * (-(-tokens // size) - new - len(table))
            for _ in range(new):
                block = self.queue.pop(0)
                block.text, block.holders = None, 1
                table.append(block)
        seq.begun, seq.in_step = past, self.formed
        return True

    def given(self, seq: Seq, group: int, behind: int) -> list[int]:
        """Which blocks are given back of those that are left behind: before 0.30 what stands
        without a hole at their end, and the one with which the last step began that took one."""
        table = seq.tables[group]
        if self.version >= (0, 30):
            return list(range(behind))
        first = behind
        while first and table[first - 1] is not None:
            first -= 1
        places, began = list(range(first, behind)), self.began.get((seq, group), -1)
        if 0 <= began < first and table[began] is not None:
            places.insert(0, began)
        return places

    def drop(self, seq: Seq) -> None:
        super().drop(seq)
        for group in range(len(self.groups)):
            self.began.pop((seq, group), None)

    def name(self, seq: Seq, tokens: int) -> None:
        before = self.named
        super().name(seq, tokens)
        for group in self.states:
            blocks = [block for block in seq.tables[group] if block is not None]
            self.new |= {block.text for block in blocks if block.text and block.since > before}
