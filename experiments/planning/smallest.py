"""The smallest number of replicas that keeps an SLO: integer bisection, a sequential test a probe.

Fewer replicas never keep what more do not. A probe that ends undecided counts as not kept: a
planner buys one more.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from experiments.planning.samples import Sample
from experiments.planning.sequential import LOOKS, Verdict, decide, is_over
from experiments.planning.trials import Ask, Trial
from experiments.study.document import Study

StudyAt = Callable[[int], Study]
"""The settled study with so many replicas."""


@dataclass(slots=True)
class Probe:
    """A test of one study, which asks for one run after the other."""

    study: Study
    label: str
    allowed: float
    confidence: float
    samples: list[Sample] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""
        return decide([one.batches() for one in self.samples], self.allowed, self.confidence)

    @property
    def is_over(self) -> bool:
        """Whether no further run would change it."""
        batches = [one.batches() for one in self.samples]
        return is_over(batches, self.allowed, self.confidence)

    @property
    def missed(self) -> float:
        """Share of all requests so far."""
        measured = sum(one.measured for one in self.samples)
        return sum(int(one.missed.sum()) for one in self.samples) / max(measured, 1)

    def next(self) -> Trial:
        """The run that comes next; seeds begin after the study's first."""
        seed = self.study.seed + 1 + len(self.samples)
        return Trial(self.study, seed, self.label)


def settle(probes: Sequence[Probe], ask: Ask) -> None:
    """Run tests side by side until each is over."""
    for _ in range(LOOKS[-1]):
        left = [probe for probe in probes if not probe.is_over]
        if not left:
            return
        for probe, sample in zip(left, ask([probe.next() for probe in left]), strict=True):
            probe.samples.append(sample)


def bisection(least: int, first: int, most: int) -> Generator[int, bool, int | None]:
    """Ask whether counts keep an SLO; return the smallest that does, None beyond ``most``.

    ``least - 1`` is known not to.
    """
    misses, count, step = least - 1, max(least, min(first, most)), 1
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
    probes: dict[int, Probe]
    """By replicas, in the order of asking."""


def smallest(
    study_at: StudyAt, label: str, ask: Ask, *, least: int, first: int, most: int,
    allowed: float, confidence: float,
) -> Smallest:  # fmt: skip
    """Find the smallest number of replicas whose missed share stays below what is allowed."""
    probes: dict[int, Probe] = {}
    asking = bisection(least, first, most)
    try:
        count = next(asking)
        while True:
            name = f"{label}, {count} replicas" if label else f"{count} replicas"
            probe = probes[count] = Probe(study_at(count), name, allowed, confidence)
            settle([probe], ask)
            count = asking.send(probe.verdict is Verdict.KEPT)
    except StopIteration as ended:
        return Smallest(ended.value, probes)
