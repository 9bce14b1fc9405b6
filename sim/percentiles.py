"""Percentiles: of plain samples, and of samples that each stand for many equal ones."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sample = Callable[[], Iterable[tuple[Floats, Ints]]]

PERCENTS = (50, 90, 95, 99)
"""The percentiles that every latency is summarised by."""

FEW = 1 << 20
"""So many values of a weighted sample are sorted at a time."""
_DIGIT_BITS = 16
BINS = 1024
_BELOW_BINS = np.uint64(52 - 10)

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


def weighted_statistics(sample: Sample, percents: Sequence[int] = PERCENTS) -> tuple[float, Floats]:
    """Mean and percentiles of a sample in which ``values[i]`` occurs ``weights[i]`` times.

    A percentile is the lower inverse of the distribution function, definition 1 of Hyndman and
    Fan: the smallest value whose cumulated weight reaches ``percent / 100`` of the total, in
    integer arithmetic. It is always an observed value, and differs from ``percentiles`` of the
    expanded sample by less than the distance of two neighbouring values. No weight at all gives
    NaN.

    A sample that is too large to be sorted is searched digit by digit: bits of floats that are not
    negative are in the order of the floats.

    Args:
        sample: called once per pass, gives blocks of ``(values, weights)``, no value negative.
        percents: above 0, at most 100.
    """
    amount, total = 0.0, 0
    for values, weights in sample():
        amount += float((values * weights).sum())
        total += int(weights.sum())
    if not total:
        return float("nan"), np.full(len(percents), np.nan)
    ranks = [-(-percent * total // 100) for percent in percents]
    shift, leading, below = 64, [0] * len(ranks), [0] * len(ranks)
    while shift and (few := _few(sample, shift, set(leading))) is None:
        shift -= _DIGIT_BITS
        reached = _reached(sample, shift, set(leading))
        for place, begin in enumerate(leading):
            digit = int(np.searchsorted(reached[begin], ranks[place] - below[place]))
            below[place] += int(reached[begin][digit - 1]) if digit else 0
            leading[place] = begin << _DIGIT_BITS | digit
    if not shift:
        return amount / total, np.array(leading, dtype=np.uint64).view(np.float64)
    assert few is not None
    cumulated = {begin: _cumulated(*part) for begin, part in few.items()}
    found = []
    for begin, rank, smaller in zip(leading, ranks, below, strict=True):
        values, reached_weight = cumulated[begin]
        found.append(values[np.searchsorted(reached_weight, rank - smaller)])
    return amount / total, np.array(found)


def _few(sample: Sample, shift: int, leading: set[int]) -> dict[int, tuple[Floats, Ints]] | None:
    """The part of a sample that begins with each of some bits; None if it is too much to hold."""
    parts: dict[int, list[tuple[Floats, Ints]]] = {begin: [] for begin in leading}
    rows = 0
    for values, weights in sample():
        begins = _leading_bits(values, shift)
        for begin, part in parts.items():
            inside = begins == begin
            part.append((values[inside], weights[inside]))
            rows += len(part[-1][0])
        if rows > FEW:
            return None
    return {
        begin: (np.concatenate([v for v, _ in part]), np.concatenate([w for _, w in part]))
        for begin, part in parts.items()
    }


def _cumulated(values: Floats, weights: Ints) -> tuple[Floats, Ints]:
    """Values in ascending order, and the weight that is reached with each."""
    order = np.argsort(values)
    return values[order], np.cumsum(weights[order])


def _reached(sample: Sample, shift: int, leading: set[int]) -> dict[int, Ints]:
    """Weight of what begins with each of some bits, cumulated over the next digit."""
    digits = 1 << _DIGIT_BITS
    counts = {begin: np.zeros(digits) for begin in leading}
    for values, weights in sample():
        bits = _leading_bits(values, shift)
        for begin, count in counts.items():
            digit = bits - np.uint64(begin << _DIGIT_BITS)  # of the others it is too large
            inside = digit < digits
            count += np.bincount(digit[inside].astype(np.int64), weights[inside], digits)
    return {begin: np.cumsum(count).astype(np.int64) for begin, count in counts.items()}


def _leading_bits(values: Floats, shift: int) -> npt.NDArray[np.uint64]:
    """All but the last ``shift`` bits of floats."""
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    return bits >> np.uint64(shift) if shift < 64 else np.zeros_like(bits)


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
        numbers, places = np.unique(bin_of(values), return_inverse=True)
        sums = np.bincount(places, weights, len(numbers))  # exact below 2^53
        for number, weight in zip(numbers.tolist(), sums.tolist(), strict=True):
            counts[number] = counts.get(number, 0) + int(weight)
    return counts


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


def unsupported(samples: float, percents: Sequence[int] = PERCENTS) -> list[int]:
    """Percentiles that ``samples`` samples cannot support: fewer than ``SUPPORT`` lie beyond.

    With 10 expected beyond, the number actually beyond has a coefficient of variation of about
    1/sqrt(10) = 32% (binomial), so that less is one or two unlucky requests.
    """
    return [percent for percent in percents if samples * (100 - percent) < 100 * SUPPORT]
