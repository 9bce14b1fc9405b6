"""The decoding sequences of a replica as counters, so that a step costs O(what changed).

Every decoding sequence gains one token in each decode step. So nothing has to be touched per
sequence: the sum of contexts grows by the number of sequences, a calendar says who ends in which
step, and a histogram says how many sequences cross into a new KV block in which step:

    a sequence with k tokens in the cache at decode step s needs a block when k % block_size == 0,
    that is in every step s' with s' % block_size == (s - k) % block_size.

What they attend is a sum for every class of cache: all positions, or those of a window
(``sim.engine.reach``).
"""

from sim.engine.heaps import heappop, heappush
from sim.engine.reach import ALL_POSITIONS, ReachCounts
from sim.engine.sequence import Batch, Sequence


class DecodeSet:
    """Sequences that decode together.

    Args:
        block_size: tokens of a KV block.
        windows: of every class of cache; None: all positions.

    Attributes:
        count: sequences.
        tokens: prompts and what was generated, of all sequences.
        reaches: what they attend, by class of cache.
        step: decode steps done so far.
        needs: new KV blocks of step s, at ``s % block_size``.
        calendar: who finishes in which step.
        dates: a heap of the calendar's steps.
    """

    __slots__ = (
        "_windows",
        "block_size",
        "calendar",
        "count",
        "dates",
        "needs",
        "reaches",
        "step",
        "tokens",
    )

    def __init__(self, block_size: int, windows: tuple[int | None, ...] = (None,)) -> None:
        self.block_size = block_size
        self.reaches = [ReachCounts(window) for window in windows]
        self._windows = [reach for reach in self.reaches if reach.window < ALL_POSITIONS]
        self.count = 0
        self.tokens = 0
        self.step = 0
        self.needs = [0] * block_size
        self.calendar: dict[int, list[Sequence]] = {}
        self.dates: list[int] = []

    def tell(self, batch: Batch) -> None:
        """Put all into a batch: how many they are, and what they attend from its first step on."""
        batch.decodes = count = self.count
        tokens, reads, growth = self.tokens, batch.reads, batch.growth
        for place, reach in enumerate(self.reaches):
            reads[place] = tokens - reach.forgotten_tokens
            growth[place] = count - reach.full

    def join(self, sequence: Sequence) -> None:
        """Let a prefilled sequence, with at least one token to go, decode from the next step on."""
        step, kv_tokens = self.step, sequence.kv_tokens
        sequence.joined_step = step
        sequence.finish_step = finish = step + sequence.output_tokens - sequence.generated_tokens
        self.count += 1
        self.tokens += kv_tokens + 1
        for reach in self._windows:
            reach.enter(step, kv_tokens)
        self.needs[(step - kv_tokens) % self.block_size] += 1
        calendar = self.calendar
        if finish in calendar:
            calendar[finish].append(sequence)
        else:
            calendar[finish] = [sequence]
            heappush(self.dates, finish)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out before it has finished."""
        sequence.generated_tokens += self.step - sequence.joined_step
        self.calendar[sequence.finish_step].remove(sequence)
        self._settle([sequence])

    def _settle(self, sequences: list[Sequence]) -> None:
        """Bring ``kv_tokens`` of those who leave up to date, and the counts of those who stay."""
        step, needs, block_size = self.step, self.needs, self.block_size
        for sequence in sequences:
            sequence.kv_tokens = kv_tokens = sequence.kv_tokens + step - sequence.joined_step
            sequence.finish_step = -1
            needs[(step - kv_tokens) % block_size] -= 1
            self.tokens -= kv_tokens + 1
            for reach in self._windows:
                reach.leave(step, kv_tokens)
        self.count -= len(sequences)

    def needed(self) -> int:
        """Blocks that the coming step takes, before any are given back."""
        return self.needs[self.step % self.block_size]

    def change(self) -> int:
        """Blocks that the coming step takes more than it gives back."""
        return self.needs[self.step % self.block_size]

    def cut_short(self, sequences: list[Sequence]) -> None:
        """Some are given up in the step that ends now: nobody learns what it brought them."""

    def note(self, sequence: Sequence) -> None:
        """Bring one that goes on decoding up to date with what it has given back."""

    def serve(self) -> None:
        """Everybody who runs has its blocks of the coming step."""

    def blocks_needed_after(self, steps: int) -> int:
        """New KV blocks of the ``steps`` steps that follow the next one."""
        size, needs = self.block_size, self.needs
        rounds, left = steps // size, steps % size
        blocks, at = rounds * self.count, (self.step + 1) % size  # one per sequence in each round
        while left:
            blocks += needs[at]
            at = at + 1 if at + 1 < size else 0
            left -= 1
        return blocks

    def steps_ahead(self, free_blocks: int) -> int:
        """How many steps can follow each other until one finishes or blocks run out.

        ``free_blocks`` are those left once the next step has its own; so the answer is at least 1.
        """
        steps = self.steps_to_change()
        size, count = self.block_size, self.count
        if free_blocks >= count * ((steps + size - 2) // size):
            return steps
        cycles, free_blocks = divmod(free_blocks, count)
        fit, needs = 1 + cycles * size, self.needs
        while fit < steps:
            free_blocks -= needs[(self.step + fit) % size]
            if free_blocks < 0:
                break
            fit += 1
        return min(fit, steps)

    def most_steps(self, steps: int, free_blocks: int) -> int:
        """How many of so many steps can follow each other, the first of which has its blocks, while
        ``gross`` blocks are free: found by halves."""
        low, high = 1, steps + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.gross(middle - 1) <= free_blocks:
                low = middle
            else:
                high = middle
        return low

    def gross(self, steps: int) -> int:
        """Blocks taken in the ``steps`` steps that follow the next one, whatever is given back."""
        return self.blocks_needed_after(steps)

    def steps_to_change(self) -> int:
        """How many steps can follow each other until one finishes, or reads grow otherwise."""
        dates = self.dates
        while not self.calendar[dates[0]]:  # all who would have finished then have left
            del self.calendar[heappop(dates)]
        steps = dates[0] - self.step
        for reach in self._windows:
            steps = reach.steps_to_fill(self.step, steps)
        return steps

    def advance(self, steps: int) -> list[Sequence]:
        """Do ``steps`` steps; return those who finish with the last one, in order of joining.

        At most as many as until the next date of the calendar.
        """
        self.step = step = self.step + steps
        self.tokens += steps * self.count
        for reach in self._windows:
            reach.move(steps, step)
        dates = self.dates
        if dates[0] > step:
            return []
        date = heappop(dates)
        finished = self.calendar[date]
        del self.calendar[date]
        self._settle(finished)
        return finished
