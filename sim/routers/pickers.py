"""How a replica is picked from scores: as llm-d's pickers do."""

from collections.abc import Callable, Iterator
from typing import Final

from sim.routers.draws import any_of
from sim.seen.scores import highest

Picker = Callable[[list[float], Iterator[float]], int]
"""Scores, at least 0, and random numbers in; the place of a score out."""


def max_score(scores: list[float], luck: Iterator[float]) -> int:
    """The highest; any of equal ones (``max-score-picker`` shuffles, then sorts)."""
    return any_of(highest(scores), luck)


def random(scores: list[float], luck: Iterator[float]) -> int:
    """Any, whatever the scores are (``random-picker``)."""
    return int(next(luck) * len(scores))


def weighted_random(scores: list[float], luck: Iterator[float]) -> int:
    """Each with a probability in proportion to its score, any if all are 0
    (``weighted-random-picker``)."""
    total = sum(scores)
    if not total:
        return random(scores, luck)
    left = next(luck) * total
    for number, score in enumerate(scores):
        left -= score
        if left < 0.0:
            return number
    return max(number for number, score in enumerate(scores) if score)


PICKERS: Final[dict[str, Picker]] = {
    "max_score": max_score,
    "random": random,
    "weighted_random": weighted_random,
}
