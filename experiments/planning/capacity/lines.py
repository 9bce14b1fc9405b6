"""Two neighbouring values of a search with what their runs say, and how they lie to the limit."""

import math
from typing import NamedTuple

from experiments.planning.logit_line import Pair, Root, logit
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample


class Line(NamedTuple):
    """Two neighbouring values, what their runs say, and the promise that it is about."""

    pair: Pair
    samples: dict[float, list[Sample]]
    promise: Promise


def far(line: Line) -> tuple[float, float]:
    """How far each of the two values lies above what is allowed, in the logit."""
    pair, allowed = line.pair, line.promise.allowed
    limit = math.log(allowed / (1 - allowed))
    low = logit(float(pair.missed_low.sum()), float(pair.measured_low.sum()))
    return low - limit, logit(
        float(pair.missed_high.sum()), float(pair.measured_high.sum())
    ) - limit


def steepness(line: Line) -> float:
    """By how much the log odds grow between values on either side of the limit; else 0."""
    low, high = far(line)
    return high - low if low < 0 < high else 0.0


def is_around(pair: Pair, found: Root, tolerance: float) -> bool:
    """Whether a root is between the values of its pair, or hardly outside."""
    return pair.low / tolerance <= found.value <= pair.high * tolerance
