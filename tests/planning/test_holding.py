"""Ratios of what is held before and after a change, and what drawn calibrations add up to."""

import math

import numpy as np
import pytest

from experiments.planning.capacity.found import Highest
from experiments.planning.logit_line import Root
from experiments.planning.plan.holding import Change, ratio
from experiments.planning.plan.sensitivity import spread_of


def found(shifts: list[float]) -> Highest:
    value = math.exp(sum(shifts) / len(shifts))
    root = Root(value, math.nan, math.nan, len(shifts), np.array(shifts))
    return Highest("found", value, root=root)


def test_a_ratio_is_that_of_the_same_seeds() -> None:
    base = found([0.1, 0.2, 0.3, 0.4])
    assert base.root is not None
    change = ratio("more", base.root, found([0.2, 0.3, 0.4, 0.5]))
    assert (change.ratio, change.low, change.high) == pytest.approx((math.exp(0.1),) * 3)


def test_a_ratio_that_may_be_anything_is_none() -> None:
    base = found([0.0, 0.0, 0.0])
    assert base.root is not None
    wild = ratio("wild", base.root, found([900.0, -900.0, 1.0]))
    assert math.isnan(wild.ratio)
    assert wild.said == "its runs are too short to tell"


def test_the_interval_of_a_ratio_is_of_paired_seeds() -> None:
    """Logarithms that differ by 0.1, 0.2 and 0.3: Student's t with two degrees of freedom."""
    base = found([0.5, 0.0, -0.5])
    assert base.root is not None
    change = ratio("more", base.root, found([0.6, 0.2, -0.2]))
    half = 4.302653 * 0.1 / math.sqrt(3)
    ends = [math.exp(0.2 + side * half) for side in (0, -1, 1)]
    assert [change.ratio, change.low, change.high] == pytest.approx(ends)


def test_a_ratio_beyond_ten_is_none_however_sure() -> None:
    base = found([0.0, 0.0])
    assert base.root is not None
    assert ratio("a lot", base.root, found([2.3, 2.3])).ratio == pytest.approx(math.exp(2.3))
    assert math.isnan(ratio("too much", base.root, found([2.31, 2.31])).ratio)


def test_draws_spread_about_what_the_calibration_holds() -> None:
    """Two that hold a tenth less are a spread, too, though they agree."""
    draws = [Change("draw", each, each, each) for each in (0.9, 0.9, math.nan)]
    assert spread_of(draws) == pytest.approx(-math.log(0.9))
    assert spread_of([]) == 0.0
