"""How figures are written."""

import math

import pytest

from experiments.reporting.quantities import with_interval


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((2.85998, 2.86002), "2.86"),  # far within the last digit that is shown
        ((2.8501, 2.8699), "2.86 ± 0.0099"),
        ((2.8599, 2.9), "2.86 (2.86\N{EN DASH}2.90)"),
        ((math.nan, math.nan), "2.86"),
    ],
)
def test_an_interval_is_written_where_it_says_something(
    ends: tuple[float, float], text: str
) -> None:
    assert with_interval(2.86, *ends) == text
