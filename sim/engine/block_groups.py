"""Groups of a KV cache whose layers do not keep equally much, and their blocks while one decodes.

    window = 6, block_size = 4, a sequence of 11 tokens that computes its 12th:

    tokens   [0 1 2 3] [4 5 6 7] [8 9 10 11]      attends 6 to 11
    blocks    given back  held      held

A block is given back when the step after the one that left it behind is planned. With ``lag`` the
step in progress has to be done first, as in vLLM since 0.26.
"""

from heapq import heappop, heappush

from sim.engine.sequence import Sequence


class BlockGroup:
    """Groups that are alike: how many, tokens of a block, and what is kept.

    Args:
        count: groups; each takes blocks of its own.
        block_size: tokens of one of them.
        window: positions that are kept; None: all.
        most: blocks of a window that one request holds at most, in one group.
    """

    __slots__ = ("block_size", "count", "most", "window")

    def __init__(self, count: int, block_size: int, window: int | None, most: int) -> None:
        self.count = count
        self.block_size = block_size
        self.window = window
        self.most = most

    def taken(self, tokens: int) -> int:
        """Blocks of so many tokens in one group, those that were given back included."""
        return (tokens + self.block_size - 1) // self.block_size

    def behind(self, computed: int) -> int:
        """Blocks that the window has left behind once so many tokens are computed."""
        if self.window is None or computed < self.window:
            return 0
        return (computed - self.window + 1) // self.block_size


class BlockCalendar:
    """Blocks that decoding sequences take and give back, by step, in groups that are alike."""

    __slots__ = (
        "_dates", "_entries", "_gives", "_lag", "_needs", "_once", "group",
    )  # fmt: skip

    def __init__(self, group: BlockGroup, lag: bool) -> None:
        self.group = group
        self._lag = int(lag)
        self._needs = [0] * group.block_size  # sequences that take a block in step s, by s % size
        self._gives = [0] * group.block_size  # and that give one back
        self._entries: dict[int, list[int]] = {}  # who begins to give back when, by s % size
        self._dates: list[int] = []  # a heap of these steps
        self._once: dict[int, int] = {}  # beside that: what the first decode steps give back

    def join(self, sequence: Sequence, step: int) -> None:
        """A sequence decodes from ``step`` on."""
        size = self.group.block_size
        self._needs[(step - sequence.kv_tokens) % size] += 1
        self._count(sequence, step, step, 1)

    def leave(self, sequence: Sequence, joined_step: int, step: int, joined_tokens: int) -> None:
        """Undo ``join`` for one that joined with so many tokens, before ``step`` is done."""
        size = self.group.block_size
        self._needs[(joined_step - joined_tokens) % size] -= 1
        tokens, sequence.kv_tokens = sequence.kv_tokens, joined_tokens
        self._count(sequence, joined_step, step, -1)
        sequence.kv_tokens = tokens

    def _count(self, sequence: Sequence, joined_step: int, step: int, more: int) -> None:
        """Count what one gives back from ``step`` on."""
        group, lag = self.group, self._lag
        if group.window is None:
            return
        size, tokens = group.block_size, sequence.kv_tokens
        beyond = tokens - (group.window - 1 + lag)  # at the step in which it joined
        place, entry = (joined_step - beyond) % size, joined_step + max(0, 1 - beyond)
        if entry <= step:
            self._gives[place] += more
        else:
            if entry not in self._entries:
                self._entries[entry] = [0] * size
                heappush(self._dates, entry)
            self._entries[entry][place] += more
        given = group.behind(sequence.settled_at_join)
        for later in range(lag + 1):
            date = joined_step + later
            known = tokens if later == lag else sequence.begun_at_join
            due = group.behind(known)
            usual = int(date >= entry and (date - place) % size == 0)
            if date >= step and due - given - usual:
                self._once[date] = self._once.get(date, 0) + more * (due - given - usual)
            given = due

    def settle(self, step: int) -> None:
        """Steps before ``step`` are done."""
        while self._dates and self._dates[0] <= step:
            for place, count in enumerate(self._entries.pop(heappop(self._dates))):
                self._gives[place] += count
        if self._once:
            self._once = {date: blocks for date, blocks in self._once.items() if date >= step}

    def steps_to_entry(self, step: int, most: int) -> int:
        """How many steps, up to ``most``, until somebody begins to give blocks back."""
        return min(most, self._dates[0] - step) if self._dates else most

    def needed(self, step: int, steps: int, sequences: int) -> int:
        """Blocks that are taken in ``steps`` steps from ``step`` on."""
        return self.group.count * _in_steps(self._needs, step, steps, sequences)

    def given(self, step: int, steps: int) -> int:
        """Blocks that are given back in them."""
        if self.group.window is None:
            return 0
        blocks = _in_steps(self._gives, step, steps, sum(self._gives))
        for date, once in self._once.items():
            if step <= date < step + steps:
                blocks += once
        return self.group.count * blocks


def _in_steps(counts: list[int], step: int, steps: int, every_round: int) -> int:
    """Sum of counts by step, which go round, over ``steps`` steps from ``step`` on."""
    size = len(counts)
    start = step % size
    end = start + steps
    if end <= size:
        return sum(counts[start:end])
    # To the end of this round, whole rounds, the begin of the last.
    return sum(counts[start:]) + (end // size - 1) * every_round + sum(counts[: end % size])
