"""The SimPy clock, with events at absolute times.

``Environment.timeout(delay)`` fires at ``now + (time - now)``, which can miss ``time`` by a
rounding error. Step ends and arrivals are compared exactly, so they are scheduled at the very
float that was computed.

Order of what happens at one instant: arrivals first, in the order of their rows, then the ends of
steps, by replica number. Transfers between replicas end before all that. Where a client stands
between, it goes before arrivals: requests that are given up,
answers that are seen, then requests that reach the router, each in the order of sending. Hence a
step that starts at ``t`` sees every request that reached it by ``t``, and a router that decides at
``t`` does not yet see the steps that end at ``t``.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from math import inf

import simpy
from simpy.events import NORMAL, Event

from sim.engine.agenda import Agenda


class Clock(simpy.Environment):  # type: ignore[misc, unused-ignore]
    """A SimPy environment that can schedule at an absolute time in seconds."""

    stop_s = -inf
    """The last moment of the simulation."""

    def __init__(self) -> None:
        self.agenda = Agenda([])
        """Its time, its events, and the loops that sleep until theirs has come."""
        super().__init__()
        self.agenda.events = self._queue  # type: ignore[assignment, unused-ignore]
        self._eid = self.agenda.numbers  # type: ignore[assignment, unused-ignore]

    @property
    def now(self) -> float:
        """The current simulation time, in seconds."""
        return self.agenda.now_s

    @property
    def _now(self) -> float:  # what SimPy reads and sets
        return self.agenda.now_s

    @_now.setter
    def _now(self, time_s: float) -> None:
        self.agenda.now_s = float(time_s)

    def at(self, time_s: float, priority: int = NORMAL) -> Event:
        """Return an event that fires at ``time_s`` (not before now)."""
        event = Event(self)
        event._ok = True
        event._value = None
        heappush(self._queue, (time_s, priority, next(self._eid), event))  # type: ignore[misc, arg-type, unused-ignore]
        return event

    def cancel(self, event: Event) -> None:
        """Let an event that lies ahead never happen."""
        self._queue[:] = [entry for entry in self._queue if entry[3] is not event]
        heapify(self._queue)

    def now_is(self, time_s: float) -> None:
        """Move on to ``time_s``, before which nothing else is to happen: the caller has looked."""
        self.agenda.now_s = time_s

    def run_through(self, stop_s: float) -> None:
        """Process every event up to and including ``stop_s``, or until none is left."""
        self.stop_s = stop_s
        queue, agenda = self._queue, self.agenda
        with without_collector():
            while True:
                agenda.wake(stop_s)
                if not queue or queue[0][0] > stop_s:
                    return
                # As ``simpy.Environment.step``, without a call.
                agenda.now_s, _, _, event = heappop(queue)
                callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise event._value


@contextmanager
def without_collector() -> Iterator[None]:
    """Pause Python's collector of cycles: a run makes none, and it walks over all in flight."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
