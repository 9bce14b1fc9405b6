"""A sample as counts in narrow bins: what is left of many token gaps when runs are pooled."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from sim.measuring.percentiles import PERCENTS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 1024
"""From a power of two to the next."""
WIDE = 64 * BINS
"""So many bins are counted at once; a sample that reaches further is sorted."""
BELOW_BITS = 52 - 10
"""Bits of a float behind those of its bin."""


def bin_of(values: Floats) -> Ints:
    """Number of the bin that each of ``values`` (not negative) falls into.

    Bins are those of the floats' leading bits: ``BINS`` of them from a power of two to the next, so
    that they are 0.1% wide or less, and in the order of the values.
    """
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    return (bits >> np.uint64(BELOW_BITS)).view(np.int64)


def middle_of(number: int) -> float:
    """Return the middle of a bin."""
    ends = np.array([number, number + 1], dtype=np.uint64) << np.uint64(BELOW_BITS)
    return float(ends.view(np.float64).mean())


class Counts:
    """What has fallen into each bin; bins with nothing are left out."""

    def __init__(self) -> None:
        self.weight: dict[int, int] = {}
        self.rows: dict[int, int] = {}

    def add(self, values: Floats, weights: Ints) -> None:
        """Count a part of a sample; no weight is 0."""
        if not len(values):
            return
        numbers, weight, rows = _sums(bin_of(values), weights)
        of_weight, of_rows = self.weight, self.rows
        for number, heavy, many in zip(numbers, weight, rows, strict=True):
            of_weight[number] = of_weight.get(number, 0) + int(heavy)
            of_rows[number] = of_rows.get(number, 0) + many


def _sums(numbers: Ints, weights: Ints) -> tuple[list[int], list[float], list[int]]:
    """Bins that are there, in order, the weight in each, exact below 2^53, and its rows."""
    lowest = numbers.min()
    if numbers.max() - lowest >= WIDE:  # 0 is far below whatever is not
        found, place = np.unique(numbers, return_inverse=True)
        return found.tolist(), np.bincount(place, weights).tolist(), np.bincount(place).tolist()
    place = numbers - lowest
    rows = np.bincount(place)
    there = np.flatnonzero(rows)
    weight = np.bincount(place, weights)[there]
    return (lowest + there).tolist(), weight.tolist(), rows[there].tolist()


def binned_percentiles(
    counts: Mapping[int, int], percents: Sequence[int] = PERCENTS
) -> list[float]:
    """Percentiles as of ``sim.measuring.weighted``, to half a bin: 0.05%. NaN of nothing."""
    numbers = sorted(counts)
    reached = list(accumulate(counts[number] for number in numbers))
    if not numbers or not reached[-1]:
        return [float("nan")] * len(percents)
    ranks = [-(-percent * reached[-1] // 100) for percent in percents]
    return [middle_of(numbers[bisect_left(reached, rank)]) for rank in ranks]
