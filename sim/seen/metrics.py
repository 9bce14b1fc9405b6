"""The metrics of all engines, as somebody collects them."""

from sim.engine.gauge import Gauge, last_collected_s
from sim.engine.loop import Loop


class Metrics:
    """What engines say of themselves, as old as it was when it was last collected.

    Args:
        loops: the engines.
        interval_s: between two looks at their metrics; 0: right now.
    """

    def __init__(self, loops: list[Loop], interval_s: float) -> None:
        self._loops = loops
        self._interval_s = interval_s
        self._read_s = -1.0
        self.gauges: list[Gauge] = []
        self.running = [0] * len(loops)
        """``num_requests_running`` of each."""
        self.waiting = [0] * len(loops)
        """``num_requests_waiting`` of each."""
        self.kv_use = [0.0] * len(loops)
        """``kv_cache_usage_perc`` of each: the share of its blocks that requests hold."""
        for loop in loops:
            loop.gauge = Gauge(interval_s, loop.scheduler, loop.journal.step_end_s)
            self.gauges.append(loop.gauge)

    def age_s(self, now_s: float) -> float:
        """Return for how long they have been as they are shown."""
        return now_s - last_collected_s(now_s, self._interval_s)

    def read(self, now_s: float) -> None:
        """Bring the lists up to what is known at a moment."""
        time_s = last_collected_s(now_s, self._interval_s)
        if time_s == self._read_s and time_s < now_s:
            return  # what was shown at a moment that is over
        self._read_s = time_s
        for number, loop in enumerate(self._loops):
            gauge = self.gauges[number]
            gauge.read(time_s, loop.journal.steps, loop.batch is not None)
            self.running[number] = gauge.running
            self.waiting[number] = gauge.waiting
            self.kv_use[number] = gauge.held / gauge.num_blocks
