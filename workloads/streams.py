"""Random streams, one per purpose, so that changing one draw never shifts another.

Two points of a sweep with the same seed see the same arrivals and the same lengths (common random
numbers), however they differ otherwise.
"""

import numpy as np

PURPOSES = (
    "arrivals",
    "lengths",
    "priorities",
    "prefixes",
    "think",
    "router",
    "prices",
    "bootstrap",
    "resample",
    "sessions",
    "prefill router",
    "drafts",
    "tools",
    "agents",
    "reasoning",
    "clients",
)


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose, e.g. ``stream(7, "arrivals")``.

    Raises:
        ValueError: ``purpose`` is not one of ``PURPOSES``.
    """
    return _generator(seed, (_place(purpose),))


def numbered_stream(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Return one of the many generators of a purpose, which know nothing of each other.

    Raises:
        ValueError: ``purpose`` is not one of ``PURPOSES``.
    """
    return _generator(seed, (_place(purpose), number))


def _place(purpose: str) -> int:
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is unknown, expected one of {', '.join(PURPOSES)}")
    return PURPOSES.index(purpose)


def _generator(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.Generator(np.random.PCG64(sequence))
