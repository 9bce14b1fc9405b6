"""What lives on the simulation's clock: it goes on, and sleeps until something is due."""

from math import inf
from typing import Protocol

from simpy.events import Event

from sim.clock import Clock


class GoesOn(Protocol):
    """A loop of steps."""

    now_s: float
    """How far it has come."""

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``; return when to be woken."""


class Sleeper:
    """Wakes a loop, lets it go on, and sleeps again; others can wake it earlier.

    Args:
        clock: of the simulation.
        loop: that goes on.
        priority: among those who wake at one instant.
    """

    def __init__(self, clock: Clock, loop: GoesOn, priority: int) -> None:
        self.clock = clock
        self._loop = loop
        self._priority = priority
        self._wake: Event | None = None  # what is waited for while asleep
        self._wake_s = 0.0

    @property
    def asleep(self) -> bool:
        """Whether it is not going on just now."""
        return self._wake is not None

    def sleep_until(self, time_s: float) -> None:
        """Wait; others can move it to an earlier time."""
        self._wake_s = time_s
        wake = self.clock.at(time_s, self._priority) if time_s < inf else Event(self.clock)
        wake.callbacks.append(self._go_on)
        self._wake = wake

    def wake_at(self, time_s: float) -> None:
        """Wake up earlier than planned."""
        if time_s < self._wake_s:
            assert self._wake is not None
            self._wake_s = time_s
            self._wake = self.clock.move(self._wake, time_s, self._priority)

    def _go_on(self, _: Event) -> None:
        clock, loop = self.clock, self._loop
        self._wake = None
        wake_s = loop.go_on(clock.now, clock.stop_s)
        clock.now_is(loop.now_s)
        self.sleep_until(wake_s)
