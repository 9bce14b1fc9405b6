"""Accepted drafts are drawn as a study says, for every text once."""

import numpy as np
import pytest

from workloads.acceptance import BLOCK, DrawnAcceptance, most_length_std, rates_of_length

LENGTHS = np.full(3 * BLOCK, 200)


def drawn(rates: list[float], seed: int = 1, std: float = 0.0) -> list[np.ndarray]:
    acceptance = DrawnAcceptance(seed, LENGTHS, rates, std)
    return [np.frombuffer(acceptance.of(row), np.uint8) for row in range(len(LENGTHS))]


def test_probabilities_are_those_that_were_given() -> None:
    every = np.concatenate(drawn([0.8, 0.5, 0.1]))
    for drafts, rate in enumerate([0.8, 0.5, 0.1], start=1):
        assert (every >= drafts).mean() == pytest.approx(rate, abs=0.005)


def test_fewer_drafts_are_the_first_of_more() -> None:
    for few, more in zip(drawn([0.8, 0.5]), drawn([0.8, 0.5, 0.1]), strict=True):
        assert (few == np.minimum(more, 2)).all()


def test_a_request_has_its_own_whatever_was_asked_before() -> None:
    one, other = (DrawnAcceptance(7, LENGTHS, [0.5]) for _ in range(2))
    assert [one.of(row) for row in (600, 3, 300)] == [other.of(row) for row in (600, 3, 300)]
    assert one.of(3) != one.of(4)
    assert one.of(3) != DrawnAcceptance(8, LENGTHS, [0.5]).of(3)


def test_requests_differ_as_much_as_they_should() -> None:
    means = np.array([each.mean() for each in drawn([0.8, 0.5, 0.1], std=0.3)])
    noise = np.concatenate(drawn([0.8, 0.5, 0.1])).std() / np.sqrt(200)
    assert means.mean() == pytest.approx(1.4, abs=0.03)
    assert np.sqrt(means.var() - noise**2) == pytest.approx(0.3, abs=0.03)
    assert most_length_std([1.0, 1.0]) == 0.0


@pytest.mark.parametrize(
    ("length", "rates"),
    [(1.0, [0.0, 0.0, 0.0]), (2.25, [1.0, 0.25, 0.0]), (4.0, [1.0, 1.0, 1.0])],
)
def test_lengths_have_the_smallest_spread(length: float, rates: list[float]) -> None:
    assert rates_of_length(length, 3) == rates
