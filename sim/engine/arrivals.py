"""Requests that come at times of their own, whatever became of those before them."""

from collections.abc import Callable, Iterator
from math import inf

from sim.engine.agenda import Agenda, GoesOn, Sleeper
from sim.engine.sequence import NOBODY, Sequence

Block = tuple[list[int], list[float], list[int], list[int], list[int]]
"""Columns of some requests: row, arrival_s, prompt_tokens, output_tokens, priority."""


class Coming:
    """Requests one by one, made of blocks of their columns as they are asked for."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._rows: list[int] = []
        self._arrival_s: list[float] = []
        self._prompt_tokens: list[int] = []
        self._output_tokens: list[int] = []
        self._priority: list[int] = []
        self._at = 0

    def __iter__(self) -> "Coming":
        return self

    def __next__(self) -> Sequence:
        sequence = self.take()
        if sequence is NOBODY:
            raise StopIteration
        return sequence

    def take(self) -> Sequence:
        """Return who comes next; ``NOBODY`` when nobody does any more."""
        at = self._at
        while at == len(self._rows):
            block = next(self._blocks, None)
            if block is None:
                return NOBODY
            self._rows, self._arrival_s, self._prompt_tokens = block[0], block[1], block[2]
            self._output_tokens, self._priority = block[3], block[4]
            at = 0
        self._at = at + 1
        return Sequence(
            self._rows[at],
            self._arrival_s[at],
            self._prompt_tokens[at],
            self._output_tokens[at],
            self._priority[at],
        )


class Arrivals(GoesOn):
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
        arriving: Coming,
        send: Callable[[Sequence], None],
    ) -> None:
        super().__init__()
        self._agenda = agenda
        self._arriving, self._send = arriving, send
        self._next = arriving.take()
        self._sleeper = Sleeper(agenda, self, priority)

    def start(self) -> None:
        """Begin at time 0."""
        self._sleeper.sleep_until(0.0)

    def go_on(self, now_s: float, stop_s: float) -> float:
        """Send who is due, and who comes before anything else happens; return when to be woken."""
        agenda, sequence = self._agenda, self._next
        while sequence is not NOBODY:
            time_s = sequence.arrival_s
            if time_s > now_s:
                if time_s > stop_s or time_s >= agenda.next_s():
                    self._next, self.now_s = sequence, now_s
                    return time_s
                agenda.now_s = now_s = time_s
            self._send(sequence)
            sequence = self._arriving.take()
        self._next, self.now_s = NOBODY, now_s
        return inf
