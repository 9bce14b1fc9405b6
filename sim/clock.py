"""The SimPy clock, with events at absolute times.

``Environment.timeout(delay)`` fires at ``now + (time - now)``, which can miss ``time`` by a
rounding error. Step ends and arrivals are compared exactly, so they are scheduled at the very
float that was computed.

Order of what happens at one instant: arrivals first, in the order of their rows, then the ends of
steps, by replica number. Hence a step that starts at ``t`` sees every
request with ``arrival_s <= t``, and a router that decides at ``t`` does not yet see the steps that
end at ``t``.
"""

from heapq import heappush

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL, URGENT, Event

__all__ = ["NORMAL", "URGENT", "Clock"]


class Clock(simpy.Environment):  # type: ignore[misc, unused-ignore]
    """A SimPy environment that can schedule at an absolute time in seconds."""

    def at(self, time_s: float, priority: int = NORMAL) -> Event:
        """Return an event that fires at ``time_s`` (not before now)."""
        event = Event(self)
        event._ok = True
        event._value = None
        heappush(self._queue, (time_s, priority, next(self._eid), event))  # type: ignore[misc, arg-type, unused-ignore]
        return event

    def move(self, event: Event, time_s: float, priority: int = NORMAL) -> Event:
        """Let those who wait for ``event`` wait for ``time_s`` instead; return the new event."""
        earlier = self.at(time_s, priority)
        earlier.callbacks, event.callbacks = event.callbacks, []
        return earlier

    def run_through(self, stop_s: float) -> None:
        """Process every event up to and including ``stop_s``, or until none is left."""
        step = self.step
        if stop_s == float("inf"):
            try:
                while True:
                    step()
            except EmptySchedule:
                return
        while self.peek() <= stop_s:
            step()
