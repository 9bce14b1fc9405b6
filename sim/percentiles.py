"""Percentiles: of plain samples, and of samples that each stand for many equal ones."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PERCENTS = (50, 90, 95, 99)
"""The percentiles that every latency is summarised by."""

SUPPORT = 10
"""A percentile is supported when at least this many samples are expected beyond it."""


def percentiles(values: Floats, percents: Sequence[int] = PERCENTS) -> Floats:
    """Percentiles of ``values`` (any unit, +inf allowed) by linear interpolation.

    Definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American
    Statistician 50 (1996), numpy's ``linear``. Where the interpolation would touch +inf the answer
    is +inf. An empty sample has NaN percentiles.
    """
    if not len(values):
        return np.full(len(percents), np.nan)
    with np.errstate(invalid="ignore"):
        result = np.percentile(values, percents)
    undefined = np.isnan(result)
    if undefined.any():  # inf - inf within the interpolation
        result = np.where(undefined, np.percentile(values, percents, method="higher"), result)
    return np.asarray(result, dtype=np.float64)


def weighted_percentiles(
    values: Floats, weights: Ints, percents: Sequence[int] = PERCENTS
) -> Floats:
    """Percentiles of a sample in which ``values[i]`` occurs ``weights[i]`` times.

    The lower inverse of the distribution function, definition 1 of Hyndman and Fan: the smallest
    value whose cumulated weight reaches ``percent / 100`` of the total, in integer arithmetic.
    It is always an observed value, and differs from ``percentiles`` of the expanded sample by
    less than the distance of two neighbouring values. No weight at all gives NaN.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    total = int(reached[-1]) if len(reached) else 0
    if total == 0:
        return np.full(len(percents), np.nan)
    targets = [-(-percent * total // 100) for percent in percents]
    return np.asarray(values[order][np.searchsorted(reached, targets)], dtype=np.float64)


def weighted_mean(values: Floats, weights: Ints) -> float:
    """Mean of a sample in which ``values[i]`` occurs ``weights[i]`` times; NaN without weight."""
    total = int(weights.sum())
    return float((values * weights).sum() / total) if total else float("nan")


def unsupported(samples: float, percents: Sequence[int] = PERCENTS) -> list[int]:
    """Percentiles that ``samples`` samples cannot support: fewer than ``SUPPORT`` lie beyond.

    With 10 expected beyond, the number actually beyond has a coefficient of variation of about
    1/sqrt(10) = 32% (binomial), so that less is one or two unlucky requests.
    """
    return [percent for percent in percents if samples * (100 - percent) < 100 * SUPPORT]
