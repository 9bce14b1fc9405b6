"""What becomes of a request that arrives, and of one that leaves an engine: decided here alone.

::

    arrives    -> the router chooses a replica; one that is too long for it is rejected
    finished   -> the client, whose user goes on
    given up   -> gone: its engine drops it between two steps

Where pools have roles, ``sim.disaggregation`` says what else: prefilled -> over a link to a replica
that decodes. Still to come: failed or drained -> the router again.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.client import Client
from sim.clock import Clock
from sim.engine.sequence import Sequence
from sim.pipelined import AnyReplica
from sim.ranks import show
from sim.recording import Recorder
from sim.result import REJECTED
from sim.routers.router import Router
from sim.source import ClosedLoop, sequences
from workloads.requests import Floats, Requests

NOBODY = -1
"""Instead of a replica's number: nobody takes the request."""


class Dispatch:
    """Between the client, or users, and the replicas.

    Args:
        clock: of the simulation.
        router: told of everybody who is sent, and who leaves.
        recorder: of outcomes.
        replicas: by number.
    """

    client: Client | None = None
    users: ClosedLoop | None = None

    def __init__(
        self,
        clock: Clock,
        router: Router,
        recorder: Recorder,
        replicas: Mapping[int, AnyReplica],
    ) -> None:
        self.clock, self.router, self.recorder = clock, router, recorder
        self.replicas = replicas
        self._longest = router.view.longest_request_tokens
        self._most = max(self._longest)

    def begin(self) -> None:
        """All replicas are there."""
        show(self.router, self.replicas)

    def stop(self) -> None:
        """The clock has stopped."""

    def arrives(self, sequence: Sequence) -> int:
        """A request reaches the router, now; return its replica, or ``NOBODY``."""
        tokens = sequence.prompt_tokens + sequence.output_tokens
        if tokens > self._most:
            return self._rejected(sequence)
        router = self.router
        number = router.choose(sequence)
        if not 0 <= number < len(self._longest):
            raise nowhere(number, len(self._longest))
        if tokens > self._longest[number]:
            return self._rejected(sequence)
        router.view.sent(number)
        router.sent(number)
        if router.claims:
            self.recorder.routed(sequence.request, router.claimed_tokens, router.metrics_age_s)
        self.replicas[number].submit(sequence)
        return number

    def finished(self, finished: list[Sequence], number: int, now_s: float) -> None:
        """Answers of a replica are complete, now."""
        client, users = self.client, self.users
        self.clock.now_is(now_s)
        self.clock.turn, self.clock.turn_s = number, now_s
        if client is not None:
            finished = client.wanted(finished)
        self._left(number, finished)
        if client is not None:
            finished = client.ended(finished, number, now_s)
        self.recorder.outcomes.finished(finished, number, now_s)
        if client is None and users is not None:
            for sequence in finished:
                users.left(sequence, now_s, answered=True, at_once=True)

    def given_up(self, sequence: Sequence, number: int) -> None:
        """A client no longer wants what a replica has, now."""
        self.replicas[number].abort(sequence)
        self._left(number, [sequence])

    def _left(self, number: int, sequences: list[Sequence]) -> None:
        router, count = self.router, len(sequences)
        router.view.left(number, count)
        router.left(number, count)
        if router.follows:
            router.gone(number, sequences)

    def _rejected(self, sequence: Sequence) -> int:
        self.recorder.outcomes.ended(sequence, NOBODY, REJECTED, -1.0)
        if self.client is not None:
            self.client.rejected(sequence, sequence.arrival_s)
        elif self.users is not None:
            self.users.left(sequence, sequence.arrival_s, answered=False)
        return NOBODY


def deal(
    requests: Requests,
    reached_s: Floats,
    order: npt.NDArray[np.int64] | None,
    stop_s: float,
    router: Router,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Send all arrivals until ``stop_s`` beforehand, as ``Dispatch`` does one by one.

    Args:
        requests: an open workload.
        reached_s: when each is at the router.
        order: rows as they come there; None for the workload's own order.
        stop_s: who comes later is sent nowhere.
        router: one that looks at nothing.

    Returns:
        Of each row its replica, or ``NOBODY``, and whether it is rejected.
    """
    longest = np.array(router.view.longest_request_tokens)
    arrived = int(np.searchsorted(reached_s, stop_s, side="right", sorter=order))
    rows = np.arange(arrived) if order is None else order[:arrived]
    tokens = requests.prompt_tokens + requests.output_tokens
    fits = tokens[rows] <= longest.max()
    refused = np.zeros(len(requests), dtype=np.bool_)
    refused[rows[~fits]] = True
    rows = rows[fits]
    owner = np.full(len(requests), NOBODY, dtype=np.int32)
    owner[rows] = 0
    if len(longest) > 1:
        asking = owner.copy()
        arrivals = sequences(requests, reached_s, order, asking)
        owner[rows] = np.fromiter(router.deal(arrivals), np.int32, len(rows))
        for number in (owner[rows].min(initial=0), owner[rows].max(initial=0)):
            if not 0 <= number < len(longest):
                raise nowhere(int(number), len(longest))
        short = rows[tokens[rows] > longest[owner[rows]]]
        owner[short], refused[short] = NOBODY, True
    return owner, refused


def nowhere(number: int, replicas: int) -> ValueError:
    """Say that a router chose a replica that is not there."""
    return ValueError(f"the router chose replica {number}, expected 0 to {replicas - 1}")
