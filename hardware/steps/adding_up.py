"""Many steps on straight lines, added up at once."""

from array import array

import numpy as np

from hardware.compiled import COMPILED
from hardware.steps.prices import Line

VECTOR_STEPS = 384 if COMPILED else 32
"""From this many steps on numpy is faster than a loop, which is compiled or not."""


def add_up(
    start_s: float,
    base_s: float,
    lines: list[Line],
    steps: int,
    until_s: float,
    ends_s: "array[float]",
) -> float:
    """Append the ends of steps up to the first at ``until_s`` or later; return the last of them."""
    number = np.arange(steps, dtype=np.int64)
    attention = np.zeros(steps)
    for flat_s, slope_s, at, more in lines:
        attention += flat_s + slope_s * (number * more + at)
    seconds = base_s + attention
    seconds[0] += start_s
    ends = np.add.accumulate(seconds, out=seconds)
    ends_s.frombytes(ends[: ends.searchsorted(until_s) + 1].tobytes())
    return ends_s[-1]
