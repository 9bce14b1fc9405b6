"""Where the missed share reaches what is allowed: a line in the logit, and a jackknife over seeds.

Retrospective approximation (Chen and Schmeiser, "Stochastic root finding via retrospective
approximation", IIE Transactions 33(3), 2001; Pasupathy and Kim, "The stochastic root-finding
problem", ACM TOMACS 21(3), 2011): the same random numbers at every value make the missed share a
smooth function of the value, whose root is that of a line through two neighbouring values.

The logarithm of the odds is straight on the right ``Scale``. Waits in a queue have exponential
tails whose rate is in proportion to the room that is left, 1 - load (Kingman, "The single server
queue in heavy traffic", Proc. Cambridge Phil. Soc. 57(4), 1961), so with the logarithm of that room
as abscissa the odds grow evenly: on an A100 from 81 to 92% of capacity by 2.6, 3.3, 3.2 and 3.1 a
unit. On the logarithm of the rate the same curve steepens from 13 to 29, so that a line whose root
is not in the middle of its pair is too steep or too flat, and its interval too narrow. Where no
queue but the time between tokens is what misses, ``highest.OF_TOKENS`` says how far away the pole
is.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from experiments.reporting.student import t_quantile
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TINY = 1e-9
"""Least part of the capacity that a line may lead to."""
CLIPPED = 2.0
"""Most that one run says of the distance: further away the curve is no line."""
NEAR = 0.25
"""A logit so close to the allowed one is near enough for the pair of values around it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The abscissa of the line: the room that is left, or the logarithm of the value."""

    full: float = math.nan
    """Capacity, in the unit of the value: -log(1 - value / full). NaN: log(value)."""

    def place(self, value: float) -> float:
        """Return where a value below the capacity lies."""
        return math.log(value) if math.isnan(self.full) else -math.log1p(-value / self.full)

    def value(self, place: float) -> float:
        """Return what lies there."""
        if math.isnan(self.full):
            return math.exp(place)
        return max(-self.full * math.expm1(-place), TINY * self.full)

    def relative(self, value: float) -> float:
        """Return the change of log(value) for one unit of the scale."""
        return 1.0 if math.isnan(self.full) else self.full / value - 1


@dataclass(frozen=True, slots=True)
class Pair:
    """Missed requests of the same seeds at two neighbouring values."""

    low: float
    high: float
    """The two values; more is missed at the second."""
    missed_low: Ints
    missed_high: Ints
    """By seed."""
    measured_low: Ints
    measured_high: Ints
    """Requests, by seed."""
    scale: Scale = Scale()
    effects: tuple[float, float] = (0.0, 0.0)
    """Design effects of the misses at both values, as the load lets expect; 0: not known."""


@dataclass(frozen=True, slots=True)
class Root:
    """A value with its interval."""

    value: float
    low: float
    high: float
    """Ends of the interval; NaN without one."""
    seeds: int
    shifts: Floats
    """Jackknife pseudo-values of the logarithm of the value, by seed: what pairs two roots of the
    same seeds."""

    @property
    def half_width(self) -> float:
        """Of the interval on a log scale, so relative to the value; NaN without one."""
        return 0.5 * math.log(self.high / self.low)

    @property
    def error(self) -> float:
        """Standard error of the logarithm; NaN with a single seed."""
        if self.seeds < 2:
            return math.nan
        return float(self.shifts.std(ddof=1)) / math.sqrt(self.seeds)


def logit(missed: float, measured: float) -> float:
    """Log odds of a share; half a request either way keeps it finite."""
    return math.log((missed + 0.5) / (measured - missed + 0.5))


def distance(missed: float, measured: float, allowed: float) -> float:
    """How far the missed share lies above what is allowed, in the logit, within ``CLIPPED``."""
    found = logit(missed, measured) - math.log(allowed / (1 - allowed))
    return min(max(found, -CLIPPED), CLIPPED)


def root(pair: Pair, allowed: float, confidence: float = 0.95) -> Root | None:
    """Return the value at which ``allowed`` is missed; None where the pair does not tell.

    The interval is Student's t over the jackknife's pseudo-values on the scale of the pair, or what
    the design effects let expect, whichever is wider.
    """
    scale = pair.scale
    seeds = len(pair.missed_low)
    everything = np.ones(seeds, dtype=np.bool_)
    whole = _place(pair, allowed, everything)
    if whole is None:
        return None
    pseudo = []
    for seed in range(seeds):
        kept = everything.copy()
        kept[seed] = False
        left = _place(pair, allowed, kept) if seeds > 1 else whole
        pseudo.append(seeds * whole - (seeds - 1) * (whole if left is None else left))
    places = np.array(pseudo)
    middle = float(places.mean())
    value = scale.value(middle)
    shifts = math.log(value) + (places - middle) * scale.relative(value)
    if seeds < 2:
        return Root(value, math.nan, math.nan, seeds, shifts)
    error = float(places.std(ddof=1)) / math.sqrt(seeds)
    half = t_quantile((1 + confidence) / 2, seeds - 1) * error
    half = max(half, NormalDist().inv_cdf((1 + confidence) / 2) * _expected_error(pair, allowed))
    return Root(value, scale.value(middle - half), scale.value(middle + half), seeds, shifts)


def seeds_needed(found: Root, target: float, most: int) -> int:
    """Return how many seeds would reach a half-width, with a fifth more for luck.

    It is asked once: a rule that looks again and again stops at a lucky interval.
    """
    if not found.half_width > target:
        return found.seeds
    wanted = found.seeds * (found.half_width / target) ** 2 * 1.2
    return max(found.seeds, min(most, math.ceil(wanted)))


def _expected_error(pair: Pair, allowed: float) -> float:
    """Return the standard error of the place of a root that design effects let expect.

    Runs of the same seeds are lucky at both values or at neither, so errors of both add up.
    """
    rows = ((pair.missed_low, pair.measured_low), (pair.missed_high, pair.measured_high))
    counts = [(float(missed.sum()) + 0.5, float(all_.sum()) + 1) for missed, all_ in rows]
    low, high = (math.log(missed / (measured - missed)) for missed, measured in counts)
    if not high > low:
        return 0.0
    part = min(max((math.log(allowed / (1 - allowed)) - low) / (high - low), 0.0), 1.0)
    errors = [
        math.sqrt(effect * measured / (missed * (measured - missed)))
        for effect, (missed, measured) in zip(pair.effects, counts, strict=True)
    ]
    span = pair.scale.place(pair.high) - pair.scale.place(pair.low)
    return ((1 - part) * errors[0] + part * errors[1]) * span / (high - low)


def _place(pair: Pair, allowed: float, kept: npt.NDArray[np.bool_]) -> float | None:
    low = logit(float(pair.missed_low[kept].sum()), float(pair.measured_low[kept].sum()))
    high = logit(float(pair.missed_high[kept].sum()), float(pair.measured_high[kept].sum()))
    if not high > low:
        return None
    part = (math.log(allowed / (1 - allowed)) - low) / (high - low)
    first, last = pair.scale.place(pair.low), pair.scale.place(pair.high)
    return first + part * (last - first)


def next_guess(points: Sequence[tuple[float, float]]) -> float:
    """Return where to look next, between the two values that bracket the root.

    A secant on the logarithm of the value, kept off the ends of the bracket: a step that would
    leave hardly anything of it on one side halves it instead.

    Args:
        points: (value, distance) of what was tried; at least one on either side of 0.
    """
    below = max(point for point in points if point[1] <= 0)
    above = min(point for point in points if point[1] > 0)
    span = math.log(above[0] / below[0])
    part = -below[1] / (above[1] - below[1])
    part = min(max(part, 0.1), 0.9)
    return below[0] * math.exp(part * span)
