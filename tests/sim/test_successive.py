"""Neighbours in a column: numpy's own, to the bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.measuring.successive import before, growth
from tests.tries import tries


@tries(50)
@given(st.lists(st.floats(-1e9, 1e9), max_size=9), st.floats(-1e9, 1e9))
def test_differences_are_those_of_numpy(values: list[float], first: float) -> None:
    column = np.array(values)
    np.testing.assert_array_equal(column - before(column, first), np.diff(column, prepend=first))
    np.testing.assert_array_equal(growth(column), np.diff(column))
    assert before(np.arange(3), 7).tolist() == [7, 0, 1]
