"""Statistics of samples whose values each stand for many equal ones, such as token gaps."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.measuring.bins import BELOW_BITS, Counts, bin_of
from sim.measuring.percentiles import PERCENTS
from sim.measuring.successive import before

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sample = Callable[[], Iterable[tuple[Floats, Ints]]]

FEW = 1 << 20
"""So many values are sorted at most."""
SHORT = 1 << 15
"""A sample of so few is sorted at once."""
_DIGIT_BITS = 16


class Weighted(NamedTuple):
    """What a weighted sample comes to."""

    mean: float
    percentiles: Floats
    counts: dict[int, int]
    """The weight by ``sim.measuring.bins.bin_of``; bins without any are left out."""


def weighted_statistics(sample: Sample, percents: Sequence[int] = PERCENTS) -> Weighted:
    """Mean and percentiles of a sample in which ``values[i]`` occurs ``weights[i]`` times.

    A percentile is the lower inverse of the distribution function, definition 1 of Hyndman and
    Fan: the smallest value whose cumulated weight reaches ``percent / 100`` of the total, in
    integer arithmetic. It is always an observed value, and differs from ``percentiles`` of the
    expanded sample by less than the distance of two neighbouring values. No weight at all gives
    NaN.

    A short sample is sorted. One that is too large for that is counted in bins, and what is in
    those of the percentiles is sorted; where that is still too much it is searched digit by digit:
    bits of floats that are not negative are in the order of the floats.

    Args:
        sample: called once per pass, gives blocks of ``(values, weights)``, no value negative. A
            weight may be 0.
        percents: above 0, at most 100.
    """
    if (short := _if_short(sample)) is not None:
        return _of_short(short, percents)
    amount, counts = 0.0, Counts()
    for values, weights in sample():
        values, weights = _present(values, weights)
        amount += _amount(values, weights)
        counts.add(values, weights)
    total = sum(counts.weight.values())
    if not total:
        return Weighted(float("nan"), np.full(len(percents), np.nan), {})
    ranks = [-(-percent * total // 100) for percent in percents]
    return Weighted(amount / total, _ranked(sample, counts, ranks), counts.weight)


def _if_short(sample: Sample) -> list[tuple[Floats, Ints]] | None:
    """What has a weight of a short sample, block by block; None: it is not short."""
    parts, rows = list[tuple[Floats, Ints]](), 0
    for values, weights in sample():
        rows += len(values)
        if rows > SHORT:
            return None
        if len(values):
            parts.append(_present(values, weights))
    return parts


def _of_short(parts: list[tuple[Floats, Ints]], percents: Sequence[int]) -> Weighted:
    if not any(len(values) for values, _ in parts):
        return Weighted(float("nan"), np.full(len(percents), np.nan), {})
    amount = sum(_amount(*part) for part in parts)
    values, reached = _cumulated(parts)
    total = int(reached[-1])
    ranks = [-(-percent * total // 100) for percent in percents]
    found = values[reached.searchsorted(ranks)]
    numbers = bin_of(values)
    last = np.append(np.flatnonzero(numbers[1:] != numbers[:-1]), len(numbers) - 1)  # of each bin
    counts = reached[last] - before(reached[last], 0)
    return Weighted(
        amount / total, found, dict(zip(numbers[last].tolist(), counts.tolist(), strict=True))
    )


def _amount(values: Floats, weights: Ints) -> float:
    return float((values * weights).sum())


def _present(values: Floats, weights: Ints) -> tuple[Floats, Ints]:
    """What has a weight."""
    if not len(weights) or weights.min() > 0:
        return values, weights
    present = weights > 0
    return values[present], weights[present]


def _ranked(sample: Sample, counts: Counts, ranks: list[int]) -> Floats:
    """Return the values at some ranks of a sample that was counted."""
    numbers = sorted(counts.weight)
    reached = np.array(list(accumulate(counts.weight[number] for number in numbers)))
    places = np.searchsorted(reached, ranks).tolist()
    begins = [numbers[place] for place in places]
    below = [int(reached[place - 1]) if place else 0 for place in places]
    rows, shift = sum(counts.rows[begin] for begin in begins), BELOW_BITS
    while rows > FEW and shift:
        bits = min(_DIGIT_BITS, shift)
        shift -= bits
        rows, found = 0, _next_digit(sample, shift, bits, set(begins))
        for place, begin in enumerate(begins):
            weight, many = found[begin]
            digit = int(np.searchsorted(weight, ranks[place] - below[place]))
            below[place] += int(weight[digit - 1]) if digit else 0
            begins[place] = begin << bits | digit
            rows += int(many[digit])
    if not shift:
        return np.array(begins, dtype=np.uint64).view(np.float64)
    parts = {begin: _cumulated(part) for begin, part in _few(sample, shift, begins).items()}
    answer = list[float]()
    for begin, rank, smaller in zip(begins, ranks, below, strict=True):
        values, reached = parts[begin]
        answer.append(float(values[np.searchsorted(reached, rank - smaller)]))
    return np.array(answer)


def _next_digit(
    sample: Sample, shift: int, bits: int, begins: set[int]
) -> dict[int, tuple[Ints, Ints]]:
    """By the next digit of what begins with each of some bits: cumulated weight, and rows."""
    digits = 1 << bits
    sums = {begin: (np.zeros(digits), np.zeros(digits, dtype=np.int64)) for begin in begins}
    for values, weights in sample():
        leading = _leading_bits(values, shift)
        begun = leading >> np.uint64(bits)
        for begin, (weight, rows) in sums.items():
            inside = np.flatnonzero(begun == begin)
            places = (leading[inside] - np.uint64(begin << bits)).astype(np.int64)
            np.add.at(weight, places, weights[inside])
            np.add.at(rows, places, 1)
    return {
        begin: (np.cumsum(weight).astype(np.int64), rows) for begin, (weight, rows) in sums.items()
    }


def _few(sample: Sample, shift: int, begins: Iterable[int]) -> dict[int, list[tuple[Floats, Ints]]]:
    """The part of a sample that begins with each of some bits."""
    parts: dict[int, list[tuple[Floats, Ints]]] = {begin: [] for begin in begins}
    for values, weights in sample():
        leading = _leading_bits(values, shift)
        for begin, part in parts.items():
            inside = np.flatnonzero(leading == begin)
            part.append((values[inside], weights[inside]))
    return parts


def _cumulated(parts: list[tuple[Floats, Ints]]) -> tuple[Floats, Ints]:
    """Values in ascending order, and the weight that is reached with each."""
    values, weights = parts[0]
    if len(parts) > 1:
        values = np.concatenate([each for each, _ in parts])
        weights = np.concatenate([each for _, each in parts])
    order = values.argsort()
    return values[order], weights[order].cumsum()


def _leading_bits(values: Floats, shift: int) -> npt.NDArray[np.uint64]:
    """All but the last ``shift`` bits of floats."""
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    return bits >> np.uint64(shift)
