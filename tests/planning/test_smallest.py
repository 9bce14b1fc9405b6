"""Integer bisection finds the same number from wherever it begins."""

import pytest

from experiments.planning.smallest import bisection


def found(true: int, least: int, first: int, most: int) -> tuple[int | None, list[int]]:
    asked: list[int] = []
    asking = bisection(least, first, most)
    try:
        count = next(asking)
        while True:
            asked.append(count)
            count = asking.send(count >= true)
    except StopIteration as ended:
        return ended.value, asked


@pytest.mark.parametrize("true", [1, 2, 3, 7, 8, 31, 100])
@pytest.mark.parametrize("first", [1, 2, 6, 40, 200])
def test_bisection_finds_the_smallest(true: int, first: int) -> None:
    value, asked = found(true, 1, first, 128)
    assert value == true
    assert len(set(asked)) == len(asked) <= 16


def test_a_bound_spares_probes() -> None:
    value, asked = found(4, 4, 4, 100)
    assert (value, asked) == (4, [4])
    value, asked = found(5, 4, 4, 100)
    assert (value, asked) == (5, [4, 5])


def test_beyond_the_most_there_is_none() -> None:
    assert found(9, 1, 4, 8)[0] is None
    assert found(9, 10, 12, 8)[0] is None
    assert found(8, 1, 100, 8)[0] == 8
