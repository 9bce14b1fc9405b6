"""How evenly experts are chosen: which are read, and who works longest."""

import numpy as np
import pytest

from model.mlps.experts import Experts
from model.mlps.load import EVEN, ExpertLoad

SKEWED = ExpertLoad(1.2)


def test_even_choices_touch_what_the_closed_form_says() -> None:
    assert EVEN.touched(8, 2, 1) == pytest.approx(2)
    assert EVEN.touched(8, 2, 3) == pytest.approx(8 * (1 - 0.75**3))
    np.testing.assert_allclose(EVEN.chances(4, 2), 0.5)
    assert EVEN.busiest(256, 8, 8) == pytest.approx(1)


def test_a_law_without_an_exponent_is_even() -> None:
    almost = ExpertLoad(1e-9)
    for tokens in (1, 7, 500):
        assert almost.touched(64, 6, tokens) == pytest.approx(EVEN.touched(64, 6, tokens))


def test_chances_add_up_to_the_choices_of_a_token() -> None:
    for experts, chosen in ((8, 2), (128, 4), (256, 8), (4, 4), (6, 5)):
        for exponent in (0.5, 1.01, 1.2, 3.0):
            chances = ExpertLoad(exponent).chances(experts, chosen)
            assert chances.sum() == pytest.approx(chosen)
            assert (np.diff(chances) <= 1e-12).all()
            assert 0 < chances.min() <= chances.max() <= 1


def test_popular_experts_by_hand() -> None:
    """Shares 1, 1/2, 1/3 with one choice: 6/11, 3/11, 2/11; with two the first is always chosen."""
    law = ExpertLoad(1.0)
    np.testing.assert_allclose(law.chances(3, 1), np.array([6, 3, 2]) / 11)
    np.testing.assert_allclose(law.chances(3, 2), [1, 3 / 5, 2 / 5])
    assert law.touched(3, 1, 2) == pytest.approx(sum(1 - (1 - p / 11) ** 2 for p in (6, 3, 2)))


def test_skew_touches_fewer_experts_and_keeps_one_rank_longer() -> None:
    tokens = np.array([1.0, 8.0, 64.0, 4096.0])
    skewed, even = SKEWED.touched(128, 8, tokens), EVEN.touched(128, 8, tokens)
    assert skewed[0] == pytest.approx(8)
    assert (skewed[1:3] < even[1:3]).all()
    assert skewed[-1] == pytest.approx(128, rel=0.01)
    assert SKEWED.busiest(128, 8, 1) == 1
    assert 1 < SKEWED.busiest(128, 8, 4) < SKEWED.busiest(128, 8, 8) < 8


def test_what_a_step_reads_follows_the_law() -> None:
    experts = Experts(hidden_size=64, num_experts=128, per_token=8, width=32, load=SKEWED)
    assert experts.expected(16.0) == SKEWED.touched(128, 8, 16.0)
    assert experts.expected(16.0) < Experts(
        hidden_size=64, num_experts=128, per_token=8, width=32
    ).expected(16.0)


def test_idle_choices_compute_nothing() -> None:
    """Of 12 choices among 512 experts and 256 that compute nothing, 8 do on average."""
    experts = Experts(hidden_size=64, num_experts=512, per_token=12, width=32, idle_choices=256)
    assert experts.expected(1.0) == pytest.approx(8)


@pytest.mark.parametrize("exponent", [-1, 11, float("nan")])
def test_impossible_laws_are_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match=f"exponent = {exponent}: expected 0 to 10"):
        ExpertLoad(exponent)
