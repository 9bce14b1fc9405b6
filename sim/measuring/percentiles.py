"""Percentiles of plain samples; of weighted ones see ``sim.measuring.weighted``."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

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
    result = np.array(quantiles_at(values, [percent / 100 for percent in percents]))
    undefined = np.isnan(result)
    if undefined.any():  # inf - inf within the interpolation
        result = np.where(undefined, np.percentile(values, percents, method="higher"), result)
    return result


def quantiles_at(values: Floats, shares: Sequence[float]) -> list[float]:
    """Return what ``np.quantile`` does, to the bit, in a tenth of the time of a short sample.

    Args:
        values: at least one, no NaN.
        shares: within 0 to 1.
    """
    ordered = np.sort(values)
    last, found = len(ordered) - 1, []
    for share in shares:
        place = last * share
        below = int(place)
        part = place - below
        low, high = ordered.item(below), ordered.item(min(below + 1, last))
        gap = high - low
        found.append(low + gap * part if part < 0.5 else high - gap * (1 - part))
    return found


def unsupported(samples: float, percents: Sequence[int] = PERCENTS) -> list[int]:
    """Percentiles that ``samples`` samples cannot support: fewer than ``SUPPORT`` lie beyond.

    With 10 expected beyond, the number actually beyond has a coefficient of variation of about
    1/sqrt(10) = 32% (binomial), so that less is one or two unlucky requests.
    """
    return [percent for percent in percents if samples * (100 - percent) < 100 * SUPPORT]
