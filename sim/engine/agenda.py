"""What is going to happen: events of the simulation's clock, loops that sleep, and calls.

Loops sleep and wake, and requests come, far more often than anything else happens, so each of these
is an entry of a heap, not an event of SimPy. Entries are those that events would have, with numbers
of the same counter, so the order of everything is that of one heap.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from math import inf
from typing import Protocol

Heap = list[tuple[float, int, int, object]]
"""Time, priority at one instant, number, and what happens."""


class GoesOn(Protocol):
    """A loop of steps, or of arrivals."""

    now_s: float
    """How far it has come."""

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``; return when to be woken."""


class Agenda:
    """Events and wakes in their order.

    Args:
        events: of the clock.
        numbers: counts events and wakes alike.
    """

    def __init__(self, events: Heap, numbers: Iterator[int]) -> None:
        self.events = events
        self.numbers = numbers
        self.wakes: Heap = []
        self.now_s = 0.0
        """The clock's own time."""

    def next_s(self) -> float:
        """Return when the next thing happens; infinity when nothing does."""
        time_s = inf
        if self.events:
            time_s = self.events[0][0]
        if self.wakes and self.wakes[0][0] < time_s:
            time_s = self.wakes[0][0]
        return time_s

    def call_at(self, time_s: float, priority: int, call: Callable[[], None]) -> None:
        """Let something be called at a time, not before now."""
        number = next(self.numbers)
        heappush(self.wakes, (time_s, priority, number, Call(number, call)))

    def wake(self, stop_s: float) -> None:
        """Let every entry happen whose time comes before the next event, and by ``stop_s``."""
        events, wakes = self.events, self.wakes
        while wakes:
            now_s, priority, number, what = wakes[0]
            if now_s > stop_s:
                return
            if events:
                event_s, first, early, _ = events[0]
                if event_s < now_s or (
                    event_s == now_s
                    and (first < priority or (first == priority and early < number))
                ):
                    return
            heappop(wakes)
            self.now_s = now_s
            assert isinstance(what, Entry)
            if what.number == number:
                self.now_s = what.go_on(now_s, stop_s)


class Entry:
    """What happens at its time, if its ``number`` is still that of the agenda's entry."""

    def __init__(self, number: int) -> None:
        self.number = number

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Let it happen; return how far time has come."""
        raise NotImplementedError


class Call(Entry):
    """Something that is called once."""

    def __init__(self, number: int, call: Callable[[], None]) -> None:
        super().__init__(number)
        self._call = call

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Call it."""
        self._call()
        return now_s


class Sleeper(Entry):
    """Lets a loop go on when its time has come, and sleep again; others can wake it earlier.

    Args:
        agenda: where it waits.
        loop: that goes on.
        priority: among those who wake at one instant.
    """

    def __init__(self, agenda: Agenda, loop: GoesOn, priority: int) -> None:
        super().__init__(-1)
        self._agenda = agenda
        self._loop = loop
        self._priority = priority
        self._wake_s = 0.0
        self.asleep = False
        """Whether it is not going on just now."""

    def sleep_until(self, time_s: float) -> None:
        """Wait; others can move it to an earlier time."""
        self.asleep, self._wake_s, self.number = True, time_s, -1
        if time_s < inf:
            agenda = self._agenda
            self.number = next(agenda.numbers)
            heappush(agenda.wakes, (time_s, self._priority, self.number, self))

    def wake_at(self, time_s: float) -> None:
        """Wake up earlier than planned."""
        if time_s < self._wake_s:
            self.sleep_until(time_s)

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on until something else is due; return how far that is."""
        self.asleep = False
        wake_s = self._loop.go_on(now_s, stop_s)
        reached_s = self._loop.now_s
        self.sleep_until(wake_s)
        return reached_s
