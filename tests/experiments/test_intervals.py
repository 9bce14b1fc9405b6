"""Intervals that stay in range: by hand, against scipy, and how often they hold the truth.

A coverage test counts misses in N draws. It accepts up to the 1 - 1e-6 quantile of
Binomial(N, p) with the p that it grants, so a right interval fails with a probability below 1e-6.
"""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from experiments.reporting.intervals import EndsOf, positive_ends, real_ends, share_ends
from experiments.reporting.means import crossed_interval, mean_interval
from experiments.reporting.records import Records
from experiments.reporting.stats import SHARES, summarise_points
from sim.measuring.metrics import ALL_METRICS, POOL_SHARES
from sim.measuring.transfer_use import TRANSFER_METRICS

N = 3000


def most(granted: float) -> int:
    """Misses in ``N`` draws that a right interval exceeds with a probability of 1e-6."""
    return int(stats.binom.ppf(1 - 1e-6, N, granted))


def misses(samples: np.ndarray, truth: float, ends: EndsOf) -> int:
    found = (mean_interval(row, ends=ends)[1:] for row in samples)
    return sum(not low <= truth <= high for low, high in found)


def test_positive_ends_by_hand() -> None:
    low, high = positive_ends(10.0, 2.0, 3.0)
    assert (low, high) == pytest.approx((10 * math.exp(-0.6), 10 * math.exp(0.6)))
    # Next to a small error the symmetric interval is the same, to the second order.
    assert positive_ends(10.0, 1e-4, 2.0) == pytest.approx(real_ends(10.0, 1e-4, 2.0), abs=1e-8)


def test_share_ends_are_wilson_s() -> None:
    for good, asked in ((90, 100), (100, 100), (0, 30)):
        expected = stats.binomtest(good, asked).proportion_ci(method="wilson")
        share = good / asked
        ends = share_ends(share, 0.0, 1.959963984540054, asked)
        assert ends == pytest.approx((expected.low, expected.high), abs=1e-12)
    # An error ten times that of independent trials leaves a hundredth of them.
    error = 10 * math.sqrt(0.9 * 0.1 / 10_000)
    few = stats.binomtest(90, 100).proportion_ci(method="wilson")
    assert share_ends(0.9, error, 1.959963984540054, 10_000) == pytest.approx((few.low, few.high))
    # A lucky agreement of the runs is worth no more than the trials that there were.
    assert share_ends(0.9, 1e-9, 2.0, 100) == share_ends(0.9, 0.0, 2.0, 100)


@pytest.mark.parametrize(
    ("ends", "mean", "error"),
    [
        (real_ends, 1.0, 0.0),
        (positive_ends, 1.0, 0.0),
        (positive_ends, 0.0, 0.0),
        (share_ends, 0.5, 0.0),
        (share_ends, 1.0, 0.0),
        (share_ends, 1.2, 0.1),
        (partial(share_ends, trials=0.0), 0.0, 0.0),
    ],
)
def test_no_ends_without_knowledge(ends: EndsOf, mean: float, error: float) -> None:
    assert all(map(math.isnan, ends(mean, error, 2.0)))


def test_ends_stay_in_range_and_hold_the_mean() -> None:
    rng = np.random.default_rng(3)
    for scale in (1e-3, 0.1, 1.0, 30.0):
        for mean, spread in zip(rng.random(50), rng.random(50) * scale, strict=True):
            low, high = positive_ends(mean, spread, 12.7)
            assert 0 <= low <= mean <= high
            low, high = share_ends(mean, spread, 12.7, 400)
            assert 0 <= low <= mean <= high <= 1
    assert positive_ends(1.0, 1.0, 1000.0)[1] == math.inf


def test_positive_intervals_hold_a_skewed_mean_where_symmetric_ones_do_not() -> None:
    """Exponential runs, three of them: 95% is asked, the log scale keeps 94, t does not keep 90."""
    samples = np.random.default_rng(4).exponential(1.0, (N, 3))
    assert misses(samples, 1.0, positive_ends) <= most(0.06)
    assert misses(samples, 1.0, real_ends) > most(0.06)
    nearly_normal = np.random.default_rng(5).normal(1.0, 0.05, (N, 5))
    assert misses(nearly_normal, 1.0, positive_ends) <= most(0.052)


@pytest.mark.parametrize(
    ("truth", "seeds", "busy", "granted"),
    [(0.99995, 3, 1, 0.01), (0.99, 10, 1, 0.06), (0.99, 10, 20, 0.09), (0.9, 5, 20, 0.06)],
)
def test_shares_of_dependent_requests(truth: float, seeds: int, busy: int, granted: float) -> None:
    """1,000 requests a seed, good or bad together in busy periods of ``busy`` requests."""
    good = np.random.default_rng(6).binomial(1000 // busy, truth, (N, seeds)) * busy / 1000
    assert misses(good, truth, partial(share_ends, trials=1000.0 * seeds)) <= most(granted)


def test_metrics_get_ends_that_they_can_have() -> None:
    """Two seeds that differ by a factor: a symmetric interval would leave the range of each."""
    assert set(SHARES) < {*ALL_METRICS, *POOL_SHARES, *TRANSFER_METRICS}
    rows = [
        {"seed": seed, **dict.fromkeys(SHARES, 0.9 if seed else 0.3),
         "measured_requests": 100.0, "goodput_per_s": 3.0 * seed, "ttft_p99_s": 0.1 + seed,
         "request_throughput_per_s": 4.0 + seed}
        for seed in range(2)
    ]  # fmt: skip
    (point,) = summarise_points(Records.of(rows), []).rows()
    for name in set(SHARES) - {*POOL_SHARES, *TRANSFER_METRICS}:
        assert 0 <= point[f"{name}_lo"] < 0.6 < point[f"{name}_hi"] <= 1
    assert 0 < point["ttft_p99_s_lo"] < 0.6 < point["ttft_p99_s_hi"]
    assert 0 < point["goodput_per_s_lo"] < 1.5
    assert point["goodput_per_s_hi"] == point["request_throughput_per_s_hi"]


def test_an_attainment_without_a_miss_has_an_interval() -> None:
    rows = [{"seed": s, "measured_requests": 500.0, "slo_attainment": 1.0} for s in range(3)]
    (point,) = summarise_points(Records.of(rows), []).rows()
    expected = stats.binomtest(1500, 1500).proportion_ci(method="wilson")
    assert point["slo_attainment_lo"] == pytest.approx(expected.low)
    assert point["slo_attainment_hi"] == 1.0
    drawn = Records.of([{**row, "draw": draw} for row in rows for draw in range(4)])
    (point,) = summarise_points(drawn, []).rows()  # the same requests, drawn prices
    assert point["slo_attainment_lo"] == pytest.approx(expected.low)


def test_crossed_intervals_stay_in_range() -> None:
    values = [[0.2, 0.9], [0.1, 0.99], [0.9, 0.95]]
    assert crossed_interval(values)[2] > 1
    mean, low, high = crossed_interval(values, ends=share_ends)
    assert 0 < low < mean < high < 1
    assert crossed_interval([[0.1], [5.0]], ends=positive_ends)[1] > 0
