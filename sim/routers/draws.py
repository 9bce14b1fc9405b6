"""Random numbers of routers."""

from collections.abc import Iterator

import numpy as np


def draws(rng: np.random.Generator, below: int) -> Iterator[int]:
    """Endless integers in ``[0, below)``, drawn in blocks because single draws are slow."""
    own = rng.spawn(1)[0]
    while True:
        yield from own.integers(below, size=1024).tolist()
