"""Routers: which replica takes an arriving request. Ties go to the lowest number.

A router sees the replicas as they are at the arrival: a step that ends at that very instant has not
ended yet. It does not know how long an answer will become.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from sim.lowest import Lowest

BLIND = ("round_robin", "random")
"""Routers that look at nothing, so that they may choose for all arrivals beforehand."""


class Router:
    """Told of every request that is sent to a replica, and that leaves it."""

    def choose(self) -> int:
        """Answer the number of the replica that takes a request which arrives now."""
        raise NotImplementedError

    def sent(self, number: int) -> None:
        """A request was sent to a replica."""

    def left(self, number: int, requests: int) -> None:
        """So many requests of a replica have finished, or were given up."""


class Blind(Router):
    """Looks at nothing: in turn, at random, or always the only one."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers

    def choose(self) -> int:
        """Whoever is next, whatever it does."""
        return next(self._numbers)


class LeastRequests(Router):
    """The fewest requests that are not finished."""

    def __init__(self, replicas: int) -> None:
        self._requests = Lowest(replicas)

    def choose(self) -> int:
        """The lowest count."""
        return self._requests.first()

    def sent(self, number: int) -> None:
        """One more."""
        self._requests.set(number, self._requests.keys[number] + 1)

    def left(self, number: int, requests: int) -> None:
        """Some less."""
        self._requests.set(number, self._requests.keys[number] - requests)


class LeastTokens(Router):
    """The fewest tokens: prompts, and what was generated.

    Tokens of a replica only grow, but for those who leave it. So what was last seen is at least
    exceeded by nobody: the lowest is looked at again until it is as it was.

    Args:
        tokens: of a replica's number, now.
        unsettled: of a replica's number: whether somebody has left whom it still counts.
    """

    def __init__(
        self, replicas: int, tokens: Callable[[int], int], unsettled: Callable[[int], bool]
    ) -> None:
        self._seen = Lowest(replicas)
        self._tokens, self._unsettled = tokens, unsettled
        self._dropping: set[int] = set()

    def choose(self) -> int:
        """The lowest, as they are now."""
        seen = self._seen
        for number in self._dropping:
            seen.set(number, 0)
        self._dropping = {number for number in self._dropping if self._unsettled(number)}
        while True:
            number = seen.first()
            tokens = self._tokens(number)
            if tokens == seen.keys[number]:
                return number
            seen.set(number, tokens)

    def left(self, number: int, requests: int) -> None:
        """It may have any number of tokens from now on."""
        self._seen.set(number, 0)
        self._dropping.add(number)


class PowerOfTwo(Router):
    """Two different replicas at random, the one with fewer requests (Mitzenmacher 2001)."""

    def __init__(self, replicas: int, rng: np.random.Generator) -> None:
        self._requests = [0] * replicas
        self._first, self._second = draws(rng, replicas), draws(rng, replicas - 1)

    def choose(self) -> int:
        """The lower of two counts."""
        first, second = next(self._first), next(self._second)
        second += second >= first
        low, high = min(first, second), max(first, second)
        return low if self._requests[low] <= self._requests[high] else high

    def sent(self, number: int) -> None:
        """One more."""
        self._requests[number] += 1

    def left(self, number: int, requests: int) -> None:
        """Some less."""
        self._requests[number] -= requests


ROUTERS = ("round_robin", "random", "least_requests", "least_tokens", "power_of_two_choices")


def make_router(
    name: str,
    replicas: int,
    tokens: Callable[[int], int],
    unsettled: Callable[[int], bool],
    rng: np.random.Generator,
) -> Router:
    """Return the named router.

    Args:
        name: one of ``ROUTERS``.
        replicas: how many there are.
        tokens: see ``LeastTokens``.
        unsettled: see ``LeastTokens``.
        rng: for the routers that draw.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in ROUTERS:
        raise ValueError(f"router {name!r} is unknown, expected one of {', '.join(ROUTERS)}")
    if replicas == 1 or name == "round_robin":
        return Blind(cycle(range(replicas)))
    if name == "random":
        return Blind(draws(rng, replicas))
    if name == "least_requests":
        return LeastRequests(replicas)
    if name == "least_tokens":
        return LeastTokens(replicas, tokens, unsettled)
    return PowerOfTwo(replicas, rng)


def draws(rng: np.random.Generator, below: int) -> Iterator[int]:
    """Endless integers in ``[0, below)``, drawn in blocks because single draws are slow."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()
