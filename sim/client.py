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

from collections import OrderedDict, deque
from collections.abc import Callable
from math import inf

import numpy as np
from simpy.events import Event

from sim.api_loops import SharedLoops
from sim.api_server import Inbox
from sim.clock import ANSWER, DELIVERY, TIMEOUT, Clock
from sim.cluster_config import ClientConfig
from sim.engine.sequence import Sequence
from sim.recording import Recorder
from sim.result import TIMED_OUT, UNFINISHED
from sim.scenario import ApiTime
from sim.source import ClosedLoop

Deliver = Callable[[Sequence], int]
"""Hands a request to the router, now; answers the replica's number, -1 for a rejected one."""
HangUp = Callable[[Sequence, int], None]
"""Tells a replica that a request is no longer wanted, now."""

NOWHERE, DONE = -1, -2
"""Where a request is that no replica has: on its way, or through but not yet seen."""


class Client:
    """All requests of a run pass through it, in both directions."""

    def __init__(
        self,
        clock: Clock,
        config: ClientConfig,
        api: ApiTime,
        recorder: Recorder,
        deliver: Deliver,
        hang_up: HangUp,
        inbox: Inbox | SharedLoops,
    ) -> None:
        self.clock, self.recorder = clock, recorder
        self._sent_s = recorder.sent_s = np.full(len(recorder.requests), np.nan)
        self.loop: ClosedLoop | None = None
        """Whose users are told that they have their answers."""
        self._api = api
        self._inbox = inbox
        self._reached_s = recorder.reached_s = np.full(len(recorder.requests), np.nan)
        self._most = config.max_concurrency or inf
        self._timeout_s = config.timeout_s or inf
        self._deliver, self._hang_up = deliver, hang_up
        self._queue: deque[Sequence] = deque()
        self._in_flight = 0
        self._deadlines: OrderedDict[Sequence, float] = OrderedDict()  # in flight, as sent
        self._homes: dict[Sequence, int] = {}  # the same, and the replica of each
        self._watching = False

    def ask(self, sequence: Sequence) -> None:
        """A request is wanted, now; it is sent when fewer than ``max_concurrency`` are out."""
        if self._in_flight < self._most:
            self._send(sequence, sequence.arrival_s)
        else:
            self._queue.append(sequence)

    def rejected(self, sequence: Sequence, now_s: float) -> None:
        """The router refused a request: that is an answer, too."""
        self._forget(sequence)
        self._free([sequence], now_s, answered=False, at_once=False)

    def wanted(self, sequences: list[Sequence]) -> list[Sequence]:
        """Those whose answer is still waited for."""
        return [sequence for sequence in sequences if sequence in self._homes]

    def ended(self, finished: list[Sequence], number: int, now_s: float) -> list[Sequence]:
        """Wanted answers of a replica are complete, now. Return those that will be in time."""
        seen_s = self.recorder.seen_s(number, now_s) + self._api.output_s
        in_time = [sequence for sequence in finished if seen_s < self._deadlines[sequence]]
        for sequence in finished:
            self._homes[sequence] = DONE
        for sequence in in_time:
            self._forget(sequence)
        if seen_s == now_s:
            self._free(in_time, now_s)
        elif in_time:
            self.clock.agenda.call_at(seen_s, ANSWER, lambda: self._free(in_time, seen_s))
        return in_time

    def stop(self) -> None:
        """The clock has stopped: late answers are not answers yet."""
        for sequence, home in self._homes.items():
            if home == DONE:
                self.recorder.outcomes.ended(sequence, sequence.replica, UNFINISHED, -1.0)

    def _send(self, sequence: Sequence, now_s: float) -> None:
        self._in_flight += 1
        self._sent_s[sequence.request] = now_s
        self._deadlines[sequence] = now_s + self._timeout_s
        self._homes[sequence] = sequence.replica = NOWHERE
        if not self._watching:
            self._watch()
        if isinstance(self._inbox, SharedLoops):
            self._inbox.read(sequence.prompt_tokens, lambda at_s: self._comes(sequence, at_s))
        else:
            self._comes(sequence, self._inbox.reached_s(now_s, sequence.prompt_tokens))

    def _comes(self, sequence: Sequence, reached_s: float) -> None:
        """It is known when a request reaches the router."""
        sequence.arrival_s = self._reached_s[sequence.request] = reached_s
        if reached_s == self.clock.now:
            self._reach(sequence)
        else:
            self.clock.agenda.call_at(reached_s, DELIVERY, lambda: self._reach(sequence))

    def _reach(self, sequence: Sequence) -> None:
        if sequence in self._homes:  # else it was given up on the way
            number = self._deliver(sequence)
            if number >= 0:
                self._homes[sequence] = sequence.replica = number

    def _forget(self, sequence: Sequence) -> None:
        del self._deadlines[sequence], self._homes[sequence]

    def _free(
        self,
        gone: list[Sequence],
        now_s: float,
        answered: bool = True,
        at_once: bool = True,
    ) -> None:
        """These are no longer in flight: for each, who waits is sent, then its user goes on."""
        for sequence in gone:
            self._in_flight -= 1
            while self._queue and self._in_flight < self._most:
                self._send(self._queue.popleft(), now_s)
            if self.loop is not None:
                self.loop.left(sequence, now_s, answered, at_once)

    def _watch(self) -> None:
        """Wake up when the first of those in flight may have waited for too long."""
        first_s = next(iter(self._deadlines.values()), inf)
        self._watching = first_s < inf
        if self._watching:
            self.clock.at(first_s, TIMEOUT).callbacks.append(self._give_up)

    def _give_up(self, _: Event) -> None:
        now_s = self.clock.now
        while self._deadlines:
            sequence, deadline_s = next(iter(self._deadlines.items()))
            if deadline_s > now_s:
                break
            home = self._homes[sequence]
            self._forget(sequence)
            if home >= 0:
                self._hang_up(sequence, home)
            self.recorder.outcomes.ended(sequence, sequence.replica, TIMED_OUT, now_s)
            self._free([sequence], now_s, answered=False)
        self._watch()
