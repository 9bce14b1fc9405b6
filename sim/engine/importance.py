"""Who is thrown out first where requests have priorities."""

from collections.abc import Collection
from heapq import heapify, heappop, heappush

from sim.engine.sequence import Sequence

_Entry = tuple[int, float, int, Sequence]


class LeastImportant:
    """The running set by importance, least first: highest number, then latest, then last row.

    A heap. Who leaves the running set keeps its entry until that comes to the top, or until more
    than half of all entries are such.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, sequence: Sequence, running: Collection[Sequence]) -> None:
        """One more runs."""
        heappush(self._entries, _entry(sequence))
        if len(self._entries) > 2 * len(running) + 64:
            self._entries = [_entry(each) for each in running]
            heapify(self._entries)

    def first(self, running: Collection[Sequence]) -> Sequence:
        """Return the least important of those who run; there must be one."""
        while self._entries[0][3] not in running:
            heappop(self._entries)
        return self._entries[0][3]


def _entry(sequence: Sequence) -> _Entry:
    return -sequence.priority, -sequence.arrival_s, -sequence.request, sequence
