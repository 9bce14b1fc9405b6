"""Routers that look at nothing: in turn, or at random."""

from collections.abc import Iterable, Iterator
from itertools import cycle

import numpy as np

from sim.routers.draws import draws
from sim.routers.router import Arrival, Looks, Router, View


class Blind(Router):
    """Whoever is next in an endless list of numbers, whatever it does."""

    looks_at = Looks.NOTHING
    _numbers: Iterator[int]

    def choose(self, arrival: Arrival) -> int:
        """The next number."""
        return next(self._numbers)

    def deal(self, arrivals: Iterable[Arrival]) -> Iterator[int]:
        """The next numbers, without a look at who comes."""
        return self._numbers


class RoundRobin(Blind):
    """All replicas in turn."""

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._numbers = cycle(view.numbers)


class Random(Blind):
    """Any of them, all alike."""

    draws = True

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._numbers = draws(rng, len(view.numbers))
