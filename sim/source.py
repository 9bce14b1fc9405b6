"""Where requests come from: an open stream of arrivals, or users who wait for their answers."""

from collections.abc import Callable, Generator, Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt
from simpy.events import Event

from sim.clock import URGENT, Clock
from sim.engine.sequence import Sequence
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

    All of them, in their order or another, or those that a replica owns.
    """
    columns = (
        times_s,
        requests.prompt_tokens,
        requests.output_tokens,
        requests.priority,
    )

    def block(start: int) -> Iterator[Sequence]:
        rows = np.arange(start, min(start + _BLOCK, len(requests)))
        if order is not None:
            rows = order[rows]
        if owner is not None:
            rows = rows[owner[rows] == replica]
        return map(Sequence, rows.tolist(), *(column[rows].tolist() for column in columns))

    return chain.from_iterable(map(block, range(0, len(requests), _BLOCK)))


def open_arrivals(
    clock: Clock, arriving: Iterator[Sequence], send: Send
) -> Generator[Event, None, None]:
    """Send each request at its own time, whatever became of those before it."""
    now_s = 0.0
    for sequence in arriving:
        if sequence.arrival_s > now_s:
            now_s = sequence.arrival_s
            if not clock.skip_to(now_s):
                yield clock.at(now_s, URGENT)
        send(sequence)


class ClosedLoop:
    """``users`` users: each sends a request, reads the whole answer, thinks, sends the next.

    Row ``i`` of the workload is the ``i``-th request to be issued; before it its user thinks
    ``think_s[i]``. Everybody starts thinking at time 0. A rejected request is answered at once.
    """

    def __init__(self, clock: Clock, requests: Requests, send: Send) -> None:
        assert requests.users is not None
        assert requests.think_s is not None
        self.clock, self.think_s, self.send = clock, requests.think_s, send
        self._rows = sequences(requests, requests.arrival_s)
        self._users = min(requests.users, len(requests))

    def start(self) -> None:
        """Everybody starts thinking, at time 0."""
        for _ in range(self._users):
            self.start_thinking(0.0)

    def start_thinking(self, now_s: float, at_once: bool = False) -> None:
        """A user is free; after thinking, she sends the next row, if one is left.

        ``at_once``: without think time the row is sent within this call, so that the step that
        starts at this very moment sees it.
        """
        sequence = next(self._rows, None)
        if sequence is None:
            return
        sequence.arrival_s = time_s = now_s + float(self.think_s[sequence.request])
        if at_once and time_s == now_s:
            self.send(sequence)
        else:
            event = self.clock.at(time_s, URGENT)
            event.callbacks.append(lambda _: self.send(sequence))
