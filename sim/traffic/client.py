"""The client: how many requests it keeps in flight, how long it waits, and what lies between.

    arrival_s        sent_s             reached_s                     first_token_s, finish_s
    wanted --------- sent ------------- at the scheduler -- steps --- at the client
         as long as       the API server                     the API server
         max_concurrency  (``sim.api_server``)               again
         are in flight

TTFT and E2E are measured from ``sent_s``, as benchmark clients do. A request that has no whole
answer ``timeout_s`` after it was sent is given up: it has left the client then, and leaves the
engine between two steps, with its blocks. One whose answer is complete at that very moment is late.
"""

from array import array
from collections import deque
from collections.abc import Callable
from math import inf, nan
from typing import Final

from sim.engine.agenda import DELIVERY, TIMEOUT, Agenda, Entry
from sim.engine.sequence import Sequence
from sim.traffic.inbox import Inbox
from sim.traffic.outcomes import Outcomes
from sim.traffic.users import Users

Deliver = Callable[[Sequence], int]
"""Hands a request to the router, now; answers the replica's number, -1 for a rejected one."""
HangUp = Callable[[Sequence, int], None]
"""Tells that a request of a replica is no longer wanted, now."""

NOWHERE: Final = -1
DONE: Final = -2
"""Where a request is that no replica has: on its way, or through but seen too late."""


class Client:
    """All requests of a run pass through it, in both directions.

    Args:
        agenda: of the clock.
        requests: rows of the workload.
        max_concurrency: most requests in flight.
        timeout_s: after which it gives up; infinity: never.
        inbox: what they pass on their way in.
        outcomes: of requests.
        deliver: hands them to the router.
        hang_up: gives up those that a replica has.
        turn_away: gives up those whose answers are complete, and not seen.
    """

    def __init__(
        self,
        agenda: Agenda,
        requests: int,
        max_concurrency: int,
        timeout_s: float,
        inbox: Inbox,
        outcomes: Outcomes,
        deliver: Deliver,
        hang_up: HangUp,
        turn_away: HangUp,
    ) -> None:
        self.sent_s = array("d", [nan]) * requests
        """When each request was sent, NaN if it was not."""
        self.reached_s = array("d", [nan]) * requests
        """When it reaches the scheduler."""
        self.users: Users | None = None
        """Who are told that they have their answers."""
        self._agenda, self._outcomes = agenda, outcomes
        self._inbox = inbox
        self._most, self._timeout_s = max_concurrency, timeout_s
        self._deliver, self._hang_up, self._turn_away = deliver, hang_up, turn_away
        self._queue: deque[Sequence] = deque()
        self._in_flight = 0
        self._homes: dict[Sequence, int] = {}  # who is in flight, and the replica of each
        self._line: deque[Sequence] = deque()  # who may be given up, as they were sent
        self._watching = False

    def ask(self, sequence: Sequence) -> None:
        """A request is wanted, now; it is sent when fewer than ``max_concurrency`` are out."""
        if self._in_flight < self._most:
            self._send(sequence, sequence.arrival_s)
        else:
            self._queue.append(sequence)

    def rejected(self, sequence: Sequence, now_s: float) -> None:
        """The router refused a request: that is an answer, too."""
        del self._homes[sequence]
        self._free([sequence], now_s, False, False)

    def wanted(self, sequences: list[Sequence]) -> list[Sequence]:
        """Those whose answer is still waited for."""
        return [sequence for sequence in sequences if sequence in self._homes]

    def in_time(self, finished: list[Sequence], seen_s: float) -> list[Sequence]:
        """Wanted answers are complete, now, and seen later. Return those that will be in time."""
        homes = self._homes
        in_time: list[Sequence] = []
        for sequence in finished:
            if seen_s < sequence.deadline_s:
                in_time.append(sequence)
                del homes[sequence]
            else:
                homes[sequence] = DONE
        return in_time

    def stop(self) -> None:
        """The clock has stopped: late answers are not answers yet."""
        for sequence, home in self._homes.items():
            if home == DONE:
                self._outcomes.unfinished(sequence, sequence.replica)

    def seen(self, sequences: list[Sequence], now_s: float) -> None:
        """These answers are at the client, now."""
        self._free(sequences, now_s, True, True)

    def reach(self, sequence: Sequence) -> None:
        """A request reaches the router, now, if it was not given up on the way."""
        if sequence in self._homes:
            number = self._deliver(sequence)
            if number >= 0:
                self._homes[sequence] = sequence.replica = number

    def _send(self, sequence: Sequence, now_s: float) -> None:
        self._in_flight += 1
        self.sent_s[sequence.request] = now_s
        sequence.deadline_s = now_s + self._timeout_s
        self._homes[sequence] = sequence.replica = NOWHERE
        if self._timeout_s < inf:
            self._line.append(sequence)
            if not self._watching:
                self._watch()
        sequence.arrival_s = now_s
        self._inbox.read(sequence, self._comes)

    def _comes(self, sequence: Sequence, reached_s: float) -> None:
        """It is known when a request reaches the router."""
        sequence.arrival_s = self.reached_s[sequence.request] = reached_s
        if reached_s == self._agenda.now_s:
            self.reach(sequence)
        else:
            self._agenda.put(Delivery(self, sequence), reached_s)

    def _free(self, gone: list[Sequence], now_s: float, answered: bool, at_once: bool) -> None:
        """These are no longer in flight: for each, who waits is sent, then its user goes on."""
        for sequence in gone:
            self._in_flight -= 1
            while self._queue and self._in_flight < self._most:
                self._send(self._queue.popleft(), now_s)
            if self.users is not None:
                self.users.left(sequence, now_s, answered, at_once)

    def _first(self) -> Sequence | None:
        """Who was sent first of those in flight."""
        line = self._line
        while line and line[0] not in self._homes:
            line.popleft()
        return line[0] if line else None

    def _watch(self) -> None:
        """Wake up when the first of those in flight may have waited for too long."""
        first = self._first()
        self._watching = first is not None
        if first is not None:
            self._agenda.put(Timeout(self), first.deadline_s)

    def give_up(self, now_s: float) -> None:
        """Give up whoever has waited for too long, now."""
        sequence = self._first()
        while sequence is not None and sequence.deadline_s <= now_s:
            home = self._homes.pop(sequence)
            if home >= 0:
                self._hang_up(sequence, home)
            elif home == DONE:
                self._turn_away(sequence, sequence.replica)
            self._outcomes.timed_out(sequence, sequence.replica, now_s)
            self._free([sequence], now_s, False, True)
            sequence = self._first()
        self._watch()


class Delivery(Entry):
    """A request on its way to the router."""

    def __init__(self, client: Client, sequence: Sequence) -> None:
        super().__init__(DELIVERY)
        self._client, self._sequence = client, sequence

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._client.reach(self._sequence)
        return now_s


class Timeout(Entry):
    """The moment at which somebody may have waited for too long."""

    def __init__(self, client: Client) -> None:
        super().__init__(TIMEOUT)
        self._client = client

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._client.give_up(now_s)
        return now_s
