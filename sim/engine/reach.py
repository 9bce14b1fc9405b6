"""How far back decoding sequences look in one class of cache, as counters.

With a window a sequence attends at most that many positions, so that its context stops growing in
the step that fills the window; a calendar counts how many do in which step.
"""

from typing import Final

from sim.engine.heaps import heappop, heappush

ALL_POSITIONS: Final = 1 << 60
"""A window that nobody fills."""


class ReachCounts:
    """Counters of one class.

    Attributes:
        window: positions that a sequence attends, its current token included.
        full: sequences whose window is full, so that their context grows no more.
        forgotten_tokens: positions that windows have left behind, of all sequences.
    """

    __slots__ = ("_dates", "_fills", "_soonest", "forgotten_tokens", "full", "window")

    def __init__(self, window: int | None) -> None:
        self.window = ALL_POSITIONS if window is None else window
        self.full = 0
        self.forgotten_tokens = 0
        self._fills: dict[int, int] = {}  # how many fill their window in which step
        self._dates: list[int] = []  # a heap of those steps
        self._soonest = ALL_POSITIONS  # of them, that some do; 0: has to be found

    def attended(self, kv_tokens: int) -> int:
        """Positions that the last of so many tokens attends."""
        return min(kv_tokens, self.window)

    def enter(self, step: int, kv_tokens: int) -> None:
        """A sequence with ``kv_tokens`` tokens decodes from ``step`` on."""
        behind = kv_tokens + 1 - self.window
        if behind > 0:
            self.forgotten_tokens += behind
            self.full += 1
            return
        date = step - behind
        if date not in self._fills:
            self._fills[date] = 0
            heappush(self._dates, date)
        self._fills[date] += 1
        if date < self._soonest:
            self._soonest = date

    def leave(self, step: int, kv_tokens: int) -> None:
        """Undo ``enter`` for one that has ``kv_tokens`` tokens at ``step``."""
        behind = kv_tokens + 1 - self.window
        if behind > 0:
            self.forgotten_tokens -= behind
            self.full -= 1
        else:
            date = step - behind
            self._fills[date] -= 1
            if date == self._soonest:
                self._soonest = 0

    def steps_to_fill(self, step: int, most: int) -> int:
        """How many steps, up to ``most``, can follow each other with the same growth of reads."""
        if not self._soonest:
            dates = self._dates
            while dates and not self._fills[dates[0]]:
                del self._fills[heappop(dates)]
            self._soonest = dates[0] if dates else ALL_POSITIONS
        return min(most, self._soonest - step + 1)

    def move(self, steps: int, step: int) -> None:
        """Forget what fell out of windows in the ``steps`` steps before ``step``."""
        self.forgotten_tokens += steps * self.full
        if step <= self._soonest and self._soonest:
            return
        dates = self._dates
        while dates and dates[0] < step:
            filled = self._fills.pop(heappop(dates))
            self.full += filled
            self.forgotten_tokens += filled  # the last step filled the window: it grows no more
        self._soonest = 0
