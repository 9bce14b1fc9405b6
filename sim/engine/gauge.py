"""What an engine's metrics say at the moment at which somebody last looked.

vLLM sets its gauges when a step has ended, and whoever collects them does so from time to time::

    steps      |--- 1 ---|----- 2 -----|--- 3 ---|
    collected      x         x         x         x        every ``interval_s``
    shows        none        1         1         2        of the last step that had ended before

Two states are enough: that of the last step, and the one that was shown when metrics were last
collected before it ended. A run of many steps is asked for the step that counts.
"""

from array import array
from bisect import bisect_left, bisect_right
from math import inf

from sim.engine.scheduler import Scheduler


def last_collected_s(now_s: float, interval_s: float) -> float:
    """Return when metrics were last collected: at multiples of an interval; with 0 right now."""
    if interval_s == 0.0:
        return now_s
    count = int(now_s / interval_s)
    time_s = count * interval_s
    return time_s if time_s <= now_s else (count - 1) * interval_s


class Gauge:
    """``num_requests_running``, ``num_requests_waiting`` and the blocks in use, of one engine.

    Args:
        interval_s: between two looks at them.
        scheduler: the engine's.
        ends_s: where the loop puts the ends of steps; the first ``begun`` are of earlier batches.
    """

    def __init__(self, interval_s: float, scheduler: Scheduler, ends_s: "array[float]") -> None:
        self.interval_s = interval_s
        self.scheduler = scheduler
        self.ends_s = ends_s
        self.num_blocks = scheduler.pool.num_blocks
        self.running = 0
        self.waiting = 0
        self.held = 0
        """What was shown after ``read``."""
        self.came: list[int] = []
        """How many steps of the batch under way had ended when each was admitted who came since it
        began."""
        self._last_running, self._last_waiting, self._last_held = 0, 0, 0
        self._last_s = -inf
        self._seen_running, self._seen_waiting, self._seen_held = 0, 0, 0
        self._seen_s = -inf

    def read(self, time_s: float, begun: int, busy: bool) -> None:
        """Show what was collected at ``time_s``, when it was last; ``busy``: a batch is under
        way now."""
        if busy and self.ends_s[begun] < time_s:
            self._show(begun, bisect_left(self.ends_s, time_s, begun) - begun)
        elif self._last_s < time_s:
            self.running, self.waiting = self._last_running, self._last_waiting
            self.held = self._last_held
        else:
            self.running, self.waiting = self._seen_running, self._seen_waiting
            self.held = self._seen_held

    def ending(self, now_s: float, begun: int) -> None:
        """The batch under way ends now, and is not completed yet."""
        time_s = last_collected_s(now_s, self.interval_s)
        if time_s > self._seen_s:
            self.read(time_s, begun, True)
            self._seen_running, self._seen_waiting = self.running, self.waiting
            self._seen_held, self._seen_s = self.held, time_s
        known = self._known_after(len(self.ends_s) - begun)
        if self.scheduler.ahead:
            self.scheduler.passed_by = known
        else:
            self.scheduler.left_waiting += known
        self._last_s = now_s  # whoever looks at this instant sees what was before it

    def ended(self, now_s: float) -> None:
        """It is completed; where steps are planned ahead, the one after it is planned as well."""
        scheduler = self.scheduler
        self._last_running, self._last_waiting = len(scheduler.running), scheduler.left_waiting
        self._last_held, self._last_s = scheduler.pool.held, now_s

    def _show(self, begun: int, ended: int) -> None:
        """Show how it was after some steps of a run that goes on: blocks and the queue grow."""
        scheduler = self.scheduler
        taken = scheduler.decoding.blocks_needed_after(ended - (not scheduler.ahead))
        self.running = len(scheduler.running)
        self.waiting = scheduler.left_waiting + self._known_after(ended)
        self.held = scheduler.pool.held + taken - scheduler.taken_early

    def _known_after(self, ended: int) -> int:
        """Of those who came since the batch began, who waited in the last of its ended steps: who
        comes while a step is under way is known to the one after it."""
        return bisect_right(self.came, ended - 2)
