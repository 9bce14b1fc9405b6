"""Where requests come from: an open stream of arrivals, users who wait for their answers, and
sessions, whose next turns wait for the answers to those before."""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from sim.clock import URGENT, Clock
from sim.engine.sequence import Sequence
from sim.following import following_of
from workloads.requests import Floats, Requests

Send = Callable[[Sequence], None]
_BLOCK = 4096  # rows turned into Python numbers at a time, so that memory holds few of them


def sequences(
    requests: Requests,
    times_s: Floats,
    order: npt.NDArray[np.int64] | None = None,
    owner: npt.NDArray[np.int32] | None = None,
    replica: int = 0,
) -> Iterator[Sequence]:
    """Give the rows of a workload as they are asked for, each at its time.

    All of them in their order, or the rows of another ``order``; or those that a replica owns.
    """
    columns = (
        times_s,
        requests.prompt_tokens,
        requests.output_tokens,
        requests.priority,
    )

    def block(start: int) -> Iterator[Sequence]:
        rows = np.arange(start, min(start + _BLOCK, count))
        if order is not None:
            rows = order[rows]
        if owner is not None:
            rows = rows[owner[rows] == replica]
        return map(Sequence, rows.tolist(), *(column[rows].tolist() for column in columns))

    count = len(requests) if order is None else len(order)
    return chain.from_iterable(map(block, range(0, count, _BLOCK)))


def first_rows(requests: Requests) -> npt.NDArray[np.int64] | None:
    """Rows that wait for no row before: the first turns of sessions; None without any: all."""
    return None if requests.turn is None else np.flatnonzero(requests.turn == 0)


class ClosedLoop:
    """``users`` users: each sends a request, reads the whole answer, thinks, sends the next.

    Row ``i`` of the workload is the ``i``-th request to be issued; before it its user thinks
    ``think_s[i]``. Everybody starts thinking at time 0. A rejected request is answered at once.

    With sessions it is the first turns that are issued like that, and a user who has one goes
    through it, as ``sim.following`` says, before she is free again. Turns behind one that is
    rejected or given up are never asked. Where sessions arrive by themselves there are no users.
    """

    def __init__(self, clock: Clock, requests: Requests, send: Send) -> None:
        assert requests.think_s is not None
        self.clock, self.think_s, self.send = clock, requests.think_s, send
        # Single elements of memory views cost less than those of arrays.
        self._lengths = requests.prompt_tokens.data, requests.output_tokens.data
        self._priority = requests.priority.data
        first = first_rows(requests)
        self._users = min(requests.users or 0, len(requests) if first is None else len(first))
        self._free = sequences(requests, requests.arrival_s, first) if self._users else iter(())
        self._following = following_of(requests)

    def start(self) -> None:
        """Everybody starts thinking, at time 0."""
        for _ in range(self._users):
            self._think(next(self._free, None), 0.0, at_once=False)

    def left(self, sequence: Sequence, now_s: float, answered: bool, at_once: bool = False) -> None:
        """A request has its answer, or never will: after thinking, its user sends the next.

        ``at_once``: without think time it is sent within this call, so that the step that starts at
        this very moment sees it.
        """
        following, over = self._following.left(sequence.request, answered)
        for row in following:
            self._think(self._turn(row), now_s, at_once)
        if over:
            self._think(next(self._free, None), now_s, at_once)

    def _turn(self, row: int) -> Sequence:
        """A further turn of a session."""
        prompt, output = self._lengths
        return Sequence(row, float("nan"), prompt[row], output[row], self._priority[row])

    def _think(self, sequence: Sequence | None, now_s: float, at_once: bool) -> None:
        if sequence is None:
            return
        sequence.arrival_s = time_s = now_s + float(self.think_s[sequence.request])
        if at_once and time_s == now_s:
            self.send(sequence)
        else:
            self.clock.agenda.call_at(time_s, URGENT, lambda: self.send(sequence))
