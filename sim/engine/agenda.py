"""What is going to happen: events of the simulation's clock, loops that sleep, and calls.

Loops sleep and wake, and requests come, far more often than anything else happens, so each of these
is an entry of a heap of its own, not an event of SimPy. Entries have the times, priorities and
numbers that events would have, so the order of everything is that of one heap.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

TRANSFER: Final = -4
TIMEOUT: Final = -3
ANSWER: Final = -2
DELIVERY: Final = -1
ARRIVAL: Final = 0
STEP_END: Final = 1
"""Priorities at one instant; that of a step's end is so much and the number of its replica. The
last two are SimPy's ``URGENT`` and ``NORMAL``."""

Events = list[tuple[float, int, int, object]]
"""SimPy's heap: time, priority at one instant, number, and what happens."""


class Numbers:
    """Counts events and entries alike, for SimPy as well."""

    def __init__(self) -> None:
        self._next = 0

    def __iter__(self) -> "Numbers":
        return self

    def __next__(self) -> object:
        return self.take()

    def take(self) -> int:
        """Return the next number."""
        number = self._next
        self._next = number + 1
        return number


class Entry:
    """What happens at its time; earlier entries come first, by priority at one instant, then by
    number."""

    def __init__(self, priority: int) -> None:
        self.time_s = inf
        self.priority = priority
        self.number = -1
        self.place = -1
        """In the agenda; below 0: it is not there."""

    def before(self, other: "Entry") -> bool:
        """Whether it happens before another one."""
        if self.time_s != other.time_s:
            return self.time_s < other.time_s
        if self.priority != other.priority:
            return self.priority < other.priority
        return self.number < other.number

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Let it happen; return how far time has come."""
        raise NotImplementedError


class Agenda:
    """Events and entries in their order.

    Args:
        events: of the clock.
    """

    def __init__(self, events: Events) -> None:
        self.events = events
        self.numbers = Numbers()
        self.now_s = 0.0
        """The clock's own time."""
        self.turn, self.turn_s = -1, -inf
        """The replica that was the last to tell who finished, and when: at that instant those
        before it have ended their steps, too, and begun the next ones."""
        self._heap: list[Entry] = []
        self._vacant = False
        """Whether who is first there happens just now, so that the next one who is put here takes
        that place: mostly it is the same one again."""

    def next_s(self) -> float:
        """Return when the next thing happens; infinity when nothing does."""
        time_s, heap = inf, self._heap
        if self.events:
            time_s = self.events[0][0]
        if not self._vacant:
            if heap and heap[0].time_s < time_s:
                time_s = heap[0].time_s
            return time_s
        if len(heap) > 1 and heap[1].time_s < time_s:
            time_s = heap[1].time_s
        if len(heap) > 2 and heap[2].time_s < time_s:
            time_s = heap[2].time_s
        return time_s

    def call_at(self, time_s: float, priority: int, call: Callable[[], None]) -> None:
        """Let something be called at a time, not before now."""
        self.put(Call(priority, call), time_s)

    def put(self, entry: Entry, time_s: float) -> None:
        """Let an entry happen at a time, before infinity; one that is here, at an earlier time."""
        entry.time_s = time_s
        entry.number = self.numbers.take()
        if entry.place < 0 and self._vacant:
            self._vacant = False
            self._sink(entry)
            return
        if self._vacant:
            self._close()
        if entry.place < 0:
            entry.place = len(self._heap)
            self._heap.append(entry)
        self._rise(entry)

    def wake(self, stop_s: float) -> None:
        """Let every entry happen whose time comes before the next event, and by ``stop_s``."""
        events, heap = self.events, self._heap
        while heap:
            first = heap[0]
            time_s = first.time_s
            if time_s > stop_s or (events and self._event_goes_first(first)):
                return
            first.place = -1
            self._vacant = True
            self.now_s = time_s
            self.now_s = first.go_on(time_s, stop_s)
            if self._vacant:
                self._close()

    def _event_goes_first(self, entry: Entry) -> bool:
        time_s, priority, number, _ = self.events[0]
        if time_s != entry.time_s:
            return time_s < entry.time_s
        return (priority, number) < (entry.priority, entry.number)

    def _rise(self, entry: Entry) -> None:
        """Let an entry pass those that it comes before."""
        heap, place = self._heap, entry.place
        while place:
            above = (place - 1) >> 1
            other = heap[above]
            if not entry.before(other):
                break
            heap[place] = other
            other.place = place
            place = above
        heap[place] = entry
        entry.place = place

    def _close(self) -> None:
        """Nobody took the first place: the last one of all moves there, and on."""
        self._vacant = False
        entry = self._heap.pop()
        if self._heap:
            self._sink(entry)

    def _sink(self, entry: Entry) -> None:
        """Put an entry in the first place, and let those pass that come before it."""
        heap = self._heap
        place, count = 0, len(heap)
        while True:
            below = 2 * place + 1
            if below >= count:
                break
            other = heap[below]
            if below + 1 < count:
                beside = heap[below + 1]
                if beside.before(other):
                    below, other = below + 1, beside
            if entry.before(other):
                break
            heap[place] = other
            other.place = place
            place = below
        heap[place] = entry
        entry.place = place


class Call(Entry):
    """Something that is called once."""

    def __init__(self, priority: int, call: Callable[[], None]) -> None:
        super().__init__(priority)
        self._call = call

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Call it."""
        self._call()
        return now_s


@mypyc_attr(allow_interpreted_subclasses=True)
class GoesOn:
    """A loop of steps, or of arrivals."""

    def __init__(self) -> None:
        self.now_s = 0.0
        """How far it has come."""

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on from ``now_s``; return when to be woken."""
        raise NotImplementedError


class Sleeper(Entry):
    """Lets a loop go on when its time has come, and sleep again; others can wake it earlier.

    Args:
        agenda: where it waits.
        loop: that goes on.
        priority: among those who wake at one instant.
    """

    def __init__(self, agenda: Agenda, loop: GoesOn, priority: int) -> None:
        super().__init__(priority)
        self._agenda = agenda
        self._loop = loop
        self.asleep = False
        """Whether it is not going on just now."""

    def sleep_until(self, time_s: float) -> None:
        """Wait; others can move it to an earlier time."""
        self.asleep = True
        if time_s < inf:
            self._agenda.put(self, time_s)
        else:
            self.time_s = inf

    def wake_at(self, time_s: float) -> None:
        """Wake up earlier than planned."""
        if time_s < self.time_s:
            self.sleep_until(time_s)

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Go on until something else is due; return how far that is."""
        self.asleep = False
        wake_s = self._loop.go_on(now_s, stop_s)
        self.sleep_until(wake_s)
        return self._loop.now_s
