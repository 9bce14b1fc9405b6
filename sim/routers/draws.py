"""Random numbers of routers."""

from collections.abc import Iterator

import numpy as np


def draws(rng: np.random.Generator, below: int) -> Iterator[int]:
    """Endless integers in ``[0, below)``, drawn in blocks because single draws are slow."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()


def shares(rng: np.random.Generator) -> Iterator[float]:
    """Endless numbers in ``[0, 1)``."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.random(1024).tolist()


def any_of(places: list[int], luck: Iterator[float]) -> int:
    """Return any of some places, all alike; of a single one without drawing."""
    return places[0] if len(places) == 1 else places[int(next(luck) * len(places))]
