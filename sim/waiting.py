"""The queue in front of an engine, in the order in which requests are admitted.

Ties go to the earlier arrival, then to the lower row of the workload. A preempted sequence returns
to the front (fcfs) or to its old place (the other orders), as in vLLM.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Protocol

from sim.sequence import Sequence


class WaitingQueue(Protocol):
    """What a scheduler needs of its queue."""

    def __len__(self) -> int: ...

    def push(self, sequence: Sequence) -> None:
        """Add a new arrival."""

    def push_back(self, sequence: Sequence) -> None:
        """Return a preempted sequence."""

    def head(self) -> Sequence:
        """Who is next; the queue must not be empty."""

    def pop(self) -> Sequence:
        """Take who is next."""

    def discard(self, sequence: Sequence) -> bool:
        """Take out whoever no longer wants to be served; say whether it was here."""

    def members(self) -> list[Sequence]:
        """Return everyone, in no particular order."""


class FirstCome(deque[Sequence]):
    """First come, first served."""

    __slots__ = ()

    push = deque.append
    push_back = deque.appendleft
    pop = deque.popleft

    def head(self) -> Sequence:
        """First in line."""
        return self[0]

    def discard(self, sequence: Sequence) -> bool:
        """Take out one, wherever it is in line."""
        if sequence not in self:
            return False
        self.remove(sequence)
        return True

    def members(self) -> list[Sequence]:
        """Everyone in line."""
        return list(self)


class Ranked(list[tuple[int, float, int, Sequence]]):
    """Lowest rank first, as a heap: by prompt length, or by the request's priority."""

    __slots__ = ("_by_prompt",)

    def __init__(self, order: str) -> None:
        self._by_prompt = order == "shortest_prompt"

    def push(self, sequence: Sequence) -> None:
        """Add at its rank."""
        rank = sequence.prompt_tokens if self._by_prompt else sequence.priority
        heappush(self, (rank, sequence.arrival_s, sequence.request, sequence))

    push_back = push

    def head(self) -> Sequence:
        """Lowest rank."""
        return self[0][3]

    def pop(self) -> Sequence:  # type: ignore[override]
        """Take the lowest rank."""
        return heappop(self)[3]

    def discard(self, sequence: Sequence) -> bool:
        """Take out one, wherever it is in the heap."""
        before = len(self)
        self[:] = [entry for entry in self if entry[3] is not sequence]
        heapify(self)
        return len(self) < before

    def members(self) -> list[Sequence]:
        """Everyone, in the heap's order."""
        return [entry[3] for entry in self]


def waiting_queue(order: str) -> WaitingQueue:
    """Return an empty queue of one of the orders: fcfs, shortest_prompt, priority.

    Raises:
        ValueError: another order.
    """
    if order == "fcfs":
        return FirstCome()
    if order in ("shortest_prompt", "priority"):
        return Ranked(order)
    raise ValueError(f"order {order!r} is unknown, expected fcfs, shortest_prompt or priority")
