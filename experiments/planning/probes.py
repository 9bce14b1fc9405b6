"""Tests of one deployment: of steady traffic by its missed requests, of a day by its windows.

A probe asks for one run after the other and remembers counts only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import (
    HOPELESS,
    LOOKS,
    Batch,
    Verdict,
    decide,
    is_over,
)
from experiments.planning.traffic import Day
from experiments.planning.trials import Ask, Trial
from experiments.reporting.intervals import share_ends
from experiments.reporting.student import t_quantile
from experiments.study.document import Study

Ints = npt.NDArray[np.int64]
DAY_LOOKS = (1, 2, 3, 4, 6, 8, 10)
"""After so many days (or stretches) windows are judged."""
SHORTER = 4
"""A first look at steady traffic is a quarter of a run."""
ENDLESS = 1e6
"""Degrees of freedom at which Student's t is the normal distribution."""


class Probe(Protocol):
    """A test that asks for runs until it is over."""

    @property
    def study(self) -> Study:
        """What is tested, as it is simulated."""

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict."""

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""

    @property
    def missed(self) -> float:
        """Share that missed: of the requests, or of the windows."""

    @property
    def runs(self) -> int:
        """How many have been asked for."""

    def next(self) -> Trial:
        """The run that comes next."""

    def add(self, sample: Sample) -> None:
        """Take note of what it says."""


@dataclass(slots=True)
class Counts:
    """What remains of the runs of a probe."""

    promises: Sequence[Promise]
    measured: int = 0
    against: dict[str, int] = field(default_factory=dict)
    """Requests that count against each promise, by its key."""
    by_limit: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Add a run."""
        self.measured += sample.measured
        for promise in self.promises:
            self.against[promise.key] = self.against.get(promise.key, 0) + sample.count(promise)
        for name, mask in sample.by_limit.items():
            self.by_limit[name] = self.by_limit.get(name, 0) + int(mask.sum())

    @property
    def worst(self) -> Promise:
        """The promise of which the largest part of what it allows is used up."""
        return max(self.promises, key=lambda one: self.against.get(one.key, 0) / one.allowed)

    @property
    def missed(self) -> int:
        """Requests that count against that promise."""
        return self.against.get(self.worst.key, 0)

    @property
    def binds(self) -> str:
        """Its limit that most of them miss; empty where none missed."""
        if not self.missed:
            return ""
        return max(self.worst.limits, key=lambda name: self.by_limit[name])


@dataclass(slots=True)
class SteadyProbe:
    """Steady traffic: the share of requests that miss the SLO, by batches of them."""

    study: Study
    label: str
    promises: Sequence[Promise]
    confidence: float
    counts: Counts = field(init=False)
    batches: list[dict[str, tuple[Batch, ...]]] = field(default_factory=list)
    """Of each run, by the key of the promise."""
    first: Counts | None = None
    """Of a short run that comes before the others, and shows who has no hope at all."""

    def __post_init__(self) -> None:
        self.counts = Counts(self.promises)

    @property
    def _is_hopeless(self) -> bool:
        first = self.first
        if first is None:
            return False
        return first.missed > HOPELESS * first.worst.allowed * first.measured

    def _of(self, promise: Promise) -> list[tuple[Batch, ...]]:
        return [run[promise.key] for run in self.batches]

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict."""
        if self._is_hopeless or self.verdict is Verdict.MISSED:
            return True
        return all(is_over(self._of(one), one.allowed, self.confidence) for one in self.promises)

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""
        if self._is_hopeless:
            return Verdict.MISSED
        return together(
            [decide(self._of(one), one.allowed, self.confidence) for one in self.promises]
        )

    @property
    def missed(self) -> float:
        """Share of the requests that count against the worst promise."""
        return self.shown.missed / max(self.shown.measured, 1)

    @property
    def shown(self) -> Counts:
        """The counts that it rests on."""
        return self.counts if self.batches or self.first is None else self.first

    @property
    def runs(self) -> int:
        """How many have been asked for, the short one apart."""
        return len(self.batches)

    def next(self) -> Trial:
        """The run that comes next; seeds begin after the study's first."""
        if self.first is None:
            return Trial(shorter(self.study), self.study.seed, self.label)
        return Trial(self.study, self.study.seed + 1 + self.runs, self.label)

    def add(self, sample: Sample) -> None:
        """Take note of what it says."""
        if self.first is None:
            self.first = Counts(self.promises)
            self.first.add(sample)
            return
        self.batches.append({one.key: sample.batches(one) for one in self.promises})
        self.counts.add(sample)


