"""Renewal processes whose law and rate change from window to window of time.

A client's gaps are drawn in mean gaps of the window in which each begins, and pass at the rate of
the window that the clock is in: what is left of a gap at the end of a window goes on in the next
ones, at their pace, and waits while they are silent. So every window has the requests that its rate
says, and its gaps the law that it says. The first gap is met somewhere within itself, as whoever
begins to look at any instant meets it: a window at the beginning has no fewer or more requests than
others (Cox, "Renewal Theory", 1962, section 5.2).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from workloads.requests import Floats, Ints


class GapLaw(NamedTuple):
    """Gaps of mean one, by their shape."""

    gaps: Callable[[float, int, np.random.Generator], Floats]
    """Draw so many: shape (count,)."""
    met: Callable[[float, np.random.Generator], float]
    """Draw the length of one that holds a given instant: longer ones are met more often."""
    least_shape: float
    """Below, a request in a thousand would come alone."""


class Window(NamedTuple):
    """A stretch of time in which a client asks alike."""

    start_s: float
    stop_s: float
    rate_per_s: float
    law: str
    """One of ``GAP_LAWS``; of a silent window anything."""
    shape: float


def _gamma(shape: float, count: int, rng: np.random.Generator) -> Floats:
    return rng.standard_gamma(shape, count) / shape


def _met_gamma(shape: float, rng: np.random.Generator) -> float:
    """x g(x) is the gamma law of one shape more."""
    return float(rng.standard_gamma(shape + 1)) / shape


def _weibull(shape: float, count: int, rng: np.random.Generator) -> Floats:
    logs = np.log(rng.standard_exponential(count))
    gaps: Floats = np.exp(logs / shape - math.lgamma(1 + 1 / shape))
    return gaps


def _met_weibull(shape: float, rng: np.random.Generator) -> float:
    """Where X^k is exponential, weighting with X makes X^k gamma of shape 1 + 1/k."""
    log = math.log(rng.standard_gamma(1 + 1 / shape))
    return math.exp(log / shape - math.lgamma(1 + 1 / shape))


GAP_LAWS = {
    "Gamma": GapLaw(_gamma, _met_gamma, 0.001),
    "Weibull": GapLaw(_weibull, _met_weibull, 0.1),
}
MOST_SHAPE = 1e6
"""Above, gaps are all alike."""


class TooManyError(ValueError):
    """More requests than were allowed."""


def renewal_times(
    windows: list[Window], rng: np.random.Generator, most: int
) -> tuple[Floats, Ints]:
    """Draw the requests of one client.

    Args:
        windows: in order of time, without overlap.
        rng: stream of the client. More windows at the end change nothing before them.
        most: requests, at most.

    Returns:
        Times in seconds, ascending, and of each the number of its window: both of shape (count,).

    Raises:
        TooManyError: there are more than ``most``.
    """
    times, counts = [np.empty(0)], np.zeros(len(windows), dtype=np.int64)
    left: float | None = None
    for number, window in enumerate(windows):
        gaps = window.rate_per_s * (window.stop_s - window.start_s)
        if gaps <= 0:
            continue
        law = GAP_LAWS[window.law]
        if left is None:
            left = law.met(window.shape, rng) * rng.random()
        if left >= gaps:
            left -= gaps
            continue
        inside, following = _renewals(window, left, gaps, rng, most - int(counts.sum()))
        left = following - gaps
        counts[number] = len(inside)
        times.append(np.minimum(window.start_s + inside / window.rate_per_s, window.stop_s))
    return np.concatenate(times), np.repeat(np.arange(len(windows)), counts)


def _renewals(
    window: Window, first: float, end: float, rng: np.random.Generator, most: int
) -> tuple[Floats, float]:
    """Return the renewals from ``first`` until ``end``, and the one after, in mean gaps."""
    parts, drawn = [np.array([first])], 1
    chunk = int(end * 1.1) + 16
    while parts[-1][-1] < end:
        if drawn - chunk > most:  # as many were inside before the last chunk
            raise TooManyError
        gaps = GAP_LAWS[window.law].gaps(window.shape, chunk, rng)
        parts.append(parts[-1][-1] + np.cumsum(gaps))
        drawn += chunk
    at = np.concatenate(parts)
    inside = int(np.searchsorted(at, end, side="left"))
    if inside > most:
        raise TooManyError
    return at[:inside], float(at[inside])
