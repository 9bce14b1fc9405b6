"""Tests of one deployment: of steady traffic by its missed requests; of days see ``day_probe``.

A probe asks for as many runs as its next look needs, and remembers ``counts`` only.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import islice
from typing import Protocol

from experiments.planning.counts import Counts
from experiments.planning.expected import effect_of_load, expected_effect
from experiments.planning.lengths import WARMUP, load_that_waits, long_for_its_load
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import (
    FAR,
    LOOKS,
    Batch,
    Verdict,
    decide,
    hardly_kept,
    is_over,
    no_luck,
    surely_missed,
)
from experiments.planning.trials import Ask, Trial
from experiments.reporting.support import Load
from experiments.study.document import Study
from model.dataclass import dataclass
from workloads.arrivals import ClosedLoop

SHORTER = 4
"""A first look at steady traffic is a quarter of a run,"""
PLAIN = 20.0
"""and decides where the odds of a miss are so many times what is allowed: 17% for 1%. Of so few
requests one busy period makes 5% now and then, where 0.7% miss in the long run."""

MOST_ALLOWED = 0.1
"""Where no more than this may miss, a short run all of whose requests miss says so, whatever the
load: it begins empty, so its mean is below that of a queue in its steady state, and a run like that
would be ten times the mean."""


class Probe(Protocol):
    """A test that asks for runs until it is over."""

    most: int
    """It ends undecided after so many runs, of a day or of steady traffic."""

    @property
    def few(self) -> int:
        """So many of them decide what is clear."""

    @property
    def every(self) -> int:
        """So many it has at most, where its verdict can change the answer."""

    @property
    def study(self) -> Study:
        """What is tested, as it is simulated."""

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict, or it has had all of them."""

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""

    @property
    def missed(self) -> float:
        """Share that missed: of the requests, or of the windows."""

    @property
    def runs(self) -> int:
        """How many it rests on, whole ones where it has come to them."""

    @property
    def asked(self) -> int:
        """How many have been simulated, short ones too."""

    @property
    def gave_up(self) -> bool:
        """Whether it ended undecided with runs to spare, as they hardly could find it kept."""

    def next(self) -> list[Trial]:
        """The runs that come next, side by side: no fewer could decide anything."""

    def add(self, samples: Sequence[Sample]) -> None:
        """Take note of what they say."""


