"""A KV cache of several groups that draw blocks from one pool, as vLLM's hybrid manager has it."""

from sim.engine.caches.block_groups import BlockCalendar, BlockGroup
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.decoding import DecodeSet
from sim.engine.sequence import Sequence


class GroupedPool(BlockPool):
    """``num_blocks`` blocks for groups of layers.

    A request takes blocks of its tokens in each group, and gives back those that a window has left
    behind; groups with a state take one for each request, whatever its length.

    Args:
        num_blocks: of the pool.
        groups: what is kept of tokens.
        states: groups with a state.
        lag: whether blocks are given back only when the step in progress is done.
    """

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], states: int = 0, lag: bool = False
    ) -> None:
        super().__init__(num_blocks, min([group.block_size for group in groups], default=1))
        self.in_order = True
        self.groups = groups
        self.states = states
        self.lag = lag

    def decode_set(self, windows: tuple[int | None, ...]) -> DecodeSet:
        """One that knows what its sequences take and give back."""
        return GroupedDecodes(self, windows)

    def blocks(self, tokens: int) -> int:
        """Blocks that ``tokens`` tokens take, those that are given back later included."""
        blocks = self.states if tokens else 0
        for group in self.groups:
            blocks += group.count * group.taken(tokens)
        return blocks

    def longest_tokens(self, blocks: int) -> int:
        """Tokens of the longest request that so many blocks hold."""
        low, high = 0, 1
        while high < 1 << 40 and self.lacks(high) <= blocks:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.lacks(middle) <= blocks:
                low = middle
            else:
                high = middle
        return low

    def lacks(self, tokens: int) -> int:
        """Blocks that a request of so many tokens holds at most."""
        blocks = self.states if tokens else 0
        for group in self.groups:
            blocks += group.count * min(group.taken(tokens), group.most)
        return blocks

    def asks(self, whole_tokens: int, tokens: int) -> int:
        """See ``BlockPool``: of what is taken now, windows have left nothing behind yet."""
        return max(self.lacks(whole_tokens), self.blocks(tokens))

    def load_asks(self, tokens: int, loaded: int, whole: bool) -> int:
        """See ``BlockPool``: what windows have left behind by then is not loaded."""
        blocks = self.states
        for group in self.groups:
            taken = min(group.taken(tokens), group.most) if whole else group.taken(tokens)
            blocks += group.count * max(taken - group.behind(loaded), 0)
        return blocks

    def remaining(self, target_tokens: int, held_tokens: int) -> int:
        """See ``BlockPool``."""
        blocks = 0
        for group in self.groups:
            most = min(group.taken(target_tokens), group.most)
            blocks += group.count * max(most - group.taken(held_tokens), 0)
        return blocks

    def hold(self, sequence: Sequence, tokens: int) -> None:
        """See ``BlockPool``."""
        sequence.settled_tokens = sequence.begun_tokens = tokens
        self.free -= self.held_by(sequence, tokens)

    def start(self, sequence: Sequence, tokens: int) -> None:
        """One that holds nothing takes blocks of its first tokens."""
        sequence.settled_tokens = sequence.begun_tokens = 0
        self.free -= self.blocks(tokens)

    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Give back what windows have left behind; return the blocks of the next tokens."""
        computed = sequence.begun_tokens if self.lag else past
        self.free += self._behind(computed) - self._behind(sequence.settled_tokens)
        sequence.settled_tokens, sequence.begun_tokens = computed, past
        return self.blocks(past + tokens) - self.blocks(past)

    def rest(self, sequence: Sequence) -> None:
        """One whose prompt goes on is in no step for once: nothing of it is in progress."""
        sequence.begun_tokens = sequence.kv_tokens

    def ready(self, sequence: Sequence) -> None:
        """See ``BlockPool``."""
        computed = sequence.begun_tokens if self.lag else sequence.kv_tokens
        sequence.settled_tokens = max(sequence.settled_tokens, computed)

    def stay(self, sequence: Sequence, step: int) -> None:
        """See ``BlockPool``: a window moves on before others are told which blocks there are."""
        computed = sequence.kv_tokens
        self.free += self._behind(computed) - self._behind(sequence.settled_tokens)
        sequence.settled_tokens = computed

    def end(self, sequences: list[Sequence], step: int) -> None:
        """These let go of their blocks."""
        blocks = 0
        for sequence in sequences:
            blocks += self.held_by(sequence, max(sequence.kv_tokens, sequence.slots))
            sequence.slots = 0
        self.give(blocks)

    def release(self, sequence: Sequence, held_tokens: int) -> None:
        """See ``BlockPool``."""
        self.give(self.held_by(sequence, held_tokens))

    def held_by(self, sequence: Sequence, tokens: int) -> int:
        """Blocks that one holds which took blocks of so many tokens."""
        return self.blocks(tokens) - self._behind(sequence.settled_tokens)

    def _behind(self, computed: int) -> int:
        blocks = 0
        for group in self.groups:
            blocks += group.count * group.behind(computed)
        return blocks


class GroupedDecodes(DecodeSet):
    """Sequences that decode, with a calendar of blocks for each kind of groups."""

    def __init__(self, pool: GroupedPool, windows: tuple[int | None, ...]) -> None:
        super().__init__(1, windows)
        self.lag = pool.lag
        self.calendars = [BlockCalendar(group, pool.lag) for group in pool.groups]

    def join(self, sequence: Sequence) -> None:
        """See ``DecodeSet``."""
        super().join(sequence)
        sequence.settled_at_join = sequence.settled_tokens
        sequence.begun_at_join = sequence.begun_tokens
        for calendar in self.calendars:
            calendar.join(sequence, self.step)

    def _settle(self, sequences: list[Sequence]) -> None:
        """Bring those who leave up to date, and the counts of those who stay."""
        step = self.step
        joined = [sequence.kv_tokens for sequence in sequences]
        super()._settle(sequences)
        for place, sequence in enumerate(sequences):
            for calendar in self.calendars:
                calendar.leave(sequence, joined[place], step)
            self._note(sequence, joined[place], step - sequence.joined_step)

    def note(self, sequence: Sequence) -> None:
        """Bring one that goes on decoding up to date with what it has given back."""
        self._note(sequence, sequence.kv_tokens, self.step - sequence.joined_step)

    def _note(self, sequence: Sequence, joined_tokens: int, steps: int) -> None:
        """What was computed when its blocks were last taken, after so many decode steps."""
        last = joined_tokens + steps - 1 if steps else sequence.begun_at_join
        computed = last
        if self.lag and steps:
            computed = last - 1 if steps > 1 else sequence.begun_at_join
        if steps and computed > sequence.settled_tokens:
            sequence.settled_tokens = computed
        sequence.begun_tokens = last

    def needed(self) -> int:
        """Blocks that the coming step takes, before any are given back."""
        blocks = 0
        for calendar in self.calendars:
            blocks += calendar.needed(self.step)
        return blocks

    def change(self) -> int:
        """Blocks that the coming step takes more than it gives back."""
        blocks = 0
        for calendar in self.calendars:
            blocks += calendar.change(self.step)
        return blocks

    def blocks_needed_after(self, steps: int) -> int:
        """The same of the ``steps`` steps that follow the next one."""
        step, blocks = self.step + 1, 0
        for calendar in self.calendars:
            blocks += calendar.needed_in(step, steps, self.count) - calendar.given_in(step, steps)
        return blocks

    def steps_ahead(self, free_blocks: int) -> int:
        """See ``DecodeSet``: without what is given back meanwhile, so that order is no matter."""
        steps = self.steps_to_change()
        most = 0
        for calendar in self.calendars:
            steps = calendar.steps_to_entry(self.step, steps)
            size = calendar.group.block_size
            most += calendar.group.count * ((steps + size - 2) // size)
        if free_blocks >= self.count * most:
            return steps
        return self.most_steps(steps, free_blocks)

    def gross(self, steps: int) -> int:
        """See ``DecodeSet``."""
        blocks = 0
        for calendar in self.calendars:
            blocks += calendar.needed_in(self.step + 1, steps, self.count)
        return blocks

    def advance(self, steps: int) -> list[Sequence]:
        """See ``DecodeSet``."""
        finished = super().advance(steps)
        for calendar in self.calendars:
            calendar.settle(self.step)
        return finished
