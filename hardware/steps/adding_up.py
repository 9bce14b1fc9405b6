"""Many steps on straight lines, added up at once."""

from array import array

import numpy as np

from hardware.compiled import COMPILED

VECTOR_STEPS = 384 if COMPILED else 32
"""From this many steps on numpy is faster than a loop, which is compiled or not."""


def add_up(
    start_s: float,
    base_s: float,
    flats: list[float],
    slopes: list[float],
    reads: list[int],
    growth: list[int],
    steps: int,
    until_s: float,
    ends_s: "array[float]",
) -> float:
    """Append the ends of steps up to the first at ``until_s`` or later; return the last of them."""
    number = np.arange(steps, dtype=np.int64)
    attention = flats[0] + slopes[0] * (number * growth[0] + reads[0])
    for place in range(1, len(flats)):
        attention += flats[place] + slopes[place] * (number * growth[place] + reads[place])
    seconds = np.asarray(base_s + attention, dtype=np.float64)
    seconds[0] += start_s
    ends = np.add.accumulate(seconds, out=seconds)
    ends_s.frombytes(ends[: ends.searchsorted(until_s) + 1].tobytes())
    return ends_s[-1]
