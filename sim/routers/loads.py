"""Routers that look at how many requests each replica has."""

import numpy as np

from sim.routers.draws import draws
from sim.routers.router import Arrival, Looks, Router, View
from sim.seen.lowest import Lowest


class LeastRequests(Router):
    """The fewest requests that are not finished, found in time that grows with log(replicas)."""

    looks_at = Looks.LOADS

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._requests = Lowest(len(view.numbers))

    def choose(self, arrival: Arrival) -> int:
        """The lowest count."""
        return self._requests.first()

    def sent(self, number: int) -> None:
        """One more."""
        self._requests.set(number, self._requests.keys[number] + 1)

    def left(self, number: int, requests: int) -> None:
        """Some less."""
        self._requests.set(number, self._requests.keys[number] - requests)


class PowerOfTwoChoices(Router):
    """Two different replicas at random, the one with fewer requests (Mitzenmacher 2001)."""

    looks_at = Looks.LOADS
    draws = True

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        replicas = len(view.numbers)
        self._first, self._second = draws(rng, replicas), draws(rng, replicas - 1)

    def choose(self, arrival: Arrival) -> int:
        """The lower of two counts."""
        first, second = next(self._first), next(self._second)
        second += second >= first
        low, high = min(first, second), max(first, second)
        return low if self.view.requests(low) <= self.view.requests(high) else high
