"""How alike the misses of neighbours are to be expected, by the load: before anything is simulated.

Whoever waits too long does so in a busy period, with many others. How much the missed share of a
run varies therefore follows from the load (``experiments.reporting.support``), and unlike what a
few runs show of it, it is no outcome of their luck. Whoever answers too slowly does so with all
that are served at the same time, so that there it follows from how many these are.
"""

from dataclasses import replace
from typing import Protocol

from experiments.planning.lengths import in_system, load_that_waits
from experiments.planning.promises import Promise
from experiments.reporting.support import OF_TOKENS, TOO_NEAR, Load
from experiments.study.document import Study
from workloads.arrivals import ClosedLoop

TOGETHER = 0.2
"""Design effect of answers that are too slow, over the requests that are in the system at once at
most. Where 1% missed it was 0.17 to 0.9 of them in nine systems (26 to 350 requests, 44 to 97% of
the capacity, one to four replicas, Poisson and bursty arrivals): 20 of two H100 with 109, 106 of
four A100 with 344. The least of these is safe to expect: with more, intervals that were wide enough
would become wider."""


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


def effect_of_tokens(study: Study) -> float:
    """Return the design effect of answers that are too slow.

    Users and sessions ask less where answers are slow, which nobody has measured: the least.
    """
    workload = study.workload
    if isinstance(workload.arrivals, ClosedLoop) or workload.has_sessions or workload.has_clock:
        return OF_TOKENS
    return max(OF_TOKENS, TOGETHER * in_system(study))


def expected_effect(
    promise: Promise, counts: Missed, waits: float | None, study: Study
) -> float:  # fmt: skip
    """Return the design effect of all misses of a promise, of some runs of a study.

    Whoever waited too long counts with ``waits``, the others with that of the time per token; 1
    where the load is not known, so that the runs alone tell.
    """
    missed = counts.against[promise.key]
    share = counts.waited[promise.key] / missed if missed else 1.0
    return effect_of(promise, share, waits, study) or 1.0


def effect_at(study: Study, promise: Promise, share: float) -> float:
    """Return the same where a share of the requests that miss a promise waited too long.

    0 where the load is not known, so that nothing is expected.
    """
    load = load_that_waits(study)
    return effect_of(promise, share, None if load is None else effect_of_load(load), study)


def effect_of(promise: Promise, share: float, waits: float | None, study: Study) -> float:
    """Return the same, with that of the waits where it is known."""
    if all(name.startswith("tpot") for name in promise.limits):
        return effect_of_tokens(study)
    if waits is None:
        return 0.0
    return waits if share == 1 else share * waits + (1 - share) * effect_of_tokens(study)
