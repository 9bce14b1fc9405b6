"""A test of one deployment by the windows of a day: its busiest stretch first, then all of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt

from experiments.planning.counts import Counts
from experiments.planning.probes import next_look
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import HOPELESS, Verdict
from experiments.planning.traffic import Day
from experiments.planning.trials import Trial
from experiments.reporting.intervals import share_ends
from experiments.reporting.student import t_quantile
from experiments.study.document import Study
from model.dataclass import dataclass

Ints = npt.NDArray[np.int64]
HOURS = 2
"""Runs of the busiest stretch of a day, at least."""
DAY_LOOKS = (1, 2, 3, 4, 6, 8, 10)
"""After so many days (or stretches) windows are judged."""
ENDLESS = 1e6
"""Degrees of freedom at which Student's t is the normal distribution."""


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
    most: int = DAY_LOOKS[-1]
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
        return self._decided([int(run.lost(self.promises).sum()) for run in self.hours])

    @property
    def _second(self) -> Verdict:
        return self._decided([int(run.lost(self.promises).sum()) for run in self.days])

    @property
    def _in_stretch(self) -> bool:
        """Whether the busiest stretch is still asked: two of it, and more while it looks bad."""
        if self._first is not Verdict.UNDECIDED or self.days:
            return False
        lost = sum(int(run.lost(self.promises).sum()) for run in self.hours)
        bad = lost > self.share * self.day.windows * len(self.hours)
        return len(self.hours) < (DAY_LOOKS[-1] if bad else HOURS)

    @property
    def few(self) -> int:
        """Days that decide it if no window of them misses."""
        lost: list[int] = []
        while len(lost) < DAY_LOOKS[-1]:
            lost.append(0)
            if self._decided(lost) is Verdict.KEPT:
                break
        return len(lost)

    @property
    def every(self) -> int:
        """So many days it has at most."""
        return DAY_LOOKS[-1]

    def _decided(self, lost: Sequence[int]) -> Verdict:
        return decide_windows(lost, self.day.windows, self.share, self.confidence)

    @property
    def is_over(self) -> bool:
        """Whether no further run would change its verdict."""
        if self._first is Verdict.MISSED:
            return True
        if self._in_stretch:
            return False
        return self._second is not Verdict.UNDECIDED or len(self.days) >= self.most

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

    @property
    def asked(self) -> int:
        """All of them."""
        return self.runs

    @property
    def gave_up(self) -> bool:
        """Never: a day has all of its runs, or decides."""
        return False

    def next(self) -> list[Trial]:
        """Stretches, then whole days, as many as the next look needs; seeds after the first."""
        seed = self.study.seed + 1
        if self._in_stretch:
            text, done = f"{self.label}, busiest stretch", len(self.hours)
            return [
                Trial(self.busiest, seed + number, text)
                for number in range(done, max(HOURS, next_look(DAY_LOOKS, done, DAY_LOOKS[-1])))
            ]
        text, done = f"{self.label}, whole", len(self.days)
        return [
            Trial(self.whole, seed + number, text)
            for number in range(done, max(self.few, next_look(DAY_LOOKS, done, self.most)))
        ]

    def add(self, samples: Sequence[Sample]) -> None:
        """Take note of what they say."""
        window_s, day = self.day.window_s, self.day
        stretches = self._in_stretch
        count = day.beyond - day.first + day.lead if stretches else day.windows
        for sample in samples:
            runs = self.hours if stretches else self.days
            seed = self.study.seed + 1 + len(runs)
            runs.append(WindowRun(seed, *sample.windows(window_s, count)))
            if not stretches:
                self.counts.add(sample)


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
    level = _level(confidence)
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


def least_share(windows: int, confidence: float) -> float:
    """Return the share of missed windows that all days together cannot rule out, if none misses.

    Whoever may miss no more than this is never told to keep it.
    """
    quantile = t_quantile(_level(confidence), ENDLESS)
    return share_ends(0.0, 0.0, quantile, float(windows * DAY_LOOKS[-1]))[1]


def _level(confidence: float) -> float:
    """Return the one-sided level of each look."""
    return 1 - (1 - confidence) / (2 * len(DAY_LOOKS))
