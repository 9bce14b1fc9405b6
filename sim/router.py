"""Routers: which replica takes an arriving request. Ties go to the lowest number.

A router sees the replicas as they are at the arrival: a step that ends at that very instant has not
ended yet. It does not know how long an answer will become.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Protocol

import numpy as np


class Routable(Protocol):
    """What a router may know of a replica."""

    def outstanding_requests(self) -> int:
        """Requests sent there and not yet finished."""

    def outstanding_tokens(self) -> int:
        """Tokens of those requests: prompts, and what was generated so far."""


Router = Callable[[], int]
"""Called at an arrival, answers the replica's number."""


def make_router(name: str, replicas: Sequence[Routable], rng: np.random.Generator) -> Router:
    """Return the named router over ``replicas``.

    Raises:
        ValueError: the name is unknown.
    """
    numbers = range(len(replicas))
    if len(numbers) == 1 and name in ROUTERS:
        return lambda: 0
    if name == "round_robin":
        return cycle(numbers).__next__
    if name == "random":
        return _draws(rng, len(numbers)).__next__
    if name == "least_requests":
        return lambda: min(numbers, key=lambda n: replicas[n].outstanding_requests())
    if name == "least_tokens":
        return lambda: min(numbers, key=lambda n: replicas[n].outstanding_tokens())
    if name == "power_of_two_choices":
        return _power_of_two(replicas, rng)
    raise ValueError(f"router {name!r} is unknown, expected one of {', '.join(ROUTERS)}")


ROUTERS = ("round_robin", "random", "least_requests", "least_tokens", "power_of_two_choices")


def _power_of_two(replicas: Sequence[Routable], rng: np.random.Generator) -> Router:
    """Two different replicas at random, the one with fewer requests (Mitzenmacher 2001)."""
    first_draws, second_draws = _draws(rng, len(replicas)), _draws(rng, len(replicas) - 1)

    def choose() -> int:
        first, second = next(first_draws), next(second_draws)
        second += second >= first
        low, high = min(first, second), max(first, second)
        few, many = replicas[low].outstanding_requests(), replicas[high].outstanding_requests()
        return low if few <= many else high

    return choose


def _draws(rng: np.random.Generator, below: int) -> Iterator[int]:
    """Endless integers in ``[0, below)``, drawn in blocks because single draws are slow."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()
