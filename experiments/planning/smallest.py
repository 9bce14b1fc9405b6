"""The smallest number of replicas that keeps an SLO: integer bisection, a sequential test a probe.

Fewer replicas never keep what more do not. A probe that ends undecided counts as not kept: a
planner buys one more.
"""

from collections.abc import Callable, Generator, Sequence

from experiments.planning.probes import SteadyProbe, settle
from experiments.planning.promises import Promise
from experiments.planning.sequential import Verdict
from experiments.planning.trials import Ask
from experiments.study.document import Study
from model.counts import count_of
from model.dataclass import dataclass

StudyAt = Callable[[int], Study]
"""The settled study with so many replicas."""


def bisection(least: int, first: int, most: int) -> Generator[int, bool, int | None]:
    """Ask whether counts keep an SLO; return the smallest that does, None beyond ``most``.

    ``least - 1`` is known not to.
    """
    misses, count = least - 1, max(least, min(first, most))
    step = max(1, count // 16)
    keeps: int | None = None
    while keeps is None or keeps - misses > 1:
        if keeps is not None:
            count = (misses + keeps) // 2
        if count > most:
            return None
        if (yield count):
            keeps = count
        else:
            misses = count
            if keeps is None:
                count = misses + step
                step *= 2
                if misses < most < count:
                    count = most
    return keeps


@dataclass(frozen=True, slots=True)
class Smallest:
    """What a bisection found."""

    replicas: int | None
    """None: more than were allowed."""
    probes: dict[int, SteadyProbe]
    """By replicas, in the order of asking."""


def smallest(
    study_at: StudyAt, label: str, ask: Ask, *, least: int, first: int, most: int,
    promises: Sequence[Promise], confidence: float,
) -> Smallest:  # fmt: skip
    """Find the smallest number of replicas that keeps every promise of an SLO."""
    probes: dict[int, SteadyProbe] = {}
    asking = bisection(least, first, most)
    try:
        count = next(asking)
        while True:
            name = ", ".join(filter(None, (label, count_of(count, "replica"))))
            probe = probes[count] = SteadyProbe(study_at(count), name, promises, confidence)
            settle([probe], ask)
            count = asking.send(probe.verdict is Verdict.KEPT)
    except StopIteration as ended:
        return Smallest(ended.value, probes)
