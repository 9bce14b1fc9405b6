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
from sim.engine.sequence import Batch


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
        self.running = 0
        self.waiting = 0
        self.held = 0
        """What was shown after ``read``."""
        self.came_s: list[float] = []
        """Who was admitted since the batch under way began."""
        self._last = (0, 0, 0)
        self._last_s = -inf
        self._collected = (0, 0, 0)
        self._collected_s = -inf

    def read(self, now_s: float, begun: int, batch: Batch | None, start_s: float) -> None:
        """Show what was collected last, at ``now_s``."""
        time_s = last_collected_s(now_s, self.interval_s)
        shown = self._last if self._last_s < time_s else self._collected
        if batch is not None:
            ended = bisect_left(self.ends_s, time_s, begun) - begun
            if ended:
                shown = self._within(begun, ended, start_s)
        self.running, self.waiting, self.held = shown

    def ending(self, now_s: float, begun: int, start_s: float) -> None:
        """The batch under way ends now, and is not completed yet."""
        time_s = last_collected_s(now_s, self.interval_s)
        if time_s <= self._collected_s:
            return
        ended = bisect_left(self.ends_s, time_s, begun) - begun
        self._collected = self._within(begun, ended, start_s) if ended else self._last
        self._collected_s = time_s

    def ended(self, now_s: float) -> None:
        """It is completed; where steps are planned ahead, the one after it is planned as well."""
        scheduler = self.scheduler
        self._last = (len(scheduler.running), scheduler.left_waiting, scheduler.pool.held)
        self._last_s = now_s

    def _within(self, begun: int, ended: int, start_s: float) -> tuple[int, int, int]:
        """After some steps of the run under way, which goes on: only blocks and the queue grow."""
        scheduler, ends_s = self.scheduler, self.ends_s
        taken = scheduler.decoding.blocks_needed_after(ended - (not scheduler.ahead))
        seen_s = ends_s[begun + ended - 2] if ended > 1 else start_s
        waiting = scheduler.left_waiting + bisect_right(self.came_s, seen_s)
        return len(scheduler.running), waiting, scheduler.pool.held + taken
