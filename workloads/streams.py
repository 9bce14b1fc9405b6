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
)


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose, e.g. ``stream(7, "arrivals")``.

    Raises:
        ValueError: ``purpose`` is not one of ``PURPOSES``.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is unknown, expected one of {', '.join(PURPOSES)}")
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),))
    return np.random.Generator(np.random.PCG64(sequence))
