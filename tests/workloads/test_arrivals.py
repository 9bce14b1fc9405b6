"""Arrival processes: exact logs, laws, and what holds for every process.

Statistical tests use fixed seeds. Each would reject a correct sampler with probability 1e-6, were
its seed drawn anew.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from workloads.arrivals import (
    AllAtOnce,
    Arrivals,
    ClosedLoop,
    Deterministic,
    Diurnal,
    Gamma,
    Markov,
    OnOff,
    Piecewise,
    Poisson,
)
from workloads.streams import stream

FALSE_ALARM = 1e-6
Z = stats.norm.isf(FALSE_ALARM / 2)

OPEN = [
    Poisson(rate_per_s=3.0),
    Gamma(rate_per_s=3.0, cv=2.5),
    Gamma(rate_per_s=3.0, cv=0.3),
    Deterministic(rate_per_s=3.0),
    AllAtOnce(),
    OnOff(rate_on_per_s=30.0, mean_on_s=1.0, mean_off_s=4.0),
    Markov(rates_per_s=(0.0, 2.0, 40.0), mean_dwell_s=(3.0, 2.0, 0.5)),
    Piecewise(
        steps=({"duration_s": 4.0, "rate_per_s": 5.0}, {"duration_s": 2.0, "rate_per_s": 0.0}),
        repeat=True,
    ),
    Piecewise(steps=({"duration_s": 4.0, "rate_per_s": 0.0}, {"duration_s": 1.0, "rate_per_s": 9})),
    Diurnal(mean_rate_per_s=3.0, peak_to_trough=4.0, period_s=60.0),
]


class Metronome:
    """A generator without luck: every exponential is 1."""

    def standard_exponential(self, count: int) -> np.ndarray:
        return np.ones(count)


def fits(gaps: np.ndarray, law: object) -> bool:
    return stats.kstest(gaps, law.cdf).pvalue > FALSE_ALARM


def gaps_of(times: np.ndarray) -> np.ndarray:
    return np.diff(times, prepend=0.0)


@pytest.mark.parametrize("arrivals", OPEN, ids=lambda arrivals: arrivals.process)
def test_times_are_sorted_counted_and_begin_with_the_shorter_sample(arrivals):
    times = arrivals.times_s(3000, stream(5, "arrivals"))
    assert times.shape == (3000,)
    assert times.dtype == np.float64
    assert np.all(np.diff(times) >= 0)
    assert times[0] > 0 or isinstance(arrivals, AllAtOnce)
    shorter = arrivals.times_s(7, stream(5, "arrivals"))
    np.testing.assert_array_equal(shorter, times[:7])


@pytest.mark.parametrize("arrivals", OPEN, ids=lambda arrivals: arrivals.process)
def test_is_random_says_whether_the_seed_matters(arrivals):
    one, two = (arrivals.times_s(20, stream(seed, "arrivals")) for seed in (1, 2))
    assert arrivals.is_random == (not np.array_equal(one, two))


@given(count=st.integers(1, 50), exponent=st.integers(-3, 3), seed=st.integers(0, 2**32))
def test_a_rate_only_stretches_time(count, exponent, seed):
    factor = 2.0**exponent
    for law in (Poisson, Deterministic):
        slow = law(rate_per_s=1.5).times_s(count, stream(seed, "arrivals"))
        fast = law(rate_per_s=1.5 * factor).times_s(count, stream(seed, "arrivals"))
        np.testing.assert_array_equal(fast * factor, slow)


def test_deterministic_and_all_at_once_are_exact():
    rng = stream(0, "arrivals")
    assert Deterministic(rate_per_s=4.0).times_s(3, rng).tolist() == [0.25, 0.5, 0.75]
    assert AllAtOnce().times_s(3, rng).tolist() == [0.0, 0.0, 0.0]


def test_poisson_gaps_are_exponential():
    times = Poisson(rate_per_s=7.0).times_s(20000, stream(11, "arrivals"))
    assert fits(gaps_of(times), stats.expon(scale=1 / 7))


# Not burstier: many gaps would be lost in the rounding of the times that they are read from.
@pytest.mark.parametrize("cv", [0.25, 1.0, 2.0])
def test_gamma_gaps_have_the_mean_and_cv_asked_for(cv):
    times = Gamma(rate_per_s=7.0, cv=cv).times_s(20000, stream(12, "arrivals"))
    law = stats.gamma(cv**-2, scale=cv**2 / 7)
    assert law.mean() == pytest.approx(1 / 7)
    assert law.std() / law.mean() == pytest.approx(cv)
    assert fits(gaps_of(times), law)


STEPS = (
    {"duration_s": 10.0, "rate_per_s": 0.25},
    {"duration_s": 10.0, "rate_per_s": 0.0},
    {"duration_s": 5.0, "rate_per_s": 0.5},
)


def test_piecewise_log_by_hand():
    # Cumulative rate: 2.5 at 10 s, still 2.5 at 20 s, 5 at 25 s; unit arrivals at 1, 2, 3, ...
    times = Piecewise(steps=STEPS).times_s(7, Metronome())
    assert times.tolist() == [4.0, 8.0, 21.0, 23.0, 25.0, 27.0, 29.0]


def test_repeated_piecewise_log_by_hand():
    times = Piecewise(steps=STEPS, repeat=True).times_s(10, Metronome())
    lap = [4.0, 8.0, 21.0, 23.0]
    # Unit arrival 5 falls on the very end of the lap: it opens the next one at 25 s.
    assert times.tolist() == [*lap, 25.0, *(25.0 + second for second in lap), 50.0]


def test_piecewise_is_poisson_in_its_own_time():
    arrivals = Piecewise(steps=STEPS, repeat=True)
    times = arrivals.times_s(20000, stream(13, "arrivals"))
    laps, second = np.divmod(times, 25.0)
    passed = 5.0 * laps + np.interp(second, [0, 10, 20, 25], [0, 2.5, 2.5, 5.0])
    assert fits(gaps_of(passed), stats.expon)
    assert not np.any((second > 10.0 + 1e-6) & (second < 20.0 - 1e-6))


def test_diurnal_is_poisson_in_its_own_time():
    # A day of 300 s that begins at 2 h and peaks at 10 h, so 8 of 24 hours, or 100 s, later.
    arrivals = Diurnal(
        mean_rate_per_s=5.0, peak_to_trough=9.0, period_s=300.0, peak_hour=10.0, start_hour=2.0
    )
    times = arrivals.times_s(20000, stream(14, "arrivals"))
    angular = 2 * math.pi / 300.0
    swing = (9 - 1) / (9 + 1) / angular
    passed = 5.0 * (times + swing * (np.sin(angular * (times - 100.0)) + math.sin(angular * 100.0)))
    assert fits(gaps_of(passed), stats.expon)
    # At the peak the rate is nine times that at the trough; counts within a twentieth of a period.
    second = times % 300.0
    near_peak = np.sum(np.abs(second - 100.0) < 7.5)
    near_trough = np.sum(np.abs(second - 250.0) < 7.5)
    assert near_peak > 7 * near_trough


def test_a_day_begins_at_midnight_sleeps_at_five_and_is_busiest_at_seventeen():
    day = Diurnal(mean_rate_per_s=0.5, peak_to_trough=4.0)
    hours = np.array([0.0, 5.0, 11.0, 17.0, 23.0, 29.0])
    swing = 0.6 * math.cos(2 * math.pi * 5 / 24)
    expected = [0.5 * (1 - 0.6 * math.cos(2 * math.pi * 5 / 24)), 0.2, 0.5, 0.8, 0.5, 0.2]
    assert swing == pytest.approx(0.1553, abs=1e-4)
    assert day.rate_per_s(hours * 3600) == pytest.approx(expected)
    times = day.times_s(40_000, stream(2, "arrivals"))
    per_hour = np.histogram(times[times < 86400] / 3600, bins=24, range=(0, 24))[0]
    # A quarter of a day around each: 43,200 x 0.25 x (1 +- 0.54), +- 0.9 and 1.6% (one sd).
    assert per_hour[2:8].sum() == pytest.approx(4966, rel=0.07)
    assert per_hour[14:20].sum() == pytest.approx(16634, rel=0.04)
    evening = Diurnal(mean_rate_per_s=0.5, peak_to_trough=4.0, start_hour=18.0)
    assert evening.rate_per_s(hours * 3600) == pytest.approx(day.rate_per_s(hours * 3600 + 64800))


def test_on_off_counts_have_the_exact_mean_and_variance_from_time_zero():
    # Var N(T) = p r T + 2 r^2 p (1-p) (T/k - (1 - exp(-k T)) / k^2), k = 1/on + 1/off, integrating
    # the covariance r^2 p (1-p) exp(-k tau) of the rate. Short T: the start must be stationary.
    arrivals = OnOff(rate_on_per_s=10.0, mean_on_s=1.0, mean_off_s=3.0)
    horizon, runs, p, k = 2.0, 3000, 0.25, 1.0 + 1 / 3
    counts = [
        np.searchsorted(arrivals.times_s(120, stream(seed, "arrivals")), horizon)
        for seed in range(runs)
    ]
    assert max(counts) < 120
    mean = 10.0 * p * horizon
    variance = mean + 200.0 * p * (1 - p) * (horizon / k - (1 - math.exp(-k * horizon)) / k**2)
    assert abs(np.mean(counts) - mean) < Z * math.sqrt(variance / runs)
    fourth = np.mean((counts - np.mean(counts)) ** 4)
    assert abs(np.var(counts) - variance) < Z * math.sqrt((fourth - variance**2) / runs)


def test_markov_is_stationary_from_time_zero():
    arrivals = Markov(rates_per_s=(0.0, 4.0, 20.0), mean_dwell_s=(5.0, 3.0, 2.0))
    counts = [
        np.searchsorted(arrivals.times_s(150, stream(seed, "arrivals")), 2.0)
        for seed in range(3000)
    ]
    assert max(counts) < 150
    mean = 2.0 * (0.3 * 4.0 + 0.2 * 20.0)
    assert abs(np.mean(counts) - mean) < Z * np.std(counts) / math.sqrt(3000)


def test_markov_with_equal_rates_is_poisson():
    arrivals = Markov(rates_per_s=(6.0, 6.0, 6.0), mean_dwell_s=(1.0, 0.1, 2.0))
    times = arrivals.times_s(20000, stream(15, "arrivals"))
    assert fits(gaps_of(times), stats.expon(scale=1 / 6))


def test_on_off_at_equal_rates_is_poisson_itself():
    both = OnOff(rate_on_per_s=6.0, rate_off_per_s=6.0, mean_on_s=1.0, mean_off_s=9.0)
    times = both.times_s(100, stream(16, "arrivals"))
    poisson = Poisson(rate_per_s=6.0).times_s(100, stream(16, "arrivals"))
    np.testing.assert_allclose(times, poisson, rtol=1e-12)


def test_think_times():
    constant = ClosedLoop(users=3, think_s=2.0, think_law="constant")
    assert constant.think_times_s(3, stream(0, "think")).tolist() == [2.0, 2.0, 2.0]
    assert not constant.is_random
    exponential = ClosedLoop(users=3, think_s=2.0, think_law="exponential")
    assert exponential.is_random
    assert fits(exponential.think_times_s(20000, stream(17, "think")), stats.expon(scale=2.0))
    assert not ClosedLoop(users=3, think_law="exponential").is_random


def test_a_path_of_too_many_states_is_refused():
    rare = OnOff(rate_on_per_s=1e-4, mean_on_s=1e-3, mean_off_s=1.0)
    with pytest.raises(
        ValueError, match=r"about .e\+\d+ changes of state, expected at most 1e\+07"
    ):
        rare.times_s(1000, stream(0, "arrivals"))


BEYOND = [
    (Poisson(rate_per_s=1e-308), r"rate_per_s\(=1e-308\) of process poisson"),
    (Gamma(rate_per_s=1e-308, cv=2.0), r"rate_per_s\(=1e-308\), cv\(=2\)"),
    (Deterministic(rate_per_s=1e-308), r"rate_per_s\(=1e-308\) of process deterministic"),
    (Gamma(rate_per_s=1.0, cv=1e-200), r"cv\(=1e-200\)"),
    (Poisson(rate_per_s=1e-9), r"rate_per_s\(=1e-09\) of process poisson"),
    (
        Piecewise(steps=({"duration_s": 1.0, "rate_per_s": 1e-308},)),
        r"steps\(=\[{duration_s: 1, rate_per_s: 1e-308}\]\) of process piecewise",
    ),
    (
        Piecewise(steps=({"duration_s": 1e-300, "rate_per_s": 1e-300},), repeat=True),
        r"steps\(=\[{duration_s: 1e-300",
    ),
    (Diurnal(mean_rate_per_s=1e-308, peak_to_trough=2), r"mean_rate_per_s\(=1e-308\), period_s"),
    (Diurnal(mean_rate_per_s=1.0, peak_to_trough=2, period_s=1e-308), r"period_s\(=1e-308\)"),
]


@pytest.mark.parametrize("cv", [0.0, 1e200, float("nan")])
def test_a_variation_beyond_reason_is_refused(cv):
    with pytest.raises(ValueError, match="cv"):
        Gamma(rate_per_s=1.0, cv=cv)


@pytest.mark.parametrize(("arrivals", "message"), BEYOND)
@pytest.mark.filterwarnings("error")
def test_times_beyond_numbers_are_refused_with_their_keys(arrivals, message):
    with pytest.raises(ValueError, match=message + ".* gives arrival times beyond 1e\\+10 s"):
        arrivals.times_s(100, stream(0, "arrivals"))


@pytest.mark.filterwarnings("error")
def test_think_times_beyond_reason_are_refused():
    with pytest.raises(ValueError, match="think_s"):
        ClosedLoop(users=1, think_s=1e10, think_law="exponential")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"process": "poisson", "rate_per_s": 0}, "greater than 0"),
        ({"process": "poisson", "rate_per_s": math.inf}, "finite number"),
        ({"process": "poisson", "rate_per_s": math.nan}, "finite number"),
        ({"process": "poisson"}, "Field required"),
        ({"process": "poisson", "rate_per_s": 1, "cv": 2}, "Extra inputs"),
        ({"process": "poison", "rate_per_s": 1}, "'poisson', 'gamma'"),
        ({"process": "gamma", "rate_per_s": 1, "cv": 0}, "greater than 0"),
        ({"process": "closed_loop", "users": 0}, "greater than or equal to 1"),
        ({"process": "closed_loop", "users": 1, "think_s": -1}, "greater than or equal to 0"),
        ({"process": "diurnal", "mean_rate_per_s": 1, "peak_to_trough": 0.5}, "equal to 1"),
        (
            {"process": "markov", "rates_per_s": [1, 2], "mean_dwell_s": [1, 1, 1]},
            "mean_dwell_s has 3 states, expected 2 as in rates_per_s",
        ),
        (
            {"process": "markov", "rates_per_s": [0, 0], "mean_dwell_s": [1, 1]},
            r"rates_per_s\(=\[0.0, 0.0\]\) must hold one rate > 0",
        ),
        ({"process": "piecewise", "steps": []}, "at least 1 item"),
        (
            {"process": "piecewise", "steps": [{"duration_s": 1, "rate_per_s": 0}]},
            r"rate_per_s\(=0\) of the last step must be > 0",
        ),
        (
            {
                "process": "piecewise",
                "steps": [{"duration_s": 1, "rate_per_s": 0}],
                "repeat": True,
            },
            "steps must hold one rate_per_s > 0",
        ),
    ],
)
def test_senseless_processes_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Arrivals).validate_python(config)


def test_an_unknown_purpose_of_randomness_is_refused():
    with pytest.raises(ValueError, match="purpose 'luck' is unknown, expected one of arrivals"):
        stream(0, "luck")
