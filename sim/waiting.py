"""The queue in front of an engine, in the order in which requests are admitted.

Ties go to the earlier arrival, then to the lower row of the workload. A preempted sequence returns
to the front (fcfs) or to its old place (the other orders), as in vLLM.
"""

from collections import deque
from heapq import heappop, heappush
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


class FirstCome:
    """First come, first served."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, sequence: Sequence) -> None:
        """Add at the end."""
        self._queue.append(sequence)

    def push_back(self, sequence: Sequence) -> None:
        """Put at the front."""
        self._queue.appendleft(sequence)

    def head(self) -> Sequence:
        """First in line."""
        return self._queue[0]

    def pop(self) -> Sequence:
        """Take the first in line."""
        return self._queue.popleft()


class Ranked:
    """Lowest rank first: by prompt length, or by the request's priority."""

    __slots__ = ("_by_prompt", "_heap")

    def __init__(self, order: str) -> None:
        self._by_prompt = order == "shortest_prompt"
        self._heap: list[tuple[int, float, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, sequence: Sequence) -> None:
        """Add at its rank."""
        rank = sequence.prompt_tokens if self._by_prompt else sequence.priority
        heappush(self._heap, (rank, sequence.arrival_s, sequence.request, sequence))

    push_back = push

    def head(self) -> Sequence:
        """Lowest rank."""
        return self._heap[0][3]

    def pop(self) -> Sequence:
        """Take the lowest rank."""
        return heappop(self._heap)[3]


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
