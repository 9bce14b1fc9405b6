"""How alike the misses of neighbours are to be expected, by the load: before anything is simulated.

Whoever waits too long does so in a busy period, with many others. How much the missed share of a
run varies therefore follows from the load (``experiments.reporting.support``), and unlike what a
few runs show of it, it is no outcome of their luck.
"""

from dataclasses import replace
from typing import Protocol

from experiments.planning.promises import Promise
from experiments.reporting.support import OF_TOKENS, TOO_NEAR, Load


class Missed(Protocol):
    """Counts of some runs."""

    against: dict[str, int]
    waited: dict[str, int]


def effect_of_load(load: Load) -> float:
    """Return the design effect of waits that are too long.

    That of ``TOO_NEAR`` beyond it, where there is no steady state; and 1 where a queue grows
    without end, so that luck has no part in it.
    """
    if load.beyond:
        return 1.0
    nearest = TOO_NEAR * load.capacity_per_s
    return replace(load, rate_per_s=min(load.rate_per_s, nearest)).effect


def expected_effect(promise: Promise, counts: Missed, waits: float | None) -> float:
    """Return the design effect of all misses of a promise, of some runs.

    Whoever waited too long counts with ``waits``, the others with that of the time per token; 1
    where the load is not known, so that the runs alone tell.
    """
    missed = counts.against[promise.key]
    return effect_of(promise, counts.waited[promise.key] / missed if missed else 1.0, waits)


def effect_of(promise: Promise, share: float, waits: float | None) -> float:
    """Return the same where a share of the requests that miss a promise waited too long."""
    if all(name.startswith("tpot") for name in promise.limits):
        return OF_TOKENS
    return 1.0 if waits is None else share * waits + (1 - share) * OF_TOKENS
