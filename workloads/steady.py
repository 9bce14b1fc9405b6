"""What arrivals are like in the long run: how many a second, and how unevenly they come."""

import math
from typing import NamedTuple

import numpy as np

from workloads import traces
from workloads.arrivals import (
    Arrivals,
    Deterministic,
    Gamma,
    Markov,
    OnOff,
    Poisson,
)
from workloads.lengths import (
    MOST_TOKENS,
    Constant,
    Empirical,
    Exponential,
    Lengths,
    LogNormal,
    Uniform,
)


class Steady(NamedTuple):
    """Arrivals whose law does not change with time."""

    rate_per_s: float
    """Requests per second, in the mean."""
    dispersion: float
    """Variance over mean of the number that arrive in a long stretch of time: 1 for Poisson."""


def steady(arrivals: Arrivals | None) -> Steady | None:
    """Return rate and dispersion of arrivals that have a steady state, else None.

    None is a trace, a day (``diurnal``, ``piecewise``), a burst and a closed loop. For independent
    gaps the dispersion is their squared coefficient of variation (Cox and Lewis, "The Statistical
    Analysis of Series of Events", 1966, section 4.4); for a modulated process see ``_modulated``.
    """
    match arrivals:
        case Poisson():
            return Steady(arrivals.rate_per_s, 1.0)
        case Gamma():
            return Steady(arrivals.rate_per_s, arrivals.cv**2)
        case Deterministic():
            return Steady(arrivals.rate_per_s, 0.0)
        case OnOff():
            rates = (arrivals.rate_on_per_s, arrivals.rate_off_per_s)
            return _modulated(rates, (arrivals.mean_on_s, arrivals.mean_off_s))
        case Markov():
            return _modulated(arrivals.rates_per_s, arrivals.mean_dwell_s)
    return None


def _modulated(rates_per_s: tuple[float, ...], dwell_s: tuple[float, ...]) -> Steady:
    """Rate and dispersion of a Markov-modulated Poisson process.

    With stationary shares p, rates l and generator Q the dispersion is
    1 + 2 (p L (e p - Q)^-1 l - m^2) / m, m = p l (Fischer and Meier-Hellstern, "The
    Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation 18, 1993, section 2).
    """
    rates, dwell = np.array(rates_per_s), np.array(dwell_s)
    states = len(rates)
    shares = dwell / dwell.sum()
    leaving = np.full((states, states), 1 / (states - 1))
    np.fill_diagonal(leaving, -1.0)
    generator = leaving / dwell[:, None]
    mean = float(shares @ rates)
    solved = np.linalg.solve(np.outer(np.ones(states), shares) - generator, rates)
    return Steady(mean, float(1 + 2 * (shares * rates @ solved - mean**2) / mean))


def mean_output_tokens(lengths: Lengths) -> float:
    """Return the mean that infinitely many answers of these lengths would have, tokens.

    Of clipped laws, not of the law before; rounding to whole tokens is taken not to move it.
    """
    if lengths.trace is not None:
        return float(traces.read_lengths(lengths.trace)[1].mean(dtype=np.float64))
    law = lengths.output
    match law:
        case Constant():
            return float(law.value)
        case Uniform():
            return (law.min + law.max) / 2
        case Exponential():
            stay = 1 - 1 / law.mean
            beyond = 0.0 if law.max is None else stay**law.max
            return law.min + (stay**law.min - beyond) * law.mean
        case LogNormal():
            return _clipped_lognormal_mean(law)
        case Empirical():
            return float(law.values().mean(dtype=np.float64))
    raise AssertionError("the validator of Lengths saw to it")


def _clipped_lognormal_mean(law: LogNormal) -> float:
    """Mean of min(max(X, a), b): a P(X < a) + E[X; a < X < b] + b P(X > b)."""
    sigma = math.sqrt(math.log1p(law.cv**2))
    middle = math.log(law.mean) - sigma**2 / 2

    def below(end: float, shift: float = 0.0) -> float:
        """Return the share below ``end``, weighted with exp(shift / sigma**2 * ln x)."""
        return math.erfc((middle + shift - math.log(end)) / (sigma * math.sqrt(2))) / 2

    low, high = float(law.min), float(law.max or MOST_TOKENS)
    part = law.mean * (below(high, sigma**2) - below(low, sigma**2))
    return low * below(low) + part + high * (1 - below(high))
