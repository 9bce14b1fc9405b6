"""Sizes of deployments: pools grow in their ratio, each size is the one before and one more."""

import pytest

from experiments.planning.sizes import Sizes

MIXED = Sizes((1, 3), (4.0, 1.0), (2, 1), ((10.0, 2.0),))
ROLES = Sizes((2, 1), (4.0, 1.0), (1, 1), ((0.0, 9.0), (5.0, 5.0)))


def test_pools_grow_in_their_ratio() -> None:
    assert [MIXED.parts(size) for size in (*range(2, 9), 40)] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (2, 5), (2, 6), (10, 30),
    ]  # fmt: skip
    assert Sizes((2, 5, 1), (1.0,) * 3, (1,) * 3).parts(16) == (4, 10, 2)
    assert Sizes((4,), (1.0,), (1,)).parts(7) == (7,), "one pool is as many as there are"


@pytest.mark.parametrize(
    ("known", "size", "least"),
    [(6, 6, 6), (6, 5, 6), (6, 3, 3), (6, 7, 9), (7, 8, 10), (7, 4, 4), (7, 2, 4)],
)
def test_pools_in_a_ratio_grow_by_rounds(known: int, size: int, least: int) -> None:
    """2:1 grows by three: 6 is 4 + 2 and 9 is 6 + 3, while 7 and 8 have other shares."""
    assert ROLES.rounds_from(known, size) == least
    assert Sizes((4,), (1.0,), (1,)).rounds_from(known, size) == size


@pytest.mark.parametrize("sizes", [MIXED, ROLES, Sizes((5, 1, 1, 7), (1.0,) * 4, (1,) * 4)])
def test_a_larger_size_is_the_one_before_and_one_replica(sizes: Sizes) -> None:
    for size in range(sizes.fewest, 60):
        before, after = sizes.parts(size), sizes.parts(size + 1)
        assert sum(before) == size
        assert all(new >= old for old, new in zip(before, after, strict=True))
        assert sizes.usd_per_hour(size) < sizes.usd_per_hour(size + 1)


def test_what_a_size_costs_and_serves() -> None:
    assert MIXED.usd_per_hour(4) == 7.0
    assert MIXED.gpus_of(4) == 5
    assert MIXED.capacity_per_s(4) == 16.0
    assert ROLES.capacity_per_s(3) == 9.0, "one answers, whatever prompts three read"


def test_the_smallest_that_serves_a_rate_and_the_largest_below_a_price() -> None:
    for rate in (1.0, 11.9, 12.0, 31.0, 500.0):
        least = MIXED.least(rate, 1.0, 1000)
        assert MIXED.capacity_per_s(least) >= rate
        assert least == MIXED.fewest or MIXED.capacity_per_s(least - 1) < rate
    assert MIXED.least(500.0, 1.0, 10) == 11, "more than there may be"
    assert [MIXED.below(usd, 100) for usd in (5.0, 5.1, 7.0, 7.1)] == [1, 2, 3, 4]
