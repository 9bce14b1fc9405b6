"""Risk of a deployment: closed forms beside the code."""

import math

import numpy as np
import pytest

from experiments.planning.plan.demand import Curve, Demand, down, needed, risk


def test_the_design_is_exceeded_with_the_risk() -> None:
    demand = Demand(1.2, 0.1, 0.01)
    assert demand.design == pytest.approx(1.2 * math.exp(2.3263 * 0.1), rel=1e-4)
    assert demand.exceeded(demand.design) == pytest.approx(0.01)
    draws = 1.2 * np.exp(0.1 * np.random.default_rng(0).standard_normal(200_000))
    assert (draws > demand.design).mean() == pytest.approx(0.01, abs=0.001)


def test_without_doubt_traffic_is_the_forecast() -> None:
    demand = Demand(1.5, 0.0, 0.01)
    assert demand.design == 1.5
    assert (demand.exceeded(1.51), demand.exceeded(1.49)) == (0.0, 1.0)


def test_replicas_that_are_away() -> None:
    chances = down(4, 0.9881)
    assert chances[0] == pytest.approx(0.9881**4)
    assert 1 - chances[0] == pytest.approx(0.047, abs=0.001)
    assert down(18, 0.9881)[0] == pytest.approx(1 - 0.194, abs=0.002)


def test_how_many_are_needed_when_each_holds_less() -> None:
    """Two hold the traffic; with failures a third is needed, and a fourth where each holds less."""
    demand, curve = Demand(1.0, 0.0, 0.01), Curve({2: 1.2, 3: 1.8})
    assert needed(demand, curve, 1.0, 1.0, 8) == 2
    assert needed(demand, curve, 1.0, 0.98, 8) == 3
    assert needed(demand, curve, 0.8, 0.98, 8) == 4
    assert needed(demand, curve, 0.1, 0.98, 8) is None


def test_failures_add_to_the_risk() -> None:
    """Four hold the traffic, three do not: the risk is that one or more are away."""
    demand, curve = Demand(1.0, 0.0, 0.01), Curve({4: 1.1, 3: 0.8})
    assert risk(demand, curve, 4) == 0.0
    assert risk(demand, curve, 4, 0.99) == pytest.approx(1 - 0.99**4)
    assert risk(demand, Curve({4: 1.4, 3: 1.05, 2: 0.7}), 4, 0.99) == pytest.approx(
        1 - 0.99**4 - 4 * 0.99**3 * 0.01
    )


def test_the_curve_is_straight_in_one_over_replicas() -> None:
    each = {count: 10 - 1.4 / count for count in range(1, 9)}
    curve = Curve({3: 3 * each[3], 4: 4 * each[4]})
    assert curve.holds(8) == pytest.approx(8 * each[8])
    assert curve.holds(2) == pytest.approx(2 * each[2])
    assert curve.holds(0) == 0.0
    assert Curve({4: 8.0}).holds(3) == pytest.approx(6.0)


def test_between_what_was_simulated_the_nearest_two_tell() -> None:
    """Per replica 1.05 of two and 1.125 of eight: six are on the line between, in 1 / replicas."""
    curve = Curve({1: 1.0, 2: 2.1, 8: 9.0})
    assert curve.holds(6) == pytest.approx(6 * (1.125 - 0.2 * (1 / 6 - 1 / 8)))
    assert [curve.holds(count) for count in (0, 1, 2, 8)] == [0, 1.0, 2.1, 9.0]
