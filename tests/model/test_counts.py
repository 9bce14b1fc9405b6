"""Messages count things with their noun."""

import pytest

from model.counts import count_of
from workloads.counts import count_of as count_in_workloads


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1200, "1,200 runs")]
)
def test_one_of_them_is_one(number: int, text: str) -> None:
    assert count_of(number, "run") == count_in_workloads(number, "run") == text


def test_words_whose_plural_is_another() -> None:
    assert count_of(1, "reply", "replies") == "1 reply"
    assert count_of(3, "reply", "replies") == "3 replies"
