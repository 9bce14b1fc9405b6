"""What a router is, what it may look at, and what it is told."""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from math import nan
from typing import ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from model.dataclass import dataclass
from sim.routers.prompts import NO_PROMPTS, Prompts
from sim.seen.loads import Loads
from sim.seen.texts import Text


class Looks(IntEnum):
    """What a router looks at to choose a replica; each includes those before it."""

    NOTHING = 0
    """Nothing that changes: it could choose for all arrivals beforehand."""
    LOADS = 1
    """How many requests each replica has: ``View.requests``."""
    TOKENS = 2
    """How many tokens these have by now: ``View.tokens``."""
    CACHES = 3
    """Of a prompt, how much each replica has cached; and what engines say of themselves, as old as
    it is when it is collected from time to time: ``View.cached_tokens``, ``View.metrics``."""


class Settings(BaseModel):
    """Settings of a router that is built in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @property
    def reads_caches(self) -> bool:
        """Whether one that looks at caches is told what engines have in theirs."""
        return True


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

    @property
    def first_token_s(self) -> float:
        """When it had its first token: below 0 until then."""


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
    block_size: int = 16
    """Tokens of a block of its KV cache."""


class Cached(Protocol):
    """What replicas have cached."""

    def cached_tokens(self, text: Text, tokens: int) -> list[int]:
        """Of the first ``tokens`` tokens of a text, those that each replica has in full blocks."""

    def tokens_on(self, number: int, text: Text, tokens: int) -> int:
        """The same of one replica."""


class Collected(Protocol):
    """What engines say of themselves, as it was last collected; of every replica."""

    running: list[int]
    waiting: list[int]
    kv_use: list[float]

    def read(self, now_s: float) -> None:
        """Show what is known at a moment."""

    def age_s(self, now_s: float) -> float:
        """For how long that has been so."""


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
    counts_tokens = False
    """Whether it counts tokens that only a replica's API still has."""

    def __init__(self, replicas: tuple[ReplicaFacts, ...]) -> None:
        self.replicas = replicas
        self.numbers = range(len(replicas))
        """Of all replicas, by which a router names them."""
        self.longest_request_tokens = [facts.longest_request_tokens for facts in replicas]
        self.prompts: Prompts = NO_PROMPTS
        """What prompts have in common, and whose turns they are; set by whoever builds it."""

    def requests(self, number: int) -> int:
        """Count the requests of a replica whose last token its API has not sent yet, nor anybody
        given up. Raises TypeError."""
        raise self._hidden(Looks.LOADS)

    @property
    def all_requests(self) -> list[int]:
        """The requests of every replica, not to be changed. Raises TypeError."""
        raise self._hidden(Looks.LOADS)

    @property
    def loads(self) -> Loads:
        """The same, with the least and the most of them. Raises TypeError."""
        raise self._hidden(Looks.LOADS)

    def tokens(self, number: int) -> int:
        """Count their tokens: prompts, and what was generated until now. Raises TypeError."""
        raise self._hidden(Looks.TOKENS)

    def unsettled(self, number: int) -> bool:
        """Tell whether ``tokens`` still counts somebody who has left. Raises TypeError."""
        raise self._hidden(Looks.TOKENS)

    @property
    def cached(self) -> Cached:
        """What replicas have cached. Raises TypeError."""
        raise self._hidden(Looks.CACHES)

    @property
    def metrics(self) -> Collected:
        """What engines say of themselves, for a router that collects it. Raises TypeError."""
        raise self._hidden(Looks.CACHES)

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests have left a replica."""

    def unsent(self, number: int, tokens: int) -> None:
        """So many tokens more, or less, are of requests that only a replica's API still has."""

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
        self._loads = Loads(len(replicas))

    def requests(self, number: int) -> int:
        """Those sent, less those that left."""
        return self._loads.counts[number]

    @property
    def all_requests(self) -> list[int]:
        """The same of every replica."""
        return self._loads.counts

    @property
    def loads(self) -> Loads:
        """As counted."""
        return self._loads

    def sent(self, number: int) -> None:
        """One more."""
        self._loads.sent(number)

    def left(self, number: int, requests: int) -> None:
        """Some less."""
        self._loads.left(number, requests)


class TokensView(LoadsView):
    """With the tokens of each replica as well; whoever builds it sets ``live``."""

    looks_at = Looks.TOKENS
    counts_tokens = True
    live: list[Live]

    def __init__(self, replicas: tuple[ReplicaFacts, ...]) -> None:
        super().__init__(replicas)
        self._unsent = [0] * len(replicas)

    def tokens(self, number: int) -> int:
        """As the engine counts them, and those that its API has not sent."""
        return self.live[number].outstanding_tokens() + self._unsent[number]

    def unsent(self, number: int, tokens: int) -> None:
        """Some more, or less."""
        self._unsent[number] += tokens

    def unsettled(self, number: int) -> bool:
        """As the replica says."""
        return self.live[number].unsettled()


class CachesView(TokensView):
    """With caches and metrics as well; whoever builds it sets them."""

    looks_at = Looks.CACHES
    caches: Cached
    collected: Collected | None = None

    @property
    def cached(self) -> Cached:
        """As engines have them now."""
        return self.caches

    @property
    def metrics(self) -> Collected:
        """As collected every ``Router.refresh_metrics_interval_s``."""
        if self.collected is None:
            raise TypeError("the router looks at metrics, expected refresh_metrics_interval_s")
        return self.collected


VIEWS = {view.looks_at: view for view in (View, LoadsView, TokensView, CachesView)}


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
    settings: ClassVar[type[Settings] | None] = None
    """Of one that is built in and has any: what it is made with, as a third argument."""
    follows: ClassVar[bool] = False
    """Whether it is told who leaves (``gone``), beside how many."""
    claims: ClassVar[bool] = False
    """Whether it says of each choice what it took to be cached there (``claimed_tokens``)."""
    refresh_metrics_interval_s: float | None = None
    """How often it collects the metrics of engines; None: it does not look at them."""
    claimed_tokens = 0
    """Of the last choice: tokens of the prompt that it took to be cached on that replica."""
    metrics_age_s = nan
    """Of the last choice: how old the metrics were that it looked at."""

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
        """The API of a replica has sent the last tokens of so many requests, or they were given
        up."""

    def gone(self, number: int, arrivals: Iterable[Arrival]) -> None:
        """These have left a replica, for a router that ``follows``."""
