"""Bins of token gaps: every gap is counted once, however far they lie apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.measuring.bins import BINS, WIDE, Counts, bin_of
from tests.tries import tries


@tries(60)
@given(
    st.lists(
        st.tuples(st.one_of(st.just(0.0), st.floats(1e-4, 10.0)), st.integers(1, 5)), max_size=40
    ),
    st.integers(1, 40),
)
def test_every_gap_is_counted_in_its_bin(pairs: list[tuple[float, int]], size: int) -> None:
    expected: dict[int, int] = {}
    for value, weight in pairs:
        number = int(bin_of(np.array([value]))[0])
        expected[number] = expected.get(number, 0) + weight
    values = np.array([value for value, _ in pairs])
    weights = np.array([weight for _, weight in pairs], dtype=np.int64)
    counts = Counts()
    for at in range(0, len(pairs), size):
        counts.add(values[at : at + size], weights[at : at + size])
    assert counts.weight == expected
    assert sum(counts.rows.values()) == len(pairs)


def test_a_sample_may_reach_further_than_is_counted_at_once() -> None:
    near, far = np.array([1.0, 1.5, 1.0]), np.array([0.0, 1.0, 0.0])
    one = int(bin_of(np.ones(1))[0])
    assert one > WIDE > BINS
    weights = np.array([2, 3, 4])
    counts = Counts()
    counts.add(near, weights)
    counts.add(far, weights)
    assert counts.weight == {0: 6, one: 9, one + BINS // 2: 3}
    assert counts.rows == {0: 2, one: 3, one + BINS // 2: 1}
