"""Percentiles: of plain samples, and of samples that each stand for many equal ones."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PERCENTS = (50, 90, 95, 99)
"""The percentiles that every latency is summarised by."""

_DIGIT_BITS = 16

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
    sample: Callable[[], Iterable[tuple[Floats, Ints]]], percents: Sequence[int] = PERCENTS
) -> Floats:
    """Percentiles of a sample in which ``values[i]`` occurs ``weights[i]`` times.

    The lower inverse of the distribution function, definition 1 of Hyndman and Fan: the smallest
    value whose cumulated weight reaches ``percent / 100`` of the total, in integer arithmetic.
    It is always an observed value, and differs from ``percentiles`` of the expanded sample by
    less than the distance of two neighbouring values. No weight at all gives NaN.

    Args:
        sample: called once per pass, gives the sample as blocks of ``(values, weights)``, the
            values not negative. It may be larger than the memory: this is a radix selection. Bits
            of floats that are not negative are in the order of the floats, so each pass counts
            the weight by the next ``_DIGIT_BITS`` bits, among the values that begin with the
            bits found so far.
    """
    targets: list[int] = []
    found = [(0, 0)] * len(percents)  # the leading bits, and the weight of all that is smaller
    for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = _weight_by_digit(sample, shift, {leading for leading, _ in found})
        if not targets:
            total = int(counts[0][-1])
            if total == 0:
                return np.full(len(percents), np.nan)
            targets = [-(-percent * total // 100) for percent in percents]
        for place, (leading, below) in enumerate(found):
            reached = counts[leading]
            digit = int(np.searchsorted(reached, targets[place] - below))
            smaller = int(reached[digit - 1]) if digit else 0
            found[place] = (leading << _DIGIT_BITS | digit, below + smaller)
    return np.array([bits for bits, _ in found], dtype=np.uint64).view(np.float64)


def _weight_by_digit(
    sample: Callable[[], Iterable[tuple[Floats, Ints]]], shift: int, leading: set[int]
) -> dict[int, Ints]:
    """Weight of the values whose bits begin in each of these ways, cumulated over the next digit.

    The digit is that of the bits from ``shift`` on.
    """
    digits = 1 << _DIGIT_BITS
    counts = {bits: np.zeros(digits) for bits in leading}
    for values, weights in sample():
        keys = np.asarray(values, dtype=np.float64).view(np.uint64) >> np.uint64(shift)
        begin = keys >> np.uint64(_DIGIT_BITS)
        digit = (keys & np.uint64(digits - 1)).astype(np.int64)
        for bits, count in counts.items():
            inside = begin == bits
            count += np.bincount(digit[inside], weights[inside], minlength=digits)
    return {bits: np.cumsum(count).astype(np.int64) for bits, count in counts.items()}


def weighted_mean(sample: Iterable[tuple[Floats, Ints]]) -> float:
    """Mean of a sample in blocks of ``(values, weights)``; NaN without weight."""
    amount, total = 0.0, 0
    for values, weights in sample:
        amount += float((values * weights).sum())
        total += int(weights.sum())
    return amount / total if total else float("nan")


def unsupported(samples: float, percents: Sequence[int] = PERCENTS) -> list[int]:
    """Percentiles that ``samples`` samples cannot support: fewer than ``SUPPORT`` lie beyond.

    With 10 expected beyond, the number actually beyond has a coefficient of variation of about
    1/sqrt(10) = 32% (binomial), so that less is one or two unlucky requests.
    """
    return [percent for percent in percents if samples * (100 - percent) < 100 * SUPPORT]
