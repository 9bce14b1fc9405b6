"""What a router is, what it may look at, and what it is told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

import numpy as np


class Looks(IntEnum):
    """What a router looks at to choose a replica; each includes those before it."""

    NOTHING = 0
    """Nothing that changes: it could choose for all arrivals beforehand."""
    LOADS = 1
    """How many requests each replica has: ``View.requests``."""
    TOKENS = 2
    """How many tokens these have by now: ``View.tokens``."""


class Arrival(Protocol):
    """What a router sees of a request: not how long its answer will become."""

    @property
    def request(self) -> int:
        """Row of the workload."""

    @property
    def arrival_s(self) -> float:
        """When it reached the router, now."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""

    @property
    def priority(self) -> int:
        """Lower goes first."""


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What never changes of a replica."""

    pool: str
    """Name of its pool; empty where the study names none."""
    gpu: str
    tensor_parallel_size: int
    max_num_seqs: int
    kv_tokens: int
    """Tokens that its KV cache holds."""
    longest_request_tokens: int
    """Prompt and output together, of the longest request that it takes."""


class Live(Protocol):
    """A replica as it is now."""

    def outstanding_tokens(self) -> int:
        """Tokens of its requests: their prompts, and what was generated until now."""

    def unsettled(self) -> bool:
        """Whether somebody has left whom it still counts, until its step has ended."""


class View:
    """The replicas as they are at an arrival: a step that ends at that instant has not ended yet.

    It shows no more than what its router says that it looks at.
    """

    looks_at: ClassVar[Looks] = Looks.NOTHING

    def __init__(self, replicas: tuple[ReplicaFacts, ...]) -> None:
        self.replicas = replicas
        self.numbers = range(len(replicas))
        """Of all replicas, by which a router names them."""
        self.longest_request_tokens = [facts.longest_request_tokens for facts in replicas]

    def requests(self, number: int) -> int:
        """Count the requests of a replica that have not left it. Raises TypeError."""
        raise self._hidden(Looks.LOADS)

    def tokens(self, number: int) -> int:
        """Count their tokens: prompts, and what was generated until now. Raises TypeError."""
        raise self._hidden(Looks.TOKENS)

    def unsettled(self, number: int) -> bool:
        """Tell whether ``tokens`` still counts somebody who has left. Raises TypeError."""
        raise self._hidden(Looks.TOKENS)

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests have left a replica."""

    def _hidden(self, looked_at: Looks) -> TypeError:
        return TypeError(
            f"the router looks at {looked_at.name.lower()}, but says looks_at = "
            f"Looks.{self.looks_at.name}, expected Looks.{looked_at.name}"
        )


class LoadsView(View):
    """With the number of requests of each replica."""

    looks_at = Looks.LOADS

    def __init__(self, replicas: tuple[ReplicaFacts, ...]) -> None:
        super().__init__(replicas)
        self._requests = [0] * len(replicas)

    def requests(self, number: int) -> int:
        """Those sent, less those that left."""
        return self._requests[number]

    def sent(self, number: int) -> None:
        """One more."""
        self._requests[number] += 1

    def left(self, number: int, requests: int) -> None:
        """Some less."""
        self._requests[number] -= requests


class TokensView(LoadsView):
    """With the tokens of each replica as well; whoever builds it sets ``live``."""

    looks_at = Looks.TOKENS
    live: list[Live]

    def tokens(self, number: int) -> int:
        """As the replica counts them."""
        return self.live[number].outstanding_tokens()

    def unsettled(self, number: int) -> bool:
        """As the replica says."""
        return self.live[number].unsettled()


VIEWS = {view.looks_at: view for view in (View, LoadsView, TokensView)}


class Router:
    """Chooses the replica of every request, and is told of everyone who is sent and who leaves.

    A subclass says what it looks at and whether it draws, and chooses. Ties go to the lowest
    number, so that results do not depend on an order that nobody has written down.

    Args:
        view: the replicas, as far as ``looks_at`` goes.
        rng: for those who draw; nobody else uses it.
    """

    looks_at: ClassVar[Looks]
    draws: ClassVar[bool] = False
    """Whether two seeds can differ."""

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        self.view, self.rng = view, rng

    def choose(self, arrival: Arrival) -> int:
        """Answer the number of the replica that takes a request which arrives now."""
        raise NotImplementedError

    def deal(self, arrivals: Iterable[Arrival]) -> Iterator[int]:
        """Choose for many, in their order; only of a router that looks at nothing."""
        return map(self.choose, arrivals)

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests of a replica have finished, or were given up."""
