"""Differences with their intervals and p values, and which of many stand out of the noise."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from experiments.reporting.means import CONFIDENCE
from experiments.reporting.student import t_quantile, t_tails
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]

RESAMPLES = 400
LEAST_BLOCK = 500
"""Requests of a block of the bootstrap,"""
FEWEST_BLOCKS = 20
"""and blocks that there have to be: with fewer there is no interval."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference, the ends of its 95% interval and its two-sided p value; NaN where unknown."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


def sectioned(whole: float, parts: Sequence[float]) -> Difference:
    """Difference of two pooled figures, with the spread of the seeds' own about it.

    ``whole`` is that of all seeds together, ``parts`` those of each seed; for a mean over seeds
    both are the same thing and this is the paired t interval. Parts that are all alike (a setting
    that changed nothing) leave no doubt.
    """
    count = len(parts)
    if not math.isfinite(whole) or not all(map(math.isfinite, parts)) or not count:
        return Difference(whole)
    if all(part == whole for part in parts):
        alike = whole == 0 or count > 1
        return Difference(whole, whole, whole, float(whole == 0)) if alike else Difference(whole)
    if count < 2:
        return Difference(whole)
    squares = math.fsum((part - whole) ** 2 for part in parts)
    error = math.sqrt(squares / (count - 1) / count)
    half = t_quantile((1 + CONFIDENCE) / 2, count - 1) * error
    return Difference(whole, whole - half, whole + half, t_tails(whole / error, count - 1))


def of_shares(found: Difference) -> Difference:
    """Cut the interval of a difference of two shares off where there is none: at -1 and 1.

    What is cut away cannot be true, so the interval holds the truth as often as before, and still
    excludes 0 exactly where its p value is small.
    """
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def welch(
    before: Sequence[float], after: Sequence[float], whole: tuple[float, float] | None = None
) -> Difference:
    """Difference of unpaired samples (Welch, Biometrika 34, 1947).

    ``whole`` are the figures of all seeds of each side together, as percentiles are told, with the
    spread of the seeds' own about them; by default the means.
    """
    sides = (before, after)
    told = whole or [math.fsum(sample) / len(sample) for sample in sides]
    value = told[1] - told[0]
    counts = [len(sample) for sample in sides]
    if min(counts) < 2 or not all(map(math.isfinite, (value, *before, *after))):
        return Difference(value)
    parts = [
        math.fsum((each - figure) ** 2 for each in sample) / (len(sample) - 1) / len(sample)
        for sample, figure in zip(sides, told, strict=True)
    ]
    if not sum(parts):
        return Difference(value, value, value, float(value == 0))
    freedom = sum(parts) ** 2 / sum(
        part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)
    )
    error = math.sqrt(sum(parts))
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    return Difference(value, value - half, value + half, t_tails(value / error, freedom))


def blocked(before: Floats, after: Floats, percent: float | None, whole: float) -> Difference:
    """Difference of a percentile (None: the mean) of the same requests, by paired blocks.

    Requests of one busy period are good or bad together, so consecutive ones are resampled as
    blocks of 500, or of three autocorrelation times if that is more, each with both its latencies
    (Kunsch, Annals of Statistics 17(3), 1989). Rows are in order of arrival; those that are not
    finite on both sides do not count. The stream of random numbers is fixed.
    """
    kept = np.isfinite(before) & np.isfinite(after)
    before, after = before[kept], after[kept]
    gaps = after - before
    if not gaps.any():
        return Difference(whole, whole, whole, float(whole == 0))
    length = max(LEAST_BLOCK, math.ceil(3 * _autocorrelation(gaps)))
    blocks = len(before) // length
    if blocks < FEWEST_BLOCKS:
        return Difference(whole)
    shape = (blocks, length)
    pairs = [each[: blocks * length].reshape(shape) for each in (before, after)]
    generator = np.random.Generator(np.random.PCG64(0))
    found = np.empty(RESAMPLES)
    for place in range(RESAMPLES):
        chosen = generator.integers(0, blocks, blocks)
        old, new = (
            float(each[chosen].mean() if percent is None else np.percentile(each[chosen], percent))
            for each in pairs
        )
        found[place] = new - old
    spread = found - found.mean()
    low, high = np.percentile(spread, [2.5, 97.5])
    beyond = float((np.abs(spread) >= abs(whole)).mean())
    return Difference(whole, whole + float(low), whole + float(high), max(beyond, 1 / RESAMPLES))


def _autocorrelation(values: Floats) -> float:
    """Integrated autocorrelation time, in rows: from the variance of the means of batches."""
    batch = max(1, math.isqrt(len(values)))
    count = len(values) // batch
    means = values[: count * batch].reshape(count, batch).mean(axis=1)
    plain = float(values.var())
    return batch * float(means.var()) / plain if plain else 1.0


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of many differences stand out, with at most 5% chance that any does by luck alone.

    Holm, Scandinavian Journal of Statistics 6(2), 1979. NaN does not stand out, nor does it count.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    starred = [False] * len(p_values)
    for rank, (p_value, place) in enumerate(known):
        if p_value > level / (len(known) - rank):
            break
        starred[place] = True
    return starred
