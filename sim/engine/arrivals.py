"""Requests that come at times of their own, whatever became of those before them."""

from collections.abc import Callable, Iterator
from math import inf

from sim.engine.agenda import Agenda, Sleeper
from sim.engine.sequence import Sequence


class Arrivals:
    """Sends each request at its time: one more loop that sleeps until something is due.

    Args:
        agenda: of the clock.
        priority: before whom they come at one instant.
        arriving: in the order of their times.
        send: told of each, now.
    """

    def __init__(
        self,
        agenda: Agenda,
        priority: int,
        arriving: Iterator[Sequence],
        send: Callable[[Sequence], None],
    ) -> None:
        self.now_s = 0.0
        """How far they have come."""
        self._agenda = agenda
        self._arriving, self._send = arriving, send
        self._next = next(arriving, None)
        self._sleeper = Sleeper(agenda, self, priority)

    def start(self) -> None:
        """Begin at time 0."""
        self._sleeper.sleep_until(0.0)

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Send who is due, and who comes before anything else happens; return when to be woken."""
        agenda, sequence = self._agenda, self._next
        while sequence is not None:
            time_s = sequence.arrival_s
            if time_s > now_s:
                if time_s > stop_s or time_s >= agenda.next_s():
                    self._next, self.now_s = sequence, now_s
                    return time_s
                agenda.now_s = now_s = time_s
            self._send(sequence)
            sequence = next(self._arriving, None)
        self._next, self.now_s = None, now_s
        return inf
