"""Intervals that stay where their figure can be: numbers, positive figures, and shares.

A figure is a mean over runs with a standard error. Its interval is symmetric where the figure may
be any number (``real_ends``), symmetric on a log scale where it is positive (``positive_ends``),
and Wilson's where it is a share (``share_ends``). All three agree where the error is small beside
the room that the figure has.

Coverage of a nominal 95%, in percent, of the mean over so many runs with a given law (40,000
samples each, +-0.2; ``log`` is ``positive_ends``, ``t`` is ``real_ends``)::

    law of one run                 2 runs        3 runs        5 runs        10 runs
                                   t   log       t   log       t   log       t   log
    normal, cv 0.05                95.0 95.0     95.1 95.1     95.0 94.9     95.1 95.0
    normal, cv 0.3                 94.9 95.0     95.0 95.1     95.1 95.2     94.9 95.0
    gamma, cv 0.5                  94.5 95.1     93.5 94.9     93.4 94.7     93.7 94.6
    exponential                    91.1 95.0     88.2 94.6     88.4 93.3     90.1 93.1
    lognormal, sigma 1             89.5 93.7     84.3 91.9     82.3 89.1     83.8 88.2
"""

import math
from collections.abc import Callable, Sequence

from experiments.reporting.student import t_quantile

Ends = tuple[float, float]
EndsOf = Callable[[float, float, float], Ends]
"""Lower and upper end from a mean, its standard error and a quantile."""
NONE: Ends = (math.nan, math.nan)
"""There is no interval."""

NORMAL_QUANTILE = 1.959963984540054
"""0.975 quantile of the normal distribution."""


def real_ends(mean: float, error: float, quantile: float) -> Ends:
    """Return ``mean -+ quantile error``: for a figure that can be any number.

    Args:
        mean: the estimate.
        error: its standard error, in the same unit.
        quantile: of Student's t, for the degrees of freedom of ``error``.

    No interval without an error.
    """
    if not error > 0:
        return NONE
    return mean - quantile * error, mean + quantile * error


def positive_ends(mean: float, error: float, quantile: float) -> Ends:
    """Return ``mean exp(-+ quantile error / mean)``: for rates, latencies, counts and prices.

    The delta method on the logarithm (Oehlert, "A note on the delta method", The American
    Statistician 46(1), 1992): the error of ln(mean) is error / mean. The rival, ``real_ends``, has
    the same width up to the second order of error / mean, but falls below 0 when quantile error
    exceeds the mean, and misses too often on the upper side when runs are skewed to the right, as
    latencies near saturation are. A spread of 20% over three runs gives 0.61 to 1.64 times the mean
    instead of 0.50 to 1.50. The upper end is infinite where it is too large for a float.

    No interval without an error, or where the mean is not above 0.
    """
    if not (mean > 0 and error > 0):
        return NONE
    span = quantile * error / mean
    upper = mean * math.exp(span) if span < 700 else math.inf
    return mean * math.exp(-span), upper


def sectioned_ends(value: float, sections: Sequence[float], confidence: float) -> Ends:
    """Ends for a percentile of all requests together, from those of independent parts of them.

    value exp(-+ t sqrt(sum of ln(section / value)^2 / (sections - 1) / sections)): sectioning
    (Asmussen and Glynn, "Stochastic Simulation", 2007, section III.5a), which takes the spread
    about the pooled value and so counts its bias, on a log scale. Unlike the mean of the parts'
    percentiles, which is that of a short run, the pooled value is right as soon as all parts
    together are long enough: docs/statistics.md has the measured coverage of both.

    Args:
        value: of all together.
        sections: of each part (a seed), in the same unit.
        confidence: probability that the interval is to hold the true value.

    None where a value is not positive and finite, or nothing varies.
    """
    positive = all(0 < each < math.inf for each in (value, *sections))
    count = len(sections)
    if count < 2 or not positive or math.isclose(min(sections), max(sections)):
        return NONE
    squares = math.fsum(math.log(each / value) ** 2 for each in sections)
    error = math.sqrt(squares / (count - 1) / count)
    return positive_ends(value, value * error, t_quantile((1 + confidence) / 2, count - 1))


def share_ends(mean: float, error: float, quantile: float, trials: float = math.inf) -> Ends:
    """Return Wilson's interval for a share, with as many trials as its error is worth.

    Wilson ("Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22, 1927) solves |mean - p| = quantile sqrt(p (1 - p) / n)
    for p, so both ends lie within 0 to 1. Trials of one run depend on each other: requests of one
    busy period are good or bad together. n is therefore the number of independent trials with the
    same error, mean (1 - mean) / error^2, which is trials over the design effect (Kish, "Survey
    Sampling", 1965, section 8.2); it is at most ``trials``.

    Where t works Wilson is as wide; it alone survives the share of which no failure was seen, where
    every other interval is a point or none at all. Of shares whose truth was 0.99995, 0.994 and
    0.955, over three runs of 1,000 requests each, t covered 5, 87 and 82% (and left 0 to 1 in up to
    88%), the logit scale 4, 95 and 89%, this one 99.5, 91 and 88%.

    Args:
        mean: the share, 0 to 1.
        error: its standard error; 0 where runs agree.
        quantile: of Student's t; without an error, ``NORMAL_QUANTILE``, since nothing was fitted.
        trials: how many there were in all, dependent or not; infinite for a share of time or work.

    No interval where neither the error nor the trials limit it, or the mean is no share.
    """
    if not 0 <= mean <= 1:
        return NONE
    worth = mean * (1 - mean) / error**2 if error > 0 else math.inf
    count = min(trials, worth)
    if not 0 < count < math.inf:
        return NONE
    weight = quantile**2 / count
    middle = mean + weight / 2
    half = quantile * math.sqrt(mean * (1 - mean) / count + weight / (4 * count))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return min(max(low, 0.0), mean), max(min(high, 1.0), mean)
