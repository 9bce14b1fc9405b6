"""The queue in front of an engine, in the order in which requests are admitted.

Ties go to the earlier arrival, then to the lower row of the workload. A preempted sequence returns
to the front (fcfs) or to its old place (the other orders), as in vLLM.

Who is given up while waiting keeps its entry until that comes to the front, or until half of all
entries are such: leaving costs no more than entering.
"""

from collections import deque
from heapq import heapify

from mypy_extensions import mypyc_attr

from sim.engine.heaps import heappop, heappush
from sim.engine.sequence import Sequence


@mypyc_attr(allow_interpreted_subclasses=True)
class WaitingQueue:
    """What a scheduler needs of its queue.

    Most orders are a ``Ranked``. One that is not keeps ``count`` and each sequence's ``waits``.
    """

    def __init__(self, *, in_turn: bool = False, by_priority: bool = False) -> None:
        self.count = 0
        """Who waits; there may be more entries."""
        self.in_turn = in_turn
        """Whether nobody passes by who waits already."""
        self.by_priority = by_priority
        """Whether the least important are thrown out, instead of the newest."""

    def __len__(self) -> int:
        return self.count

    def push(self, sequence: Sequence) -> None:
        """Add a new arrival."""
        raise NotImplementedError

    def push_back(self, sequence: Sequence) -> None:
        """Return a preempted sequence."""
        raise NotImplementedError

    def head(self) -> Sequence:
        """Who is next; the queue must not be empty."""
        raise NotImplementedError

    def pop(self) -> Sequence:
        """Take who is next."""
        raise NotImplementedError

    def discard(self, sequence: Sequence) -> bool:
        """Take out whoever no longer wants to be served, wherever it is; say whether it was here.

        Its entry may stay: see ``tidy``.
        """
        if not sequence.waits:
            return False
        sequence.waits = False
        self.count -= 1
        self.tidy()
        return True

    def tidy(self) -> None:
        """Drop the entries of those who wait no longer, where they are more than half of all."""
        raise NotImplementedError

    def members(self) -> list[Sequence]:
        """Return everyone, in no particular order."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class FirstCome(WaitingQueue):
    """First come, first served."""

    def __init__(self) -> None:
        super().__init__(in_turn=True)
        self._line: deque[Sequence] = deque()

    def push(self, sequence: Sequence) -> None:
        """Add at the end."""
        sequence.waits = True
        self.count += 1
        self._line.append(sequence)

    def push_back(self, sequence: Sequence) -> None:
        """Return to the front."""
        sequence.waits = True
        self.count += 1
        self._line.appendleft(sequence)

    def head(self) -> Sequence:
        """First in line."""
        first = self._line[0]
        while not first.waits:
            self._line.popleft()
            first = self._line[0]
        return first

    def pop(self) -> Sequence:
        """Take the first in line."""
        first = self._line.popleft()
        while not first.waits:
            first = self._line.popleft()
        first.waits = False
        self.count -= 1
        return first

    def tidy(self) -> None:
        """See ``WaitingQueue``."""
        if len(self._line) > 2 * self.count:
            self._line = deque(self.members())

    def members(self) -> list[Sequence]:
        """Everyone in line."""
        return [each for each in self._line if each.waits]


@mypyc_attr(allow_interpreted_subclasses=True)
class Ranked(WaitingQueue):
    """Lowest rank first, as a heap: a subclass says what the rank is."""

    def __init__(self, *, by_priority: bool = False) -> None:
        super().__init__(by_priority=by_priority)
        self._heap: list[tuple[float, float, int, Sequence]] = []

    def rank(self, sequence: Sequence) -> float:
        """Of one that waits: it stays as it was when that was queued."""
        raise NotImplementedError

    def push(self, sequence: Sequence) -> None:
        """Add at its rank."""
        sequence.waits = True
        self.count += 1
        rank = self.rank(sequence)
        heappush(self._heap, (rank, sequence.arrival_s, sequence.request, sequence))

    def push_back(self, sequence: Sequence) -> None:
        """Return to its rank."""
        self.push(sequence)

    def head(self) -> Sequence:
        """Lowest rank."""
        first = self._heap[0][3]
        while not first.waits:
            heappop(self._heap)
            first = self._heap[0][3]
        return first

    def pop(self) -> Sequence:
        """Take the lowest rank."""
        first = self.head()
        first.waits = False
        self.count -= 1
        heappop(self._heap)
        return first

    def tidy(self) -> None:
        """See ``WaitingQueue``."""
        if len(self._heap) > 2 * self.count:
            self._heap = [entry for entry in self._heap if entry[3].waits]
            heapify(self._heap)

    def members(self) -> list[Sequence]:
        """Everyone, in the heap's order."""
        return [entry[3] for entry in self._heap if entry[3].waits]


class ShortestPrompt(Ranked):
    """Shortest prompt first."""

    def rank(self, sequence: Sequence) -> float:
        """Its tokens."""
        return sequence.prompt_tokens


class ByPriority(Ranked):
    """Lowest priority number first; the least important are thrown out when blocks run out."""

    def __init__(self) -> None:
        super().__init__(by_priority=True)

    def rank(self, sequence: Sequence) -> float:
        """The request's number."""
        return sequence.priority