def shorter(study: Study) -> Study:
    """Return a study with a quarter of its requests; a part of a day stays as long as it is."""
    count = study.workload.num_requests
    if count is None:
        return study
    workload = study.workload.model_copy(update={"num_requests": max(1, count // SHORTER)})
    return study.model_copy(update={"workload": workload})


@dataclass(frozen=True, slots=True)
class WindowRun:
    """The windows of one run."""

    seed: int
    missed: Mapping[str, Ints]
    """Requests that count against each promise, by its key and by window."""
    measured: Ints

    def lost(self, promises: Sequence[Promise]) -> Ints:
        """In which windows more count against a promise than it allows: 1 or 0 each."""
        lost = [self.missed[one.key] > one.allowed * self.measured for one in promises]
        found: Ints = np.logical_or.reduce(lost).astype(np.int64)
        return found


@dataclass(slots=True)
class DayProbe:
    """A day: first its busiest stretch alone, then all of it, by the share of windows that miss.

    Windows that miss in the busiest stretch are at least as many of the day, so a deployment that
    misses too many there is out after an hour's simulation.
    """

    busiest: Study
    whole: Study
    day: Day
    label: str
    promises: Sequence[Promise]
    """Kept or missed by each window."""
    share: float
    """Missed windows of the day."""
    confidence: float
    counts: Counts = field(init=False)
    hours: list[WindowRun] = field(default_factory=list)
    days: list[WindowRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = Counts(self.promises)

    @property
    def study(self) -> Study:
        """The whole day."""
        return self.whole

    @property
    def _first(self) -> Verdict:
        lost = [int(run.lost(self.promises).sum()) for run in self.hours]
        return decide_windows(lost, self.day.windows, self.share, self.confidence)

    @property
    def _second(self) -> Verdict:
        lost = [int(run.lost(self.promises).sum()) for run in self.days]
        return decide_windows(lost, self.day.windows, self.share, self.confidence)

    @property
    def _in_stretch(self) -> bool:
        """Whether the busiest stretch is still asked: two of it, and more while it looks bad."""
        if self._first is not Verdict.UNDECIDED:
            return False
        lost = sum(int(run.lost(self.promises).sum()) for run in self.hours)
        bad = lost > self.share * self.day.windows * len(self.hours)
        return len(self.hours) < (DAY_LOOKS[-1] if bad else 2)

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict."""
        if self._first is Verdict.MISSED:
            return True
        if self._in_stretch:
            return False
        return self._second is not Verdict.UNDECIDED or len(self.days) >= DAY_LOOKS[-1]

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""
        if self._first is Verdict.MISSED:
            return Verdict.MISSED
        return self._second

    @property
    def missed(self) -> float:
        """Share of the windows of the day; of what was simulated of it."""
        runs = self.days or self.hours
        lost = sum(int(run.lost(self.promises).sum()) for run in runs)
        return lost / max(self.day.windows * len(runs), 1)

    @property
    def runs(self) -> int:
        """How many have been asked for."""
        return len(self.hours) + len(self.days)

    def next(self) -> Trial:
        """The run that comes next; seeds begin after the study's first."""
        if self._in_stretch:
            seed = self.busiest.seed + 1 + len(self.hours)
            return Trial(self.busiest, seed, f"{self.label}, busiest stretch")
        return Trial(self.whole, self.whole.seed + 1 + len(self.days), f"{self.label}, whole")

    def add(self, sample: Sample) -> None:
        """Take note of what it says."""
        window_s, day = self.day.window_s, self.day
        if self._in_stretch:
            seed = self.busiest.seed + 1 + len(self.hours)
            count = day.beyond - day.first + day.lead
            self.hours.append(WindowRun(seed, *sample.windows(window_s, count)))
            return
        self.counts.add(sample)
        seed = self.whole.seed + 1 + len(self.days)
        self.days.append(WindowRun(seed, *sample.windows(window_s, day.windows)))


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of an SLO from those of its promises: it keeps all of them or misses."""
    if Verdict.MISSED in verdicts:
        return Verdict.MISSED
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.KEPT


def decide_windows(lost: Sequence[int], windows: int, share: float, confidence: float) -> Verdict:
    """Tell whether the share of missed windows stays below a limit, by several runs of a day.

    Wilson's interval with as many independent windows as the runs' differences say, at most all of
    them, at a level that all looks share. A window that misses in one run of the same rates mostly
    does in the others, so that all of them as if independent is on the safe side.

    Args:
        lost: missed windows of each run.
        windows: of one run.
        share: that may miss.
        confidence: of the verdict.
    """
    if not lost:
        return Verdict.UNDECIDED
    if lost[0] > HOPELESS * share * windows and lost[0] > 1:
        return Verdict.MISSED
    level = 1 - (1 - confidence) / (2 * len(DAY_LOOKS))
    for look in DAY_LOOKS:
        if look > len(lost):
            break
        shares = [each / windows for each in lost[:look]]
        mean = math.fsum(shares) / look
        error = 0.0
        if look > 1:
            variance = math.fsum((each - mean) ** 2 for each in shares) / (look - 1)
            error = math.sqrt(variance / look)
        if error and look < 3:
            continue  # two runs that differ say too little about how much runs differ
        quantile = t_quantile(level, look - 1) if error else t_quantile(level, ENDLESS)
        low, high = share_ends(mean, error, quantile, float(windows * look))
        if high < share:
            return Verdict.KEPT
        if low > share:
            return Verdict.MISSED
    return Verdict.UNDECIDED


def settle(probes: Sequence[Probe], ask: Ask) -> None:
    """Run tests side by side until each is over."""
    for _ in range(4 * LOOKS[-1]):
        left = [probe for probe in probes if not probe.is_over]
        if not left:
            return
        for probe, sample in zip(left, ask([probe.next() for probe in left]), strict=True):
            probe.add(sample)
