"""A sample as counts in narrow bins: what is left of many token gaps when runs are pooled."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.measuring.percentiles import PERCENTS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 1024
"""From a power of two to the next."""
WIDE = 64 * BINS
"""So many bins are counted at once; a sample that reaches further is sorted."""
_BELOW_BINS = np.uint64(52 - 10)


def bin_of(values: Floats) -> Ints:
    """Number of the bin that each of ``values`` (not negative) falls into.

    Bins are those of the floats' leading bits: ``BINS`` of them from a power of two to the next, so
    that they are 0.1% wide or less, and in the order of the values.
    """
    return (np.asarray(values, dtype=np.float64).view(np.uint64) >> _BELOW_BINS).astype(np.int64)


def middle_of(number: int) -> float:
    """Return the middle of a bin."""
    ends = np.array([number, number + 1], dtype=np.uint64) << _BELOW_BINS
    return float(ends.view(np.float64).mean())


def counted(sample: Iterable[tuple[Floats, Ints]]) -> dict[int, int]:
    """Weight in each bin of a weighted sample; bins without any are left out."""
    counts: dict[int, int] = {}
    for values, weights in sample:
        present = weights > 0
        if not present.any():
            continue
        numbers, sums = _sums(bin_of(values[present]), weights[present])
        for number, weight in zip(numbers.tolist(), sums.tolist(), strict=True):
            counts[number] = counts.get(number, 0) + int(weight)
    return counts


def _sums(numbers: Ints, weights: Ints) -> tuple[Ints, npt.NDArray[Any]]:
    """Bins that are there, in order, and the weight in each; exact below 2^53."""
    lowest = numbers.min()
    if numbers.max() - lowest >= WIDE:  # 0 is far below whatever is not
        found, place = np.unique(numbers, return_inverse=True)
        return found, np.bincount(place, weights)
    sums = np.bincount(numbers - lowest, weights)
    there = np.flatnonzero(sums)
    return lowest + there, sums[there]


def binned_percentiles(
    counts: Mapping[int, int], percents: Sequence[int] = PERCENTS
) -> list[float]:
    """Percentiles as of ``weighted_statistics``, to half a bin: 0.05%. NaN of nothing."""
    numbers = sorted(counts)
    reached = list(accumulate(counts[number] for number in numbers))
    if not numbers or not reached[-1]:
        return [float("nan")] * len(percents)
    ranks = [-(-percent * reached[-1] // 100) for percent in percents]
    return [middle_of(numbers[bisect_left(reached, rank)]) for rank in ranks]
