"""What a load tells of how misses come together, and what a test makes of it."""

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from experiments.planning.counts import Counts
from experiments.planning.expected import (
    effect_at,
    effect_of_load,
    effect_of_tokens,
    expected_effect,
)
from experiments.planning.promises import Promise
from experiments.planning.sequential import Batch, Verdict, decide, no_luck
from experiments.reporting.support import OF_TOKENS, Load
from experiments.study.build import settled
from experiments.study.document import Study

ALLOWED = 0.01
BOTH = Promise("", ALLOWED, ("ttft_s", "tpot_s"))
NEAR = Load(0.93, 1.0, 1.0, 1)


def serving(rate_per_s: float = 40.0, **changes: Any) -> Study:
    """120 output tokens at 50 ms and a second for the first: at most seven seconds of a request."""
    arrivals = {"process": "poisson", "rate_per_s": rate_per_s} | changes
    lengths = {"prompt": {"distribution": "constant", "value": 300},
               "output": {"distribution": "constant", "value": 120}}  # fmt: skip
    raw = {
        "name": "expected", "model": "llama-3-8b", "cluster": {"gpu": "a100-80gb-sxm"},
        "engine": {"max_num_seqs": 256}, "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "workload": {"arrivals": arrivals, "lengths": lengths, "num_requests": 1000},
    }  # fmt: skip
    return settled(Study.model_validate(raw))


def test_who_waits_counts_with_the_load_and_the_others_with_all_that_are_served() -> None:
    half = Counts((BOTH,), 1000, {"": 40}, {}, {"": 20})
    study = serving()
    assert expected_effect(BOTH, half, 100.0, study) == pytest.approx((100 + 256 / 5) / 2)
    none = Counts((BOTH,), 1000, {"": 0}, {}, {"": 0})
    assert expected_effect(BOTH, none, 100.0, study) == 100.0
    assert expected_effect(BOTH, half, None, study) == 1.0
    tokens = Promise("", ALLOWED, ("tpot_s",))
    assert expected_effect(tokens, half, None, study) == 256 / 5


def test_answers_are_slow_together_the_more_are_served_at_once() -> None:
    """Seven seconds of so many a second, and not more than there are seats."""
    assert effect_of_tokens(serving(20.0)) == pytest.approx(20 * 7 / 5)
    assert effect_of_tokens(serving(1.0)) == OF_TOKENS
    users = {"process": "closed_loop", "users": 200, "think_s": 1}
    assert effect_of_tokens(_with_users(users)) == OF_TOKENS


def test_nothing_is_expected_where_no_load_is_known() -> None:
    users = _with_users({"process": "closed_loop", "users": 200, "think_s": 1})
    assert effect_at(users, BOTH, 0.5) == 0.0
    assert effect_at(users, Promise("", ALLOWED, ("tpot_s",)), 0.0) == OF_TOKENS
    assert effect_at(serving(20.0), BOTH, 0.0) == pytest.approx(20 * 7 / 5)


def _with_users(arrivals: dict[str, Any]) -> Study:
    study = serving().resolved()
    study["workload"]["arrivals"] = arrivals
    return settled(Study.model_validate(study))


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
