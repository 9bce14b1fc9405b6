"""Values on a grid: exact at nodes, log-linear between, constant beyond, refused when broken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.prices.surface import Surface

PLANE = Surface(
    axes={"m": (1.0, 4.0, 64.0), "n": (10.0, 1000.0)}, values="0.1 0.2\n0.4 0.8\n0.3 0.9"
)


def test_nodes_are_exact_and_rows_are_text() -> None:
    assert PLANE.shape == (3, 2)
    np.testing.assert_allclose(PLANE(m=[1, 4, 64], n=1000), [0.2, 0.8, 0.9])
    assert PLANE.rows() == ["0.1 0.2", "0.4 0.8", "0.3 0.9"]


def test_between_nodes_logarithms_are_linear() -> None:
    # Half way in both logarithms: the geometric mean of four nodes.
    expected = (0.1 * 0.2 * 0.4 * 0.8) ** 0.25
    np.testing.assert_allclose(PLANE(m=2.0, n=100.0), expected)


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_beyond_the_nodes_nothing_changes(m: float, n: float) -> None:
    inside = PLANE(m=min(max(m, 1.0), 64.0), n=min(max(n, 10.0), 1000.0))
    np.testing.assert_allclose(PLANE(m=m, n=n), inside, rtol=1e-9)
    assert 0.1 - 1e-12 <= float(inside) <= 0.9 + 1e-12


def test_coordinates_broadcast() -> None:
    assert PLANE(m=np.ones((5, 1)), n=np.ones(3)).shape == (5, 3)


@pytest.mark.parametrize(
    ("axes", "values", "message"),
    [
        ({"m": [4, 1]}, "1 2", r"axes.m = \[4.0, 1.0\], expected ascending nodes"),
        ({"m": [1, 4]}, "1 2 3", r"3 values, expected 2: one per node of m \(2\)"),
        ({"m": [1, 4]}, "1 x", "expected numbers between blanks"),
        ({"m": [1, 4]}, "1 -2", "greater than"),
    ],
)
def test_broken_surfaces_are_refused(axes: object, values: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Surface.model_validate({"axes": axes, "values": values})


def test_other_coordinates_are_refused() -> None:
    with pytest.raises(TypeError, match=r"coordinates \['m', 'k'\], expected \['m', 'n'\]"):
        PLANE(m=1, k=1)
