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
        drops: with drafts, whether the last block that is found is computed again.
        chunked: whether what is kept begins anew with every ``window`` positions.
    """

    __slots__ = ("block_size", "chunked", "count", "drops", "most", "of_states", "window")

    def __init__(
        self,
        count: int,
        block_size: int,
        window: int | None,
        most: int,
        drops: bool = False,
        chunked: bool = False,
    ) -> None:
        self.count = count
        self.drops = drops
        self.block_size = block_size
        self.window = window
        self.chunked = chunked
        self.most = most
        self.of_states = False
        """Whether not every token has its place: see ``state_groups``."""

    def taken(self, tokens: int) -> int:
        """Blocks of so many tokens in one group, those that were given back included."""
        return (tokens + self.block_size - 1) // self.block_size

    def takes(self, past: int, end: int, whole: int) -> int:
        """Blocks that a step with the tokens from ``past`` to before ``end`` takes in one group; a
        prompt is computed with its token before ``whole``."""
        return self.taken(end) - self.taken(past)

    def behind(self, computed: int) -> int:
        """Blocks that the window has left behind once so many tokens are computed."""
        if self.window is None or computed < self.window:
            return 0
        if self.chunked:
            return computed // self.window * self.window // self.block_size
        return (computed - self.window + 1) // self.block_size


def seen_blocks(groups: list[BlockGroup], past: int, computed: int, held: int = 0) -> int:
    """Blocks of whoever has computed so many tokens, in all groups, that windows have not left
    behind, less those of the first ``past`` tokens; ``held``: it took blocks of so many."""
    blocks = 0
    for group in groups:
        first = max(group.behind(computed), past // group.block_size)
        blocks += group.count * max(group.taken(max(computed, held)) - first, 0)
    return blocks


class BlockCalendar:
    """Blocks that decoding sequences take and give back, by step, in groups that are alike."""

    __slots__ = (
        "_behind", "_dates", "_each", "_entries", "_gives", "_giving", "_lag", "_needs", "_once",
        "_round", "group",
    )  # fmt: skip

    def __init__(self, group: BlockGroup, lag: bool) -> None:
        self.group = group
        self._lag = int(lag)
        self._needs = [0] * group.block_size  # sequences that take a block in step s, by s % size
        # A window leaves a block behind with every block of tokens, a chunk all of its own at once.
        self._round, self._each, self._behind = group.block_size, 1, 0
        if group.window is not None and group.chunked:
            self._round, self._each = group.window, group.window // group.block_size
        elif group.window is not None:
            self._behind = group.window - 1
        self._gives = [0] * self._round  # sequences that give blocks back, by s % round
        self._giving = 0  # all of the latter
        self._entries: dict[int, int] = {}  # how many begin to give back when
        self._dates: list[int] = []  # a heap of these steps
        self._once: dict[int, int] = {}  # beside that: what the first decode steps give back

    def join(self, sequence: Sequence, step: int) -> None:
        """A sequence decodes from ``step`` on."""
        tokens = sequence.kv_tokens
        self._needs[(step - tokens) % self.group.block_size] += 1
        if self.group.window is not None:
            self._count(sequence, tokens, step, step, 1)

    def leave(self, sequence: Sequence, joined_tokens: int, step: int) -> None:
        """Undo ``join`` for one that joined with so many tokens, before ``step`` is done."""
        joined_step = sequence.joined_step
        self._needs[(joined_step - joined_tokens) % self.group.block_size] -= 1
        if self.group.window is not None:
            self._count(sequence, joined_tokens, joined_step, step, -1)

    def _count(
        self, sequence: Sequence, tokens: int, joined_step: int, step: int, more: int
    ) -> None:
        """Count what one that joined with so many tokens gives back from ``step`` on."""
        group, lag, size = self.group, self._lag, self._round
        # It gives back whenever a round of tokens more are computed than its window holds.
        beyond = tokens - (self._behind + lag)  # at the step in which it joined
        place, entry = (joined_step - beyond) % size, joined_step + max(0, 1 - beyond)
        if entry <= step:
            self._gives[place] += more
            self._giving += more
        elif entry in self._entries:
            self._entries[entry] += more
        else:
            self._entries[entry] = more
            heappush(self._dates, entry)
        if step > joined_step + lag:
            return
        given = group.behind(sequence.settled_at_join)
        for later in range(lag + 1):
            date = joined_step + later
            due = group.behind(tokens if later == lag else sequence.begun_at_join)
            usual = self._each * int(date >= entry and (date - place) % size == 0)
            if date >= step and due - given - usual:
                self._once[date] = self._once.get(date, 0) + more * (due - given - usual)
            given = due

    def settle(self, step: int) -> None:
        """Steps before ``step`` are done."""
        dates = self._dates
        while dates and dates[0] <= step:
            date = heappop(dates)
            count = self._entries.pop(date)
            self._gives[(date - 1) % self._round] += count
            self._giving += count
        if self._once:
            for date in list(self._once):
                if date < step:
                    del self._once[date]

    def steps_to_entry(self, step: int, most: int) -> int:
        """How many steps, up to ``most``, until somebody begins to give blocks back."""
        return min(most, self._dates[0] - step) if self._dates else most

    def needed(self, step: int) -> int:
        """Blocks that are taken in a step."""
        group = self.group
        return group.count * self._needs[step % group.block_size]

    def change(self, step: int) -> int:
        """Blocks that are taken in a step, less those that are given back."""
        group = self.group
        blocks = self._needs[step % group.block_size]
        blocks -= self._each * self._gives[step % self._round]
        if self._once:
            blocks -= self._once.get(step, 0)
        return group.count * blocks

    def needed_in(self, step: int, steps: int, sequences: int) -> int:
        """Blocks that are taken in ``steps`` steps from ``step`` on."""
        return self.group.count * _in_steps(self._needs, step, steps, sequences)

    def given_in(self, step: int, steps: int) -> int:
        """Blocks that are given back in them."""
        if self.group.window is None:
            return 0
        blocks = 0
        if self._giving:
            blocks = self._each * _in_steps(self._gives, step, steps, self._giving)
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
