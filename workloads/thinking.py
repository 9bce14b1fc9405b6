"""How long people think before they ask again."""

from typing import Literal

import numpy as np

from workloads.requests import Floats

ThinkLaw = Literal["constant", "exponential"]


def think_times_s(mean_s: float, law: ThinkLaw, count: int, rng: np.random.Generator) -> Floats:
    """Return think times in seconds, (count,); other means and counts use the same luck."""
    if law == "constant":
        return np.full(count, mean_s)
    return rng.standard_exponential(count) * mean_s
