"""What a load tells of how misses come together, and what a test makes of it."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from experiments.planning.counts import Counts
from experiments.planning.expected import effect_of_load, expected_effect
from experiments.planning.promises import Promise
from experiments.planning.sequential import Batch, Verdict, decide, no_luck
from experiments.reporting.support import OF_TOKENS, Load

ALLOWED = 0.01
BOTH = Promise("", ALLOWED, ("ttft_s", "tpot_s"))
NEAR = Load(0.93, 1.0, 1.0, 1)


def test_who_waits_counts_with_the_load_and_the_others_as_tokens_do() -> None:
    half = Counts((BOTH,), 1000, {"": 40}, {}, {"": 20})
    assert expected_effect(BOTH, half, 100.0) == pytest.approx((100 + OF_TOKENS) / 2)
    none = Counts((BOTH,), 1000, {"": 0}, {}, {"": 0})
    assert expected_effect(BOTH, none, 100.0) == 100.0
    assert expected_effect(BOTH, half, None) == 1.0
    assert expected_effect(Promise("", ALLOWED, ("tpot_s",)), half, None) == OF_TOKENS


def test_waits_come_together_the_more_the_nearer_the_capacity_is() -> None:
    assert effect_of_load(NEAR) == pytest.approx(2.2 / 0.07**2)
    full = effect_of_load(replace(NEAR, rate_per_s=1.0))
    assert effect_of_load(NEAR) < full < math.inf
    assert effect_of_load(replace(NEAR, rate_per_s=1.05)) == 1.0  # grows without end: no luck


def test_few_misses_of_few_busy_periods_are_not_kept_at_once() -> None:
    """At 93% load two runs of 27,000 that miss nothing at all are no proof; six are."""
    nothing: list[Batch] = [(0, 5400)] * 5
    little: list[Batch] = [(15, 5400), (18, 5400), (14, 5400), (16, 5400), (17, 5400)]
    effect = effect_of_load(NEAR)
    for run in (nothing, little):
        assert decide([run] * 2, ALLOWED, 0.95) is Verdict.KEPT
        assert decide([run] * 2, ALLOWED, 0.95, [effect] * 2) is Verdict.UNDECIDED
        assert decide([run] * 2, ALLOWED, 0.95, [OF_TOKENS] * 2) is Verdict.KEPT
        assert decide([run] * 24, ALLOWED, 0.95, [effect] * 24) is Verdict.KEPT


def test_one_long_busy_period_does_not_miss_a_limit() -> None:
    """5.5% of a run would be plain if requests were independent; so is 30% at any load."""
    effect = effect_of_load(NEAR)
    long = [[(0, 5400)] * 4 + [(1485, 5400)]]
    assert decide(long, ALLOWED, 0.95) is Verdict.MISSED
    assert decide(long, ALLOWED, 0.95, [effect]) is Verdict.UNDECIDED
    assert decide(long, ALLOWED, 0.95, [effect], too_near=True) is Verdict.MISSED
    assert no_luck(0.3, 27_000, ALLOWED, effect)
    assert not no_luck(0.055, 27_000, ALLOWED, effect)
    assert no_luck(0.02, 27_000, ALLOWED, OF_TOKENS)
    assert not no_luck(0.02, 0, ALLOWED, OF_TOKENS)


@pytest.mark.parametrize("worth", [0.02, 0.05, 0.14, 0.16, 0.3, 1.0, 20.0])
def test_ill_luck_is_that_of_a_gamma_law(worth: float) -> None:
    """What one run of 10,000 of which 1% may miss exceeds in one of 400 cases."""
    exceeded = ALLOWED * float(stats.gamma.ppf(0.9975, worth)) / worth
    effect = 10_000 * ALLOWED / worth
    assert not no_luck(0.93 * exceeded, 10_000, ALLOWED, effect)
    assert no_luck(1.07 * exceeded, 10_000, ALLOWED, effect)