@dataclass(slots=True)
class SteadyProbe:
    """Steady traffic: the share of requests that miss the SLO, by batches of them."""

    study: Study
    label: str
    promises: Sequence[Promise]
    confidence: float
    most: int = LOOKS[-1]
    counts: Counts = field(init=False)
    batches: list[dict[str, tuple[Batch, ...]]] = field(default_factory=list)
    """Of each run, by the key of the promise."""
    first: Counts | None = None
    """Of a short run that comes before the others, and shows who has no hope at all."""
    opening: dict[str, tuple[Batch, ...]] = field(default_factory=dict)
    """Its batches, by the key of the promise."""
    earlier: int = 0
    """Runs that kept it, and were too short for their load."""
    load_of: Callable[[Study], Load | None] = load_that_waits
    load: Load | None = None
    """Of the study, where it is known and a limit is about a wait."""
    effects: dict[str, list[float]] = field(default_factory=dict)
    """Design effect of the misses that is to be expected after each run, by key of the promise."""

    def __post_init__(self) -> None:
        self.counts = Counts(self.promises)
        self.effects = {one.key: [] for one in self.promises}

    @property
    def _too_near(self) -> bool:
        """Whether the load is so near the capacity that hardly a limit on a wait is kept."""
        return self.load is not None and self.load.too_near

    @property
    def _grows(self) -> bool:
        """Whether its queue grows without end, by the capacity that was measured."""
        return self.load is not None and self.load.share >= 1

    def _effect(self, promise: Promise, counts: Counts) -> float:
        waits = None if self.load is None else effect_of_load(self.load)
        return expected_effect(promise, counts, waits, self.study)

    @property
    def few(self) -> int:
        """So many runs decide what is clear."""
        return LOOKS[0]

    @property
    def every(self) -> int:
        """So many runs it has at most."""
        return LOOKS[-1]

    @property
    def _is_hopeless(self) -> bool:
        first = self.first
        if first is None:
            return False
        return any(self._is_plain(first, one) for one in self.promises)

    def _is_plain(self, first: Counts, promise: Promise) -> bool:
        """Whether the short run alone says that a promise is missed, by no ill luck."""
        share, allowed = first.against[promise.key] / max(first.measured, 1), promise.allowed
        if _all_miss(first, promise):
            return True
        effect = 1.0 if self._too_near else self._effect(promise, first)
        if not no_luck(share, first.measured, allowed, effect):
            return False
        if self._grows and share > FAR * allowed:
            return True
        if share * (1 - allowed) > PLAIN * allowed * (1 - share):
            return True
        opening = self.opening[promise.key]
        return self._is_futile and surely_missed(opening, allowed, self.confidence)

    @property
    def _is_futile(self) -> bool:
        """Whether the short run says that all the others hardly would find the limit kept."""
        if self.first is None or self.batches or self.earlier:
            return False
        count = self.study.workload.num_requests
        whole = self.first.measured if count is None else count * (1 - WARMUP)
        length = self.first.measured / max(whole, 1)
        return any(
            hardly_kept(self.opening[one.key], length, one.allowed, self.confidence, self.most)
            for one in self.promises
        )

    def _of(self, promise: Promise) -> list[tuple[Batch, ...]]:
        return [run[promise.key] for run in self.batches]

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict."""
        if self._is_hopeless or self.verdict is Verdict.MISSED or self._is_futile:
            return True
        return all(self._is_over(one, self.most) for one in self.promises)

    def _is_over(self, promise: Promise, most: int) -> bool:
        """Whether no further run of so many would change the verdict on a promise."""
        return is_over(
            self._of(promise), promise.allowed, self.confidence, most,
            self.effects[promise.key], too_near=self._too_near,
        )  # fmt: skip

    @property
    def verdict(self) -> Verdict:
        """What the runs so far say."""
        if self._is_hopeless:
            return Verdict.MISSED
        return together([self._decided(one) for one in self.promises])

    def _decided(self, promise: Promise) -> Verdict:
        return decide(
            self._of(promise), promise.allowed, self.confidence, self.effects[promise.key],
            too_near=self._too_near,
        )  # fmt: skip

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

    @property
    def asked(self) -> int:
        """How many have been asked for, the short ones too."""
        return len(self.batches) + self.earlier + (self.first is not None)

    @property
    def gave_up(self) -> bool:
        """Whether it is undecided, and over with runs to spare of all that it may have."""
        if self.runs >= self.every or self.verdict is not Verdict.UNDECIDED:
            return False
        open_ones = [one for one in self.promises if self._decided(one) is Verdict.UNDECIDED]
        return self._is_futile or any(self._is_over(one, self.every) for one in open_ones)

    def next(self) -> list[Trial]:
        """The short run; then as many as the next look needs, with seeds after the first."""
        if self.first is None:
            return [Trial(shorter(self.study), self.study.seed, self.label)]
        seed = self.study.seed + 1
        return [
            Trial(self.study, seed + number, self.label)
            for number in range(self.runs, next_look(LOOKS, self.runs, self.most))
        ]

    def add(self, samples: Sequence[Sample]) -> None:
        """Take note of what they say."""
        if self.first is None:
            (short,) = samples
            self.first = Counts(self.promises)
            self.first.add(short)
            self.opening = {one.key: short.batches(one) for one in self.promises}
            if not any(_all_miss(self.first, one) for one in self.promises):
                self.load = self.load_of(self.study)
            return
        for sample in samples:
            self.batches.append({one.key: sample.batches(one) for one in self.promises})
            self.counts.add(sample)
            for one in self.promises:
                self.effects[one.key].append(self._effect(one, self.counts))
        if self.verdict is Verdict.KEPT and not self.earlier:
            self._ask_again()

    def _ask_again(self) -> None:
        """Let what short runs keep be kept by such as are long enough for the load, if others are.

        What they miss is missed all the same.
        """
        longer = None if self.load is None else long_for_its_load(self.study, self.load)
        if longer is not None:
            self.study, self.earlier = longer, len(self.batches)
            self.batches, self.counts = [], Counts(self.promises)
            self.effects = {one.key: [] for one in self.promises}


def _all_miss(first: Counts, promise: Promise) -> bool:
    """Tell whether every request of a short run counts against a promise that hardly allows it."""
    return promise.allowed <= MOST_ALLOWED and first.against[promise.key] == first.measured > 0


def shorter(study: Study) -> Study:
    """Return a study with a quarter of its requests; a part of a day stays as long as it is.

    Users of a closed loop all begin at once. What is not measured of them stays as long as it is,
    or the rush of the first questions would be a good part of what a short run shows.
    """
    count = study.workload.num_requests
    if count is None:
        return study
    workload = study.workload.model_copy(update={"num_requests": max(1, count // SHORTER)})
    changes: dict[str, object] = {"workload": workload}
    if isinstance(workload.arrivals, ClosedLoop):
        changes["warmup_fraction"] = SHORTER * WARMUP
    return study.model_copy(update=changes)


def next_look(looks: Sequence[int], done: int, most: int) -> int:
    """Return after how many runs the next look is, of those up to ``most``."""
    return min([*(look for look in looks if look > done), most])


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of an SLO from those of its promises: it keeps all of them or misses."""
    if Verdict.MISSED in verdicts:
        return Verdict.MISSED
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.KEPT


def settle(probes: Sequence[Probe], ask: Ask) -> None:
    """Run tests side by side until each is over."""
    for _ in range(4 * LOOKS[-1]):
        left = [probe for probe in probes if not probe.is_over]
        if not left:
            return
        asked = [probe.next() for probe in left]
        answers = iter(ask([trial for trials in asked for trial in trials]))
        for probe, trials in zip(left, asked, strict=True):
            probe.add(list(islice(answers, len(trials))))
