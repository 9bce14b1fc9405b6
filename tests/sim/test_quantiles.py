"""Quantiles of plain samples: numpy's, to the bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.measuring.percentiles import quantiles_at
from tests.tries import tries


@tries(100)
@given(
    st.lists(st.floats(allow_nan=False, width=64), min_size=1, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_they_are_those_of_numpy(values: list[float], shares: list[float]) -> None:
    sample = np.array(values)
    with np.errstate(invalid="ignore", over="ignore"):
        found, expected = quantiles_at(sample, shares), np.quantile(sample, shares)
    np.testing.assert_array_equal(found, expected)
