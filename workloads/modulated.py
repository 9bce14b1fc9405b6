"""Poisson processes whose rate changes: unit-exponential times, bent into shape."""

import numpy as np

from workloads.requests import Floats

_MOST_STRETCHES = 1e7
CHUNK = 4096
"""Draws made at a time: fixed, so that they do not depend on how many requests are wanted."""


def unit_times(count: int, rng: np.random.Generator) -> Floats:
    """Return arrival times of a Poisson process of rate one: shape (count,), ascending."""
    return np.cumsum(rng.standard_exponential(count))


def inverted(unit: Floats, durations: Floats, rates: Floats) -> Floats:
    """Times at which the cumulative rate of consecutive stretches reaches each of ``unit``.

    The unit Poisson process seen through the inverse of a cumulative rate is the Poisson process
    of that rate (Cinlar, Introduction to Stochastic Processes, 1975, chapter 4). The last stretch
    has no end. Rounding may put neighbours out of order by an ulp: callers accumulate the maximum.
    """
    starts = np.concatenate(([0.0], np.cumsum(durations)[:-1]))
    reached = np.concatenate(([0.0], np.cumsum(durations * rates)[:-1]))
    # Stretch i holds reached[i] < unit <= reached[i + 1], so a silent one never holds any.
    stretch = np.maximum(np.searchsorted(reached, unit, side="left") - 1, np.argmax(rates > 0))
    times: Floats = starts[stretch] + (unit - reached[stretch]) / rates[stretch]
    return times


def modulated_times(
    count: int, rng: np.random.Generator, rates_per_s: tuple[float, ...], dwell_s: tuple[float, ...]
) -> Floats:
    """Arrivals of a Markov-modulated Poisson process, stationary from time 0, in seconds.

    Args:
        count: how many.
        rng: the stream of arrivals; that of the states is spawned from it.
        rates_per_s: of each state.
        dwell_s: mean time in each state, as many; all others are as likely to come after one.

    Returns:
        Shape (count,), ascending.

    Raises:
        ValueError: more changes of state than are simulated.
    """
    unit = unit_times(count, rng)
    path = rng.spawn(1)[0]
    means, rate_of = np.array(dwell_s), np.array(rates_per_s)
    expected = float(unit[-1] * len(means) / (rate_of @ means))
    if expected > _MOST_STRETCHES:
        raise ValueError(
            f"{count} requests would take about {expected:.1g} changes of state, expected at most "
            f"{_MOST_STRETCHES:.0g}; raise the rates(={list(rates_per_s)} per s) or the mean "
            f"dwells(={list(dwell_s)} s)"
        )
    state = int(np.searchsorted(np.cumsum(means) / means.sum(), path.random(), side="right"))
    state = min(state, len(means) - 1)
    durations, rates, reached = [], [], 0.0
    while reached < unit[-1] * (1 + 1e-9):  # a margin for rounding: the path must outlast them all
        jumps = path.integers(1, len(means), size=CHUNK)
        states = (state + np.concatenate(([0], np.cumsum(jumps)))) % len(means)
        state = int(states[-1])
        durations.append(means[states[:-1]] * path.standard_exponential(CHUNK))
        rates.append(rate_of[states[:-1]])
        reached += float(durations[-1] @ rates[-1])
    times = inverted(unit, np.concatenate(durations), np.concatenate(rates))
    return np.maximum.accumulate(times)
