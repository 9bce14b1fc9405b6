"""Goldens of attention_intensity."""

import pytest
from table_rows import check, page_of, row

GOLDENS = {"attention_intensity"}
TABLE = "attention_intensity"


def test_standard_prefill() -> None:
    """Systems-for-ML assignment, solution A: N^2 (4d + 3) over 8 N (N + d) is 57.2."""
    found = check(TABLE, "prefill, standard", 57.2, 0.1)
    assert found.text == 1024**2 * 515 / (8 * 1024 * 1152)
    assert found.exact == pytest.approx(found.text, rel=1e-12)


def test_limit_of_standard_prefill() -> None:
    """Systems-for-ML assignment, solution A: 64, which is d / 2; with the softmax 64.4."""
    found = row(TABLE, "prefill, standard, N without bound")
    assert (found.printed, found.text) == (64, 515 / 8)
    assert found.exact == pytest.approx(found.text, rel=1e-6)


def test_rival_prefill() -> None:
    """Systems-for-ML assignment, solution B: (4 N^2 d + 5 N^2) / (2 (5 N d + 3 N^2)) is 71.3."""
    check(TABLE, "prefill, standard, rival count", 71.3, 0.1)


def test_standard_decode() -> None:
    """Systems-for-ML assignment, solution A: N (4d + 3) over 4 (N d + d + 2 N) is 0.99."""
    found = check(TABLE, "decode, standard", 0.99, 0.01)
    assert found.text == 1024 * 515 / (4 * (1024 * 128 + 128 + 2048))
    assert found.exact == pytest.approx(found.text, rel=1e-12)


def test_rival_decode() -> None:
    """Systems-for-ML assignment, solution B: 0.998."""
    check(TABLE, "decode, standard, rival count", 0.998, 0.001)


def test_limit_over_the_batch() -> None:
    """Systems-for-ML assignment, solution A: about 60 when a batch shares one K and V."""
    found = row(TABLE, "decode of a batch without bound, K and V shared")
    assert found.printed == 60
    assert found.text == pytest.approx(1024 * 515 / (8 * 1024 + 4 * 128), rel=1e-6)
    assert found.text == pytest.approx(60, abs=1)
    assert found.exact == pytest.approx(0.99, abs=0.005)


def test_distinct_requests_gain_nothing_from_the_batch() -> None:
    """Systems-for-ML assignment, solutions A and B, against the counts of distinct requests."""
    curve = page_of(TABLE).curves["intensity_over_batch"]
    assert curve["shared"].is_monotonic_increasing
    for column in ("distinct", "distinct_grouped"):
        assert curve[column].to_numpy() == pytest.approx(curve[column].iloc[0], rel=1e-12)
    assert curve["shared"].iloc[0] == pytest.approx(curve["distinct"].iloc[0], rel=1e-12)
