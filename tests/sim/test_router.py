"""Routers: the index of the lowest, and what a router that keeps it answers."""

from hypothesis import given
from hypothesis import strategies as st

from sim.lowest import Lowest
from sim.router import LeastTokens


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5)), max_size=60))
def test_the_lowest_is_the_first_of_the_lowest_keys(
    count: int, changes: list[tuple[int, int]]
) -> None:
    lowest = Lowest(count)
    for number, key in changes:
        lowest.set(number % count, key)
        assert lowest.first() == lowest.keys.index(min(lowest.keys))


@given(st.lists(st.tuples(st.sampled_from(["grow", "leave", "drop"]), st.integers(0, 6))))
def test_least_tokens_finds_the_lowest_though_it_looks_at_few(events: list) -> None:
    tokens, pending = [0] * 7, [0] * 7
    router = LeastTokens(7, tokens.__getitem__, lambda number: pending[number] > 0)
    for what, number in events:
        if what == "grow":
            tokens[number] += number + 3
        elif what == "leave":
            tokens[number] = min(tokens[number], 2)
            router.left(number, 1)
        else:  # given up: still counted, until the step has ended
            pending[number] = tokens[number] - tokens[number] // 2
            router.left(number, 1)
        assert router.choose() == tokens.index(min(tokens))
        for each in range(7):
            tokens[each] -= pending[each]
            pending[each] = 0
        assert router.choose() == tokens.index(min(tokens))
