"""Many steps on straight lines, added up at once."""

from array import array

import numpy as np
import numpy.typing as npt

from hardware.compiled import COMPILED
from hardware.steps.prices import Line

VECTOR_STEPS = 384 if COMPILED else 32
"""From this many steps on numpy is faster than a loop, which is compiled or not."""
_NUMBERS = np.arange(4096.0)
"""Of the first steps; longer runs are rare."""


def add_up(
    start_s: float,
    base_s: float,
    lines: list[Line],
    steps: int,
    until_s: float,
    ends_s: "array[float]",
) -> float:
    """Append the ends of steps up to the first at ``until_s`` or later; return the last of them."""
    number = _NUMBERS[:steps] if steps <= len(_NUMBERS) else np.arange(float(steps))
    seconds = _on_line(number, lines[0])
    for line in lines[1:]:
        seconds += _on_line(number, line)
    seconds += base_s
    seconds[0] += start_s
    ends = np.add.accumulate(seconds, out=seconds)
    if ends[-1] > until_s:
        ends = ends[: ends.searchsorted(until_s) + 1]
    ends_s.frombytes(ends.tobytes())
    return ends_s[-1]


def _on_line(number: npt.NDArray[np.float64], line: Line) -> npt.NDArray[np.float64]:
    """Seconds of one class of cache in the steps of these numbers, from 0: shape (steps,).

    Positions are whole numbers, which floats hold exactly.
    """
    flat_s, slope_s, at, more = line
    seconds = number * float(more)
    seconds += float(at)
    seconds *= slope_s
    seconds += flat_s
    return seconds
