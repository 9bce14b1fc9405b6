"""Numbers for people: three significant digits, ms or s, with their interval."""

import math
from decimal import ROUND_HALF_UP, Context

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DASH = "–"
"""Between the ends of an interval."""
MISSING = DASH
NEARLY = 1.25
"""How much longer one half of an interval may be for ``±``: half lengths up to 22% of the mean."""


def significant(value: float, digits: int = 3) -> str:
    """Write ``value`` with that many significant digits: ``0.0123``, ``1.50``, ``12,300``.

    NaN is a dash, infinity its sign. Below 0.0001 an exponent is used. What lies just between two
    is rounded away from 0, as browsers do it, so that a page says the same everywhere.
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    exact = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal_from_float(float(value))
    rounded = float(exact)
    if rounded == 0:
        return "0"
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4:
        return f"{rounded:.{digits - 1}e}"
    return f"{rounded:,.{max(digits - 1 - exponent, 0)}f}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference as ``significant`` does, with its sign: ``+1.5``, ``-12,300``."""
    text = significant(value, digits)
    return f"+{text}" if value > 0 else text


def half_length(value: float, low: float, high: float) -> float:
    """Return half the length of an interval that can pass for a symmetric one, else NaN.

    It can where the longer side of ``value`` is at most ``NEARLY`` times the shorter one.
    """
    below, above = value - low, high - value
    return (high - low) / 2 if max(below, above) <= NEARLY * min(below, above) else math.nan


def with_interval(value: float, low: float, high: float) -> str:
    """Write a mean with its interval: ``123 ± 4.5`` if nearly symmetric, else ``123 (95.0-160)``.

    Only the mean without an interval (NaN), or with one far within the last digit that is shown.
    """
    reach = max(high - value, value - low)
    if math.isnan(low) or math.isnan(high) or reach < last_digit(value) / 2:
        return significant(value)
    half = half_length(value, low, high)
    if math.isnan(half):
        return f"{significant(value)} ({significant(low)}{DASH}{significant(high)})"
    return f"{significant(value)} ± {significant(half, 2)}"


def last_digit(value: float, digits: int = 3) -> float:
    """Return what the last of so many significant digits of a number counts: 0.01 for 2.86."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    return float(10.0 ** (math.floor(math.log10(abs(value))) - digits + 1))


def time_unit(seconds: Floats) -> tuple[str, float]:
    """Unit of durations that are read together and its factor: s if any reaches 10 s, else ms."""
    finite = seconds[np.isfinite(seconds)]
    return ("s", 1.0) if finite.max(initial=0.0) >= 10 else ("ms", 1e3)
