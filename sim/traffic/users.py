"""Users who wait for their answers, and sessions, whose next turns wait for those before."""

from collections.abc import Callable

from sim.engine.agenda import Agenda, Entry
from sim.engine.arrivals import Coming
from sim.engine.sequence import NOBODY, Sequence
from sim.traffic.following import Following

Ask = Callable[[Sequence], None]
"""Told who is wanted, now."""


class Users:
    """``users`` users: each sends a request, reads the whole answer, thinks, sends the next.

    Row ``i`` of the workload is the ``i``-th request to be issued; before it its user thinks
    ``think_s[i]``. Everybody starts thinking at time 0. A rejected request is answered at once.

    With sessions it is the first turns that are issued like that, and a user who has one goes
    through it, as ``Following`` says, before she is free again. Turns behind one that is
    rejected or given up are never asked. Where sessions arrive by themselves there are no users.

    Args:
        agenda: of the clock.
        priority: of requests that arrive, at one instant.
        users: how many.
        free: requests that wait for nobody, in the order in which they are issued.
        following: what comes behind them.
        think_s: before each row.
        prompt_tokens: of each row.
        output_tokens: of each row.
        priorities: of each row.
        ask: told of each, at its time.
    """

    def __init__(
        self,
        agenda: Agenda,
        priority: int,
        users: int,
        free: Coming,
        following: Following,
        think_s: "memoryview[float]",
        prompt_tokens: memoryview,
        output_tokens: memoryview,
        priorities: memoryview,
        ask: Ask,
    ) -> None:
        self._agenda, self._priority = agenda, priority
        self._users, self._free, self._following = users, free, following
        self._think_s = think_s
        self._prompt_tokens, self._output_tokens = prompt_tokens, output_tokens
        self._priorities = priorities
        self._ask = ask

    def start(self) -> None:
        """Everybody starts thinking, at time 0."""
        for _ in range(self._users):
            self._think(self._free.take(), 0.0, False)

    def left(self, sequence: Sequence, now_s: float, answered: bool, at_once: bool = False) -> None:
        """A request has its answer, or never will: after thinking, its user sends the next.

        ``at_once``: without think time it is sent within this call, so that the step that starts at
        this very moment sees it.
        """
        following, over = self._following.left(sequence.request, answered)
        for row in following:
            self._think(self._turn(row), now_s, at_once)
        if over and self._users:
            self._think(self._free.take(), now_s, at_once)

    def _turn(self, row: int) -> Sequence:
        """A further turn of a session."""
        prompt_tokens: int = self._prompt_tokens[row]
        output_tokens: int = self._output_tokens[row]
        priority: int = self._priorities[row]
        return Sequence(row, 0.0, prompt_tokens, output_tokens, priority)

    def _think(self, sequence: Sequence, now_s: float, at_once: bool) -> None:
        if sequence is NOBODY:
            return
        think_s: float = self._think_s[sequence.request]
        sequence.arrival_s = time_s = now_s + think_s
        if at_once and time_s == now_s:
            self._ask(sequence)
        else:
            self._agenda.put(Thinking(self._priority, sequence, self._ask), time_s)


class Thinking(Entry):
    """A user who thinks, and then asks."""

    def __init__(self, priority: int, sequence: Sequence, ask: Ask) -> None:
        super().__init__(priority)
        self._sequence, self._ask = sequence, ask

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._ask(self._sequence)
        return now_s
