"""Routers: which replica takes an arriving request. Ties go to the lowest number.

A router sees the replicas as they are at the arrival: a step that ends at that very instant has not
ended yet. It does not know how long an answer will become.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

Router = Callable[[], int]
"""Called at an arrival, answers the replica's number."""

BLIND = ("round_robin", "random")
"""Routers that look at nothing, so that they may choose for all arrivals beforehand."""


def make_router(
    name: str,
    requests: list[int],
    tokens: Callable[[int], int],
    rng: np.random.Generator,
) -> Router:
    """Return the named router.

    Args:
        name: one of ``ROUTERS``.
        requests: of every replica, how many requests it was sent that are not finished: kept up
            to date by the caller.
        tokens: of a replica's number, tokens of those requests: prompts, and what was generated.
        rng: for the routers that draw.

    Raises:
        ValueError: the name is unknown.
    """
    numbers = range(len(requests))
    if len(numbers) == 1 and name in ROUTERS:
        return lambda: 0
    if name == "round_robin":
        return cycle(numbers).__next__
    if name == "random":
        return _draws(rng, len(numbers)).__next__
    if name == "least_requests":
        return lambda: requests.index(min(requests))
    if name == "least_tokens":
        return lambda: min(numbers, key=tokens)
    if name == "power_of_two_choices":
        return _power_of_two(requests, rng)
    raise ValueError(f"router {name!r} is unknown, expected one of {', '.join(ROUTERS)}")


ROUTERS = ("round_robin", "random", "least_requests", "least_tokens", "power_of_two_choices")


def _power_of_two(requests: list[int], rng: np.random.Generator) -> Router:
    """Two different replicas at random, the one with fewer requests (Mitzenmacher 2001)."""
    first_draws, second_draws = _draws(rng, len(requests)), _draws(rng, len(requests) - 1)

    def choose() -> int:
        first, second = next(first_draws), next(second_draws)
        second += second >= first
        low, high = min(first, second), max(first, second)
        return low if requests[low] <= requests[high] else high

    return choose


def _draws(rng: np.random.Generator, below: int) -> Iterator[int]:
    """Endless integers in ``[0, below)``, drawn in blocks because single draws are slow."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()
