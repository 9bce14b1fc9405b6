"""Renewal processes by window, against closed forms."""

import math

import numpy as np
import pytest

from workloads.renewals import GAP_LAWS, TooManyError, Window, renewal_times

MOST = 10**7


def cv_of(law: str, shape: float) -> float:
    """Coefficient of variation of the gaps: closed forms of both laws."""
    if law == "Gamma":
        return shape**-0.5
    return math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1)


CASES = [("Gamma", 0.25), ("Gamma", 4.0), ("Weibull", 0.5), ("Weibull", 2.0)]


@pytest.mark.parametrize(("law", "shape"), CASES)
def test_gaps_have_the_rate_and_the_variation_of_their_law(law, shape):
    window = Window(50.0, 10_050.0, 20.0, law, shape)
    times, _ = renewal_times([window], np.random.default_rng(1), MOST)
    gaps, cv = np.diff(times), cv_of(law, shape)
    assert times[0] >= 50.0
    assert times[-1] < 10_050.0
    assert gaps.mean() == pytest.approx(1 / 20, abs=4 * cv / 20 / math.sqrt(len(gaps)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize(("law", "shape"), CASES)
def test_a_short_window_has_as_many_requests_as_its_rate_says(law, shape):
    """Met anywhere in a gap, a window of any length has rate times length of them."""
    count, runs = 3.0, 4000
    rng = np.random.default_rng(2)
    found = [
        len(renewal_times([Window(0.0, 30.0, 0.1, law, shape)], rng, MOST)[0]) for _ in range(runs)
    ]
    assert np.mean(found) == pytest.approx(count, abs=4 * np.std(found) / math.sqrt(runs))


@pytest.mark.parametrize(("law", "shape"), CASES)
def test_the_gap_that_holds_an_instant_is_longer_by_the_variation(law, shape):
    rng, runs = np.random.default_rng(3), 20_000
    met = np.array([GAP_LAWS[law].met(shape, rng) for _ in range(runs)])
    expected = 1 + cv_of(law, shape) ** 2  # E[x x g(x)] of gaps of mean one
    assert met.mean() == pytest.approx(expected, abs=4 * met.std() / math.sqrt(runs))


def test_a_gap_goes_on_at_the_pace_of_the_next_windows_and_waits_in_silent_ones():
    windows = [
        Window(0.0, 100.0, 1.0, "Gamma", 1e6),  # a metronome, nearly
        Window(100.0, 500.0, 0.0, "", 0.0),
        Window(500.0, 600.0, 0.1, "Weibull", 1.0),
    ]
    for seed in range(20):
        times, of = renewal_times(windows, np.random.default_rng(seed), MOST)
        alone, _ = renewal_times(windows[:1], np.random.default_rng(seed), MOST)
        assert np.array_equal(times[of == 0], alone)
        assert np.diff(alone) == pytest.approx(1.0, abs=0.01)
        first = times[of == 2][0]
        left = 1.0 - (100.0 - alone[-1])  # of a mean gap
        assert first == pytest.approx(500.0 + left / 0.1, abs=0.1)
        assert not np.any((times >= 100.0) & (times < 500.0))


def test_windows_without_one_request_each_still_have_them_in_the_mean():
    windows = [Window(10.0 * n, 10.0 * n + 10, 0.01, "Gamma", 2.0) for n in range(2000)]
    times, of = renewal_times(windows, np.random.default_rng(4), MOST)
    assert len(times) == pytest.approx(200, abs=4 * math.sqrt(200 / 2))
    assert np.array_equal(of, (times / 10).astype(int))


def test_more_than_memory_holds_are_not_drawn():
    with pytest.raises(TooManyError):
        renewal_times([Window(0.0, 1e6, 1.0, "Gamma", 1.0)], np.random.default_rng(5), 1000)
