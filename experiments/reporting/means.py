"""Intervals of a mean over independent runs, and over runs of several drawn calibrations.

Sums are exactly rounded (``math.fsum``), so that results do not depend on the order of the runs.
"""

import math
from collections.abc import Iterable, Sequence

from experiments.reporting.intervals import NONE, NORMAL_QUANTILE, EndsOf, real_ends
from experiments.reporting.student import t_quantile

CONFIDENCE = 0.95
"""Probability that an interval holds what infinitely many seeds would show."""


def mean_interval(
    values: Iterable[float], confidence: float = CONFIDENCE, ends: EndsOf = real_ends
) -> tuple[float, float, float]:
    """Mean of independent ``values``, and the ends of its interval, in their unit.

    ``ends`` makes them from the mean, its standard error and a quantile of Student's t: see
    ``intervals``. They are NaN when they would claim what is not known: of one value,
    of values that are not finite, and, unless trials were counted, of equal values (to 9 digits),
    in which the seeds left no trace. One NaN makes the mean NaN.

    Raises:
        ValueError: there is no value.
    """
    sample = [float(value) for value in values]
    count = len(sample)
    if not count:
        raise ValueError("values is empty, expected at least one")
    mean = math.fsum(sample) / count
    if count < 2 or not math.isfinite(mean):
        return mean, *NONE
    alike = math.isclose(min(sample), max(sample))
    error = 0.0 if alike else math.sqrt(_variance(sample, mean) / count)
    return mean, *_ends(mean, error, count - 1, confidence, ends)


def crossed_interval(
    values: Sequence[Sequence[float]],
    confidence: float = CONFIDENCE,
    ends: EndsOf = real_ends,
) -> tuple[float, float, float]:
    """Mean of ``values[draw][seed]`` and the ends of an interval for the true value.

    Every draw of the prices is run with the same seeds. More seeds average the traffic's
    randomness out; more draws do not average the prices' error out, since the true prices are
    one draw more, which nobody has seen. So the variance of (true value - mean) is that of a
    prediction over draws and that of an estimate over seeds:

        (1 + 1 / draws) * variance of the draws' means + variance of the seeds' means / seeds

    with Satterthwaite's degrees of freedom (Biometrics Bulletin 2(6), 1946) for Student's t. The
    draws' means share their seeds, so what a seed does to all draws is counted once. What a draw
    and a seed do only together is counted in both terms: the interval is a little too wide, not
    too narrow. With one seed the interval is that of the prices only; with one draw there is none,
    as in the other cases of ``mean_interval``.

    Raises:
        ValueError: there is no value, or draws have different numbers of seeds.
    """
    table = [[float(value) for value in row] for row in values]
    draws, seeds = len(table), len(table[0]) if table else 0
    if not seeds or any(len(row) != seeds for row in table):
        raise ValueError(
            f"values has rows of {[len(row) for row in table]}, expected at least one draw, each "
            "with the same seeds"
        )
    every = [value for row in table for value in row]
    mean = math.fsum(every) / len(every)
    if draws < 2 or not math.isfinite(mean):
        return mean, *NONE
    alike = math.isclose(min(every), max(every))
    of_draws = [math.fsum(row) / seeds for row in table]
    of_seeds = [math.fsum(column) / draws for column in zip(*table, strict=True)]
    prices = 0.0 if alike else _variance(of_draws, mean) * (1 + 1 / draws)
    traffic = _variance(of_seeds, mean) / seeds if seeds > 1 and not alike else 0.0
    total = prices + traffic
    freedom = 1.0
    if total:
        freedom = total**2 / (prices**2 / (draws - 1) + traffic**2 / max(1, seeds - 1))
    return mean, *_ends(mean, math.sqrt(total), freedom, confidence, ends)


def _ends(
    mean: float, error: float, freedom: float, confidence: float, ends: EndsOf
) -> tuple[float, float]:
    """Ends from an error with so many degrees of freedom; an error of 0 was not estimated."""
    quantile = t_quantile((1 + confidence) / 2, freedom) if error else NORMAL_QUANTILE
    return ends(mean, error, quantile)


def _variance(sample: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)
