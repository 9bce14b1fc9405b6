"""Which rank of an engine a request comes to: vLLM's balancer, behind a router of engines.

Of the ranks of an engine the one with the lowest score is taken: what waits there counts fourfold,
what runs simply; from 0.27 on both count alike, and what waits counts more the fuller the cache is.
The least number goes first among equals, or they take turns (0.28 on). As in
vllm/v1/engine/core_client.py, ``get_core_engine_for_request``, of one API server; its counts, which
are up to 100 ms old there and corrected by what was sent since, are those of now here.
"""

from collections.abc import Sequence as SequenceOf
from typing import ClassVar, Protocol

from model.dataclass import dataclass
from sim.routers.router import Arrival, Live, Looks, ReplicaFacts, Router, View

WAITING_WEIGHT = 4
PRESSED_FROM, PRESSED_WEIGHT = 0.5, 6.0
"""Share of the cache in use from which what waits counts more, and by how much at 1."""


class LiveRank(Live, Protocol):
    """A rank as it is now."""

    def queue(self) -> tuple[int, int, float]:
        """How many wait, how many run, and the share of the KV cache in use."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """How a version of vLLM chooses; engines.yaml says what each means."""

    by_cache: bool = False
    turns: bool = False


class EngineView:
    """An engine as its router sees it: all of its ranks together."""

    def __init__(self, ranks: SequenceOf[Live]) -> None:
        self._ranks = ranks

    def outstanding_tokens(self) -> int:
        """Of all ranks."""
        return sum(rank.outstanding_tokens() for rank in self._ranks)

    def unsettled(self) -> bool:
        """Of any rank."""
        return any(rank.unsettled() for rank in self._ranks)


class _RanksView(View):
    """Ranks, of whom the router of engines sees these."""

    def __init__(
        self, facts: tuple[ReplicaFacts, ...], engines: View, engine_of: SequenceOf[int]
    ) -> None:
        super().__init__(facts)
        self._engines, self._engine_of = engines, engine_of
        self.counts_tokens = engines.counts_tokens

    def sent(self, number: int) -> None:
        """To its engine."""
        self._engines.sent(self._engine_of[number])

    def left(self, number: int, requests: int) -> None:
        """Its engine."""
        self._engines.left(self._engine_of[number], requests)

    def unsent(self, number: int, tokens: int) -> None:
        """Of its engine."""
        self._engines.unsent(self._engine_of[number], tokens)


class RankRouter(Router):
    """Chooses an engine by its router, then one of its ranks.

    Args:
        engines: the router of engines.
        ranks: of every engine, the numbers of its ranks.
        facts: of every rank.
        balancing: of every engine.
    """

    looks_at: ClassVar[Looks] = Looks.TOKENS
    live: list[LiveRank]
    """By number; whoever builds it sets them."""

    def __init__(
        self,
        engines: Router,
        ranks: SequenceOf[range],
        facts: tuple[ReplicaFacts, ...],
        balancing: SequenceOf[Balancing],
    ) -> None:
        self._engine_of = [place for place, numbers in enumerate(ranks) for _ in numbers]
        super().__init__(_RanksView(facts, engines.view, self._engine_of), engines.rng)
        self.engines = engines
        self.ranks, self._balancing = ranks, balancing
        self._first = [0] * len(ranks)

    def choose(self, arrival: Arrival) -> int:
        """Answer the number of a rank."""
        engine = self.engines.choose(arrival)
        if not 0 <= engine < len(self.ranks):
            raise ValueError(
                f"the router chose replica {engine}, expected 0 to {len(self.ranks) - 1}"
            )
        ranks = self.ranks[engine]
        if len(ranks) == 1:
            return ranks[0]
        how, first = self._balancing[engine], self._first[engine]
        in_turn = [*ranks[first:], *ranks[:first]]
        chosen: int = min(in_turn, key=lambda number: _score(self.live[number].queue(), how))
        if how.turns:
            self._first[engine] = (first + 1) % len(ranks)
        return chosen

    def sent(self, number: int) -> None:
        """Tell the router of engines."""
        self.engines.sent(self._engine_of[number])

    def left(self, number: int, requests: int) -> None:
        """Tell the router of engines."""
        self.engines.left(self._engine_of[number], requests)


def _score(queue: tuple[int, int, float], how: Balancing) -> float:
    waiting, running, used = queue
    if not how.by_cache:
        return float(waiting * WAITING_WEIGHT + running)
    return waiting + running + waiting * PRESSED_WEIGHT * max(0.0, used - PRESSED_FROM)
