"""What becomes of a request that arrives, and of one that leaves an engine: decided here alone.

::

    wanted     -> the client, if there is one; else it arrives
    arrives    -> the router chooses a replica; one that is too long for it is rejected
    finished   -> the API, which sends the last token
    answered   -> gone for the router; the client, whose user goes on
    given up   -> gone: its engine drops it between two steps

Where pools have roles, ``sim.disaggregation`` says what else: prefilled -> over a link to a replica
that decodes. Still to come: failed or drained -> the router again.
"""

from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from sim.engine.agenda import ANSWER, Agenda, Entry
from sim.engine.any_replica import AnyReplica
from sim.engine.sequence import Sequence
from sim.traffic.client import Client
from sim.traffic.outcomes import Outcomes
from sim.traffic.sending import Sending
from sim.traffic.users import Users

NOBODY: Final = -1
"""Instead of a replica's number: nobody takes the request."""


class Counts(Protocol):
    """The part of a router's view that counts requests."""

    @property
    def counts_tokens(self) -> bool:
        """Whether it counts what is ``unsent``."""

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests have left a replica."""

    def unsent(self, number: int, tokens: int) -> None:
        """So many tokens more, or less, are of requests that an engine has finished, and its API
        has not."""


class Chooses(Protocol):
    """A router (``sim.routers.router``), as far as it is asked and told."""

    @property
    def view(self) -> Counts:
        """What it sees."""

    @property
    def follows(self) -> bool:
        """Whether it is told who leaves."""

    @property
    def claims(self) -> bool:
        """Whether it says what it took to be cached."""

    @property
    def claimed_tokens(self) -> int:
        """Of its last choice."""

    @property
    def metrics_age_s(self) -> float:
        """Of its last choice."""

    def choose(self, arrival: Sequence) -> int:
        """Answer the number of a replica."""

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests have left a replica."""

    def gone(self, number: int, arrivals: list[Sequence]) -> None:
        """These have."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatch:
    """Between the client, or users, and the replicas.

    Args:
        agenda: of the clock.
        router: told of everybody who is sent, and who leaves.
        longest: tokens of the longest request that each replica takes.
        outcomes: of requests.
        replicas: by number.
        sending: what lies behind them.
    """

    def __init__(
        self,
        agenda: Agenda,
        router: Chooses,
        longest: list[int],
        outcomes: Outcomes,
        replicas: dict[int, AnyReplica],
        sending: Sending,
    ) -> None:
        self.agenda, self.router, self.outcomes = agenda, router, outcomes
        self.sending = sending
        self.client: Client | None = None
        self.users: Users | None = None
        self.replicas = replicas
        self.longest = longest
        self.most = max(longest)
        self._view = router.view
        self._counts_tokens = router.view.counts_tokens
        self._claims, self._follows = router.claims, router.follows

    def stop(self) -> None:
        """The clock has stopped."""

    def ask(self, sequence: Sequence) -> None:
        """A request is wanted, now: at the client if there is one, else at the router."""
        if self.users is not None:
            self.outcomes.arrived(sequence)
        if self.client is not None:
            self.client.ask(sequence)
        else:
            self.arrives(sequence)

    def arrives(self, sequence: Sequence) -> int:
        """A request reaches the router, now; return its replica, or ``NOBODY``."""
        tokens = sequence.prompt_tokens + sequence.output_tokens
        if tokens > self.most:
            return self.rejected(sequence)
        router = self.router
        number = router.choose(sequence)
        if not 0 <= number < len(self.longest):
            raise nowhere(number, len(self.longest))
        if tokens > self.longest[number]:
            return self.rejected(sequence)
        self._view.sent(number)
        router.sent(number)
        if self._claims:
            self.outcomes.routed(sequence.request, router.claimed_tokens, router.metrics_age_s)
        self.replicas[number].submit(sequence)
        return number

    def finished(self, finished: list[Sequence], number: int, now_s: float) -> None:
        """Answers of a replica are complete, now: its API sends the last tokens."""
        client, users = self.client, self.users
        self.is_turn_of(number, now_s)
        seen_s = self.sending.seen_s(number, now_s)
        if client is not None:
            finished = client.wanted(finished)
        if seen_s > now_s:
            self.unsent(number, tokens_of(finished))
        if client is not None:
            finished = client.in_time(finished, seen_s)
        if seen_s == now_s:
            self.answered(finished, number, now_s)
        elif finished:
            self.agenda.put(Answer(self, finished, number), seen_s)
        self.outcomes.finished(finished, number, now_s)
        if client is None and users is not None:
            for sequence in finished:
                users.left(sequence, now_s, True, True)

    def answered(self, sequences: list[Sequence], number: int, now_s: float) -> None:
        """The last tokens of these are at the client, now."""
        self.left(number, sequences)
        if self.client is not None:
            self.client.seen(sequences, now_s)

    def is_turn_of(self, number: int, now_s: float) -> None:
        """A replica tells who finished, now."""
        agenda = self.agenda
        agenda.now_s = agenda.turn_s = now_s
        agenda.turn = number

    def given_up(self, sequence: Sequence, number: int) -> None:
        """A client no longer wants what a replica has, now."""
        self.replicas[number].abort(sequence)
        self.left(number, [sequence])

    def turned_away(self, sequence: Sequence, number: int) -> None:
        """A client no longer wants what a replica has finished and its API has not sent, now."""
        self.unsent(number, -tokens_of([sequence]))
        self.left(number, [sequence])

    def unsent(self, number: int, tokens: int) -> None:
        """So many tokens more, or less, are of requests that are only with a replica's API."""
        if self._counts_tokens:
            self._view.unsent(number, tokens)

    def left(self, number: int, sequences: list[Sequence]) -> None:
        """These requests have left a replica."""
        router, count = self.router, len(sequences)
        self._view.left(number, count)
        router.left(number, count)
        if self._follows:
            router.gone(number, sequences)

    def rejected(self, sequence: Sequence) -> int:
        """Nobody can take a request."""
        self.outcomes.rejected(sequence)
        if self.client is not None:
            self.client.rejected(sequence, sequence.arrival_s)
        elif self.users is not None:
            self.users.left(sequence, sequence.arrival_s, False, False)
        return NOBODY


class Answer(Entry):
    """The last tokens of answers on their way to the client."""

    def __init__(self, dispatch: Dispatch, sequences: list[Sequence], number: int) -> None:
        super().__init__(ANSWER)
        self._dispatch, self._sequences, self._number = dispatch, sequences, number

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._dispatch.unsent(self._number, -tokens_of(self._sequences))
        self._dispatch.answered(self._sequences, self._number, now_s)
        return now_s


def tokens_of(sequences: list[Sequence]) -> int:
    """Tokens of prompts and whole answers."""
    tokens = 0
    for sequence in sequences:
        tokens += sequence.prompt_tokens + sequence.output_tokens
    return tokens


def nowhere(number: int, replicas: int) -> ValueError:
    """Say that a router chose a replica that is not there."""
    return ValueError(f"the router chose replica {number}, expected 0 to {replicas - 1}")
