"""Values in the JSON of a benchmark client: what they should be, or refused with their key."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study.errors import show
from experiments.validation.lengths import WHOLE

Row = dict[str, object]

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
"""What is compared of a latency."""
LEAST_SPREAD = 0.005
"""Of the mean: a deviation below it is none, but a tokeniser's."""

LEAST_REQUESTS = 20
"""Of lengths that differ the sum is a multiple of so many by chance once in as many results."""


class NotAResultError(ValueError):
    """A JSON file that no known client wrote."""


class BrokenResultError(NotAResultError):
    """A client's result that cannot be read: no JSON, cut off, or a value that means nothing."""


def number(part: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first number under one of the keys; None where none of them says anything.

    NaN says nothing: clients write it for a mean of no request.

    Raises:
        BrokenResultError: there is something else.
    """
    for key in keys:
        value = part.get(key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BrokenResultError(f"{key} = {show(value)}, expected a number")
        return value
    return None


def count(part: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first whole number of at least 0 under one of the keys; None where none is said.

    Raises:
        BrokenResultError: there is something else.
    """
    found = number(part, *keys)
    if found is None:
        return None
    if found < 0 or found != int(found):
        key = next(key for key in keys if part.get(key) is not None)
        raise BrokenResultError(f"{key} = {show(found)}, expected a whole number of at least 0")
    return int(found)


def positive(part: Mapping[str, Any], *keys: str) -> float | None:
    """Return the same as ``number``; 0 says that nothing was measured.

    Raises:
        BrokenResultError: less than 0, or no number.
    """
    found = number(part, *keys)
    if found is not None and found < 0:
        raise BrokenResultError(f"{keys[0]} = {show(found)}, expected at least 0")
    return found or None


def mapping(part: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what stands below a key; nothing where it says nothing.

    Raises:
        BrokenResultError: it is no mapping.
    """
    value = part.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BrokenResultError(f"{key} = {show(value)}, expected a mapping")
    return value


def listed(part: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the list below a key; an empty one where it says nothing.

    Raises:
        BrokenResultError: it is no list.
    """
    value = part.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BrokenResultError(f"{key} = {show(value)}, expected a list")
    return value


def lengths(part: Mapping[str, Any], name: str, each: str, total: str, answered: str) -> Row:
    """Return the mean and the spread of lengths as cells of a row.

    Args:
        part: a result.
        name: of the column, ``isl`` or ``osl``.
        each: key of a list of lengths, of which those of failed requests may be 0.
        total: key of their sum.
        answered: key of how many were answered.

    Raises:
        BrokenResultError: values of another kind.
    """
    known = [one for one in listed(part, each) if one]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in known):
        raise BrokenResultError(f"{each}: expected numbers alone")
    if not known:
        tokens, requests = number(part, total), number(part, answered)
        if not tokens or not requests:
            return {}
        even = requests >= LEAST_REQUESTS and tokens % requests == 0
        return {f"{name}_mean": tokens / requests, f"{name}_spec": WHOLE if even else None}
    mean = sum(known) / len(known)
    deviation = (sum((one - mean) ** 2 for one in known) / len(known)) ** 0.5
    return {f"{name}_mean": mean, f"{name}_spec": spread(mean, deviation)}


def spread(mean: float | None, deviation: float | None) -> str | None:
    """Return a spread in the words of a row; None where nobody tells."""
    if deviation is None:
        return None
    even = deviation <= LEAST_SPREAD * (mean or 0.0)
    return "fixed" if even else f"std {deviation:.6g}"
