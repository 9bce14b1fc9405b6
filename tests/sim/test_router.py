"""Routers: the index of the lowest, what a router that keeps it answers, what one may look at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.engine.sequence import Sequence
from sim.routers.consequences import Routing, routing
from sim.routers.registry import make_router, router_class
from sim.routers.router import VIEWS, Arrival, Looks, ReplicaFacts, Router, TokensView
from sim.seen.lowest import Lowest

RNG = np.random.default_rng(0)
SOMEBODY = Sequence(0, 0.0, 5, 1, 0)


def facts(count: int) -> tuple[ReplicaFacts, ...]:
    return (ReplicaFacts("", "t4", 1, 8, 1000, 100),) * count


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5)), max_size=60))
def test_the_lowest_is_the_first_of_the_lowest_keys(
    count: int, changes: list[tuple[int, int]]
) -> None:
    lowest = Lowest(count)
    for number, key in changes:
        lowest.set(number % count, key)
        assert lowest.first() == lowest.keys.index(min(lowest.keys))


class Fake:
    """A replica with a number of tokens, some of which are of somebody who has left."""

    def __init__(self) -> None:
        self.tokens = self.pending = 0

    def outstanding_tokens(self) -> int:
        return self.tokens

    def unsettled(self) -> bool:
        return self.pending > 0


@given(st.lists(st.tuples(st.sampled_from(["grow", "leave", "drop"]), st.integers(0, 6))))
def test_least_tokens_finds_the_lowest_though_it_looks_at_few(events: list) -> None:
    replicas = [Fake() for _ in range(7)]
    router = make_router("least_tokens", facts(7), RNG)
    assert isinstance(router.view, TokensView)
    router.view.live = list(replicas)

    def lowest() -> int:
        return min(range(7), key=lambda number: (replicas[number].tokens, number))

    for what, number in events:
        replica = replicas[number]
        if what == "grow":
            replica.tokens += number + 3
        elif what == "leave":
            replica.tokens = min(replica.tokens, 2)
            router.left(number, 1)
        else:  # given up: still counted, until the step has ended
            replica.pending = replica.tokens - replica.tokens // 2
            router.left(number, 1)
        assert router.choose(SOMEBODY) == lowest()
        for each in replicas:
            each.tokens -= each.pending
            each.pending = 0
        assert router.choose(SOMEBODY) == lowest()


def test_a_name_that_is_in_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean round_robin"):
        router_class("rond_robin")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("round_robin", True, Routing(dealt=True, parts=3, random=False, blind=True)),
        ("round_robin", False, Routing(dealt=False, parts=1, random=False, blind=True)),
        ("random", True, Routing(dealt=True, parts=3, random=True, blind=True)),
        ("least_requests", True, Routing(dealt=False, parts=1, random=False, blind=False)),
        ("least_tokens", True, Routing(dealt=False, parts=1, random=False, blind=False)),
        ("power_of_two_choices", True, Routing(dealt=False, parts=1, random=True, blind=False)),
        ("consistent_hashing", True, Routing(dealt=True, parts=3, random=False, blind=True)),
        ("bounded_consistent_hashing", True, Routing(False, 1, random=False, blind=False)),
        ("session_affinity", True, Routing(dealt=False, parts=1, random=False, blind=False)),
        ("llm_d", True, Routing(False, 1, random=True, blind=False, claims=True)),
        ("cache_aware", True, Routing(False, 1, random=False, blind=False, claims=True)),
    ],
)
def test_what_a_router_looks_at_says_how_requests_come(
    name: str, known: bool, expected: Routing
) -> None:
    assert routing(name, 3, known) == expected
    alone = Routing(dealt=known, parts=1, random=False, blind=expected.blind)
    assert routing(name, 1, known) == alone


def test_a_view_shows_no_more_than_its_router_says_that_it_looks_at() -> None:
    nothing, loads, tokens, caches = (VIEWS[looks](facts(2)) for looks in Looks)
    with pytest.raises(TypeError, match=r"looks at loads, .*Looks.NOTHING, expected Looks.LOADS"):
        nothing.requests(0)
    with pytest.raises(TypeError, match=r"looks at tokens, .*Looks.LOADS, expected Looks.TOKENS"):
        loads.tokens(1)
    with pytest.raises(TypeError, match=r"looks at caches, .*TOKENS, expected Looks.CACHES"):
        tokens.cached.tokens_on(0, [], 5)
    with pytest.raises(TypeError, match="expected refresh_metrics_interval_s"):
        caches.metrics.read(0.0)
    loads.sent(1)
    tokens.sent(1)
    tokens.sent(1)
    tokens.left(1, 2)
    assert [loads.requests(1), tokens.requests(1)] == [1, 0]


def test_a_router_that_looks_at_requests_alone_chooses_for_all_of_them_beforehand() -> None:
    class ByLength(Router):
        looks_at = Looks.NOTHING

        def choose(self, arrival: Arrival) -> int:
            return int(arrival.prompt_tokens > 10)

    router = ByLength(VIEWS[Looks.NOTHING](facts(2)), RNG)
    lengths = [3, 30, 10, 11]
    arrivals = [Sequence(row, 0.0, tokens, 1, 0) for row, tokens in enumerate(lengths)]
    assert list(router.deal(arrivals)) == [0, 1, 0, 1]
