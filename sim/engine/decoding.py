"""The decoding sequences of a replica as counters, so that a step costs O(what changed).

Every decoding sequence gains one token in each decode step. So nothing has to be touched per
sequence: the sum of contexts grows by the number of sequences, a calendar says who ends in which
step, and a histogram says how many sequences cross into a new KV block in which step:

    a sequence with k tokens in the cache at decode step s needs a block when k % block_size == 0,
    that is in every step s' with s' % block_size == (s - k) % block_size.

With a sliding window a sequence attends at most that many positions, so that its context stops
growing in the step that fills the window; a second calendar counts how many do in which step.
"""

from heapq import heappop, heappush

from sim.engine.sequence import Sequence


class DecodeSet:
    """Sequences that decode together.

    Attributes:
        count: sequences.
        context_tokens: KV positions that they attend in the next step, current tokens included.
        growth: sequences whose context is still growing: all, without a sliding window.
        forgotten_tokens: those that windows have left behind, of all sequences.
        step: decode steps done so far.
        needs: new KV blocks of step s, at ``s % block_size``.
        calendar: who finishes in which step.
        dates: a heap of the calendar's steps.
    """

    __slots__ = (
        "_fill_dates",
        "_fills",
        "block_size",
        "calendar",
        "context_tokens",
        "count",
        "dates",
        "forgotten_tokens",
        "growth",
        "needs",
        "step",
        "window",
    )

    def __init__(self, block_size: int, window: int | None = None) -> None:
        self.block_size = block_size
        self.window = window
        self.growth = 0
        self.forgotten_tokens = 0
        self._fills: dict[int, int] = {}  # how many fill their window in which step
        self._fill_dates: list[int] = []  # a heap of those steps
        self.count = 0
        self.context_tokens = 0
        self.step = 0
        self.needs = [0] * block_size
        self.calendar: dict[int, list[Sequence]] = {}
        self.dates: list[int] = []

    @property
    def tokens(self) -> int:
        """Prompts and what was generated, of all sequences."""
        return self.context_tokens + self.forgotten_tokens

    def join(self, sequence: Sequence) -> None:
        """Let a prefilled sequence, with at least one token to go, decode from the next step on."""
        step, kv_tokens = self.step, sequence.kv_tokens
        sequence.joined_step = step
        sequence.finish_step = finish = step + sequence.output_tokens - sequence.generated_tokens
        self.count += 1
        self.growth += 1
        self.context_tokens += kv_tokens + 1
        if self.window is not None:
            self._enter_window(step, kv_tokens, self.window)
        self.needs[(step - kv_tokens) % self.block_size] += 1
        calendar = self.calendar
        if finish in calendar:
            calendar[finish].append(sequence)
        else:
            calendar[finish] = [sequence]
            heappush(self.dates, finish)

    def _enter_window(self, step: int, kv_tokens: int, window: int) -> None:
        """Count a sequence that joins among those that fill their window, or have done so."""
        if kv_tokens + 1 > window:
            self._forget(kv_tokens + 1 - window)
            self.growth -= 1
            return
        date = step + window - 1 - kv_tokens
        if date not in self._fills:
            self._fills[date] = 0
            heappush(self._fill_dates, date)
        self._fills[date] += 1

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
            self.context_tokens -= kv_tokens + 1
            self.growth -= 1
            if self.window is not None:
                self._leave_window(kv_tokens, self.window)
        self.count -= len(sequences)

    def _leave_window(self, kv_tokens: int, window: int) -> None:
        """Undo ``_enter_window`` for one who leaves with ``kv_tokens`` tokens."""
        if kv_tokens < window:
            self._fills[self.step + window - 1 - kv_tokens] -= 1
        else:
            self._forget(window - kv_tokens - 1)
            self.growth += 1

    def _forget(self, tokens: int) -> None:
        """Windows move past so many tokens more."""
        self.context_tokens -= tokens
        self.forgotten_tokens += tokens

    def blocks_needed_after(self, steps: int) -> int:
        """New KV blocks of the ``steps`` steps that follow the next one."""
        size, needs = self.block_size, self.needs
        start = (self.step + 1) % size
        end = start + steps
        if end <= size:
            return sum(needs[start:end])
        # To the end of this round, whole rounds (one block per sequence), the begin of the last.
        return sum(needs[start:]) + (end // size - 1) * self.count + sum(needs[: end % size])

    def steps_ahead(self, free_blocks: int) -> int:
        """How many steps can follow each other until one finishes or blocks run out.

        ``free_blocks`` are those left once the next step has its own; so the answer is at least 1.
        """
        dates = self.dates
        while not self.calendar[dates[0]]:  # all who would have finished then have left
            del self.calendar[heappop(dates)]
        steps = dates[0] - self.step
        if self._fill_dates:
            steps = min(steps, self._steps_to_fill())
        size, count = self.block_size, self.count
        if free_blocks >= count * ((steps + size - 2) // size):
            return steps
        cycles, free_blocks = divmod(free_blocks, count)
        fit = 1 + cycles * size
        place = (self.step + 1) % size
        for needed in self.needs[place:] + self.needs[:place]:
            free_blocks -= needed
            if free_blocks < 0:
                break
            fit += 1
        return min(fit, steps)

    def _steps_to_fill(self) -> int:
        """How many steps can follow each other with the same growth of the context."""
        dates = self._fill_dates
        while dates and not self._fills[dates[0]]:
            del self._fills[heappop(dates)]
        return dates[0] - self.step + 1 if dates else self.dates[0] - self.step

    def advance(self, steps: int) -> list[Sequence]:
        """Do ``steps`` steps; return those who finish with the last one, in order of joining.

        At most as many as until the next date of the calendar.
        """
        self.step = step = self.step + steps
        self.context_tokens += steps * self.growth
        if self.window is not None:
            self._move_windows(steps)
        dates = self.dates
        if dates[0] > step:
            return []
        finished = self.calendar.pop(heappop(dates))
        self._settle(finished)
        return finished

    def _move_windows(self, steps: int) -> None:
        """Forget what fell out of windows in the last ``steps`` steps."""
        self.forgotten_tokens += steps * (self.count - self.growth)
        dates = self._fill_dates
        while dates and dates[0] < self.step:
            filled = self._fills.pop(heappop(dates))
            self.growth -= filled
            self._forget(filled)  # the last step filled the window: it grows no more
