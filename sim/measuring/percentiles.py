"""Percentiles: of plain samples, and of samples that each stand for many equal ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sample = Callable[[], Iterable[tuple[Floats, Ints]]]

PERCENTS = (50, 90, 95, 99)
"""The percentiles that every latency is summarised by."""

FEW = 1 << 20
"""So many values of a weighted sample are sorted at most."""
SHORT = 1 << 15
"""A sample of so few is sorted at once: the digits of one are as many."""
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
        result = quantiles_at(values, np.array(percents) / 100)
    undefined = np.isnan(result)
    if undefined.any():  # inf - inf within the interpolation
        result = np.where(undefined, np.percentile(values, percents, method="higher"), result)
    return np.asarray(result, dtype=np.float64)


def quantiles_at(values: Floats, shares: Sequence[float] | Floats) -> Floats:
    """Return what ``np.quantile`` does, to the bit, without what that loads: masked arrays.

    Args:
        values: at least one, no NaN.
        shares: within 0 to 1.
    """
    ordered = np.sort(values)
    places = (len(ordered) - 1) * np.asarray(shares)
    below = np.floor(places).astype(np.intp)
    part = places - below
    low, high = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)]
    gap = high - low
    found = np.where(part < 0.5, low + gap * part, high - gap * (1 - part))
    return np.asarray(found, dtype=np.float64)


def weighted_statistics(sample: Sample, percents: Sequence[int] = PERCENTS) -> tuple[float, Floats]:
    """Mean and percentiles of a sample in which ``values[i]`` occurs ``weights[i]`` times.

    A percentile is the lower inverse of the distribution function, definition 1 of Hyndman and
    Fan: the smallest value whose cumulated weight reaches ``percent / 100`` of the total, in
    integer arithmetic. It is always an observed value, and differs from ``percentiles`` of the
    expanded sample by less than the distance of two neighbouring values. No weight at all gives
    NaN.

    A short sample is sorted. One that is too large for that is searched digit by digit: bits of
    floats that are not negative are in the order of the floats.

    Args:
        sample: called once per pass, gives blocks of ``(values, weights)``, no value negative. A
            weight may be 0.
        percents: above 0, at most 100.
    """
    if (short := _if_short(sample)) is not None:
        return _of_short(*short, percents)
    shift = 64 - _DIGIT_BITS
    amount, counts = _first_digit(sample, shift)
    total = int(counts.weight[-1])
    if not total:
        return float("nan"), np.full(len(percents), np.nan)
    ranks = [-(-percent * total // 100) for percent in percents]
    begins, below = [0] * len(ranks), [0] * len(ranks)
    found = {0: counts}
    while True:
        rows = 0
        for place, begin in enumerate(begins):
            counts = found[begin]
            digit = int(np.searchsorted(counts.weight, ranks[place] - below[place]))
            below[place] += int(counts.weight[digit - 1]) if digit else 0
            begins[place] = begin << _DIGIT_BITS | digit
            rows += int(counts.rows[digit])
        if not shift:
            return amount / total, np.array(begins, dtype=np.uint64).view(np.float64)
        if rows <= FEW:
            break
        shift -= _DIGIT_BITS
        found = _next_digit(sample, shift, set(begins))
    cumulated = {begin: _cumulated(*part) for begin, part in _few(sample, shift, begins).items()}
    answer = []
    for begin, rank, smaller in zip(begins, ranks, below, strict=True):
        values, reached_weight = cumulated[begin]
        answer.append(values[np.searchsorted(reached_weight, rank - smaller)])
    return amount / total, np.array(answer)


def _if_short(sample: Sample) -> tuple[float, Floats, Ints] | None:
    """The sum of a short sample, each value times its weight, and its values and weights."""
    parts, rows, amount = list[tuple[Floats, Ints]](), 0, 0.0
    for values, weights in sample():
        rows += len(values)
        if rows > SHORT:
            return None
        values, weights = _present(values, weights)
        amount += float((values * weights).sum())
        parts.append((values, weights))
    if not parts:
        return amount, np.empty(0), np.empty(0, dtype=np.int64)
    return amount, np.concatenate([v for v, _ in parts]), np.concatenate([w for _, w in parts])


def _of_short(
    amount: float, values: Floats, weights: Ints, percents: Sequence[int]
) -> tuple[float, Floats]:
    values, reached = _cumulated(values, weights)
    if not len(reached):
        return float("nan"), np.full(len(percents), np.nan)
    total = int(reached[-1])
    ranks = [-(-percent * total // 100) for percent in percents]
    return amount / total, values[np.searchsorted(reached, ranks)]


def _present(values: Floats, weights: Ints) -> tuple[Floats, Ints]:
    """What has a weight."""
    present = weights > 0
    return (values, weights) if present.all() else (values[present], weights[present])


@dataclass(frozen=True, slots=True)
class _Counts:
    """By the next digit of what begins with some bits."""

    weight: Ints
    """Cumulated."""
    rows: Ints


def _first_digit(sample: Sample, shift: int) -> tuple[float, _Counts]:
    """The sum of a sample, each value times its weight, and its counts by the first digit."""
    digits = 1 << _DIGIT_BITS
    amount, weight, rows = 0.0, np.zeros(digits), np.zeros(digits, dtype=np.int64)
    for values, weights in sample():
        values, weights = _present(values, weights)
        amount += float((values * weights).sum())
        digit = _leading_bits(values, shift).astype(np.int64)
        weight += np.bincount(digit, weights, digits)
        rows += np.bincount(digit, minlength=digits)
    return amount, _Counts(np.cumsum(weight).astype(np.int64), rows)


def _next_digit(sample: Sample, shift: int, begins: set[int]) -> dict[int, _Counts]:
    """Counts by the next digit of what begins with each of some bits."""
    digits = 1 << _DIGIT_BITS
    sums = {begin: (np.zeros(digits), np.zeros(digits, dtype=np.int64)) for begin in begins}
    for values, weights in sample():
        bits = _leading_bits(values, shift)
        for begin, (weight, rows) in sums.items():
            digit = bits - np.uint64(begin << _DIGIT_BITS)  # of the others it is too large
            inside = digit < digits
            places = digit[inside].astype(np.int64)
            weight += np.bincount(places, weights[inside], digits)
            rows += np.bincount(places, minlength=digits)
    return {
        begin: _Counts(np.cumsum(weight).astype(np.int64), rows)
        for begin, (weight, rows) in sums.items()
    }


def _few(sample: Sample, shift: int, begins: Iterable[int]) -> dict[int, tuple[Floats, Ints]]:
    """The part of a sample that begins with each of some bits."""
    parts: dict[int, list[tuple[Floats, Ints]]] = {begin: [] for begin in begins}
    for values, weights in sample():
        leading = _leading_bits(values, shift)
        for begin, part in parts.items():
            inside = leading == begin
            part.append((values[inside], weights[inside]))
    return {
        begin: (np.concatenate([v for v, _ in part]), np.concatenate([w for _, w in part]))
        for begin, part in parts.items()
    }


def _cumulated(values: Floats, weights: Ints) -> tuple[Floats, Ints]:
    """Values in ascending order, and the weight that is reached with each."""
    order = np.argsort(values)
    return values[order], np.cumsum(weights[order])


def _leading_bits(values: Floats, shift: int) -> npt.NDArray[np.uint64]:
    """All but the last ``shift`` bits of floats."""
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    return bits >> np.uint64(shift)


def unsupported(samples: float, percents: Sequence[int] = PERCENTS) -> list[int]:
    """Percentiles that ``samples`` samples cannot support: fewer than ``SUPPORT`` lie beyond.

    With 10 expected beyond, the number actually beyond has a coefficient of variation of about
    1/sqrt(10) = 32% (binomial), so that less is one or two unlucky requests.
    """
    return [percent for percent in percents if samples * (100 - percent) < 100 * SUPPORT]
