"""The highest value of a key that keeps an SLO, with an interval and what binds there.

One seed finds the neighbourhood; eight others, at two values some 5% below and above it, give a
line whose root is the answer, and the jackknife its interval. Then as many more as that asks for.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field

import numpy as np
import numpy.typing as npt

from experiments.planning.capacity.direction import (
    are_alike,
    is_no_easier_below,
    is_no_harder_above,
    is_traffic,
)
from experiments.planning.capacity.found import Highest, Outcome, Variable
from experiments.planning.capacity.lines import Line, far, is_around, steepness
from experiments.planning.expected import effect_at
from experiments.planning.logit_line import (
    NEAR,
    Pair,
    Root,
    Scale,
    distance,
    next_guess,
    root,
    seeds_needed,
)
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample, binding, waited, worst
from experiments.planning.trials import Ask, Trial
from experiments.study.document import Study
from experiments.study.errors import StudyError
from model.dataclass import dataclass

SEEDS = 8
"""Of the first pair, and then as many more as its interval asks for: of 160 seeds of an A100 and of
80 of four, the interval that comes of it holds the root of all in 95 and 94% of 1,500 draws, as it
does with 16 at first, for a seventh and a third less to simulate."""
SCOUTS = 4
"""Seeds of a pair that shows where the pair should be."""
MOST_SEEDS = 48
SPREAD, OUTSIDE = 0.05, 1.03
"""The pair lies so far below and above, and a root so far outside is still that of the line,"""
BENT_SPREAD, BENT_OUTSIDE = 0.03, 1.01
"""where the capacity is known, on whose scale the curve is straight; elsewhere it bends."""
OF_TOKENS = 1.25
"""Of the capacity: where TPOT alone binds, the odds are straight in the room to so much. Tokens
come slower with every request that is served beside them, whether or not one waits, so the capacity
is no pole. With the room to it the root of four A100 at 96% of it was 0.45% too high, and so it is
0.06% too low; of two H100 at 70% 0.3 and 0.2% too high. Where half of the misses waited, as
on an A100 at 86%, it would be 0.9% too low, and is 0.1% off."""
HARDLY = 0.1
"""Share of the misses in which a wait has part, below which TPOT alone binds."""
LEAST_ROOM = 0.5
"""Of the room that a value leaves to the capacity, the higher one of its pair leaves so much."""
BRACKET = 1.04
"""Ratio of two values between which the pair is put without a further look."""
STEEP = 5.0
"""A pair between which the log odds grow by more is halved: hardly a miss at one value, and most at
the other, say little of where between them the limit is. Where all requests are alike, 3% more
traffic takes the misses from none to half."""
NARROWEST = 1.005
"""Ratio of the values of a pair that is not halved any more."""
MOST_MOVES = 4
FIRST = (0.5, 0.98)
"""Shares of the capacity between which an SLO's rate is looked for first."""
DOWN = 0.6
LEAST = 0.05
"""Share of the capacity, or of the study's own value, below which nothing is looked for."""
MOST_DOUBLINGS = 20


@dataclass(slots=True)
class Search:
    """Looks for the highest value of one point.

    Args:
        varied: the point and its key.
        ask: gives what runs say.
        promises: of the SLO; the value is the highest that keeps all of them.
        target: wanted half-width of the interval, relative.
        label: what messages call the point.
        capacity: beyond which every queue grows, in the unit of the key; NaN if not known.
    """

    varied: Variable
    ask: Ask
    promises: Sequence[Promise]
    target: float = 0.02
    label: str = ""
    capacity: float = math.nan
    confidence: float = 0.95
    begin_with: int = SEEDS
    """Seeds of the first pair."""
    most_seeds: int = MOST_SEEDS
    """Of the last pair: an interval that would take more is as wide as it is."""
    expected: Callable[[Study, Promise, float], float] = effect_at
    """Design effect of the misses of a promise at a value, of which a share waited; 0: not known.
    It bounds how narrow an interval can be."""
    waited: float = field(default=1.0, init=False)
    """Share of the misses near the answer in which a wait has part, as far as it is known."""
    tried: dict[float, float] = field(default_factory=dict, init=False)
    """Value to distance."""
    shares: dict[float, float] = field(default_factory=dict, init=False)
    strains: dict[float, float] = field(default_factory=dict, init=False)

    def run(self) -> Highest:
        """Search."""
        ended = self._bracket()
        if ended is not None:
            return ended
        while True:
            below = max(value for value, far in self.tried.items() if far <= 0)
            above = min(value for value, far in self.tried.items() if far > 0)
            near = min(self.tried, key=lambda value: abs(self.tried[value]))
            if abs(self.tried[near]) < NEAR:
                return self._line(near)
            if above / below < BRACKET or (self.varied.is_whole and above - below <= 1):
                return self._line(math.sqrt(above * below))
            self._try([next_guess([(below, self.tried[below]), (above, self.tried[above])])])

    def around(self, value: float) -> Highest:
        """Search with no more than the line, from a value that is about right."""
        return self._line(self._below_capacity(value))

    def _bracket(self) -> Highest | None:
        """Find a value that keeps the SLO and one that does not; or what there is instead."""
        if not math.isnan(self.capacity):
            lowest, highest = (share * self.capacity for share in FIRST)
            self._try([lowest, highest])
            if self.tried[highest] <= 0 and self._others_keep(highest):
                return self._ended("capacity", highest)
            least = LEAST * self.capacity
        else:
            first = self.varied.value
            self._try([first])
            least = 1.0 if self.varied.is_whole else LEAST * first
            ended = self._doubled(first)
            if ended is not None:
                return ended
            lowest = min(self.tried)
        while self.tried[lowest] > 0:
            if lowest <= least:
                return self._nothing_keeps_it(lowest)
            lowest = max(least, lowest * DOWN)
            lowest = math.floor(lowest) if self.varied.is_whole else lowest
            self._try([lowest])
            if not self._knows_the_way and is_no_easier_below(self.strains, self.varied.value):
                return self._nothing_keeps_it(lowest)
        return None

    @property
    def _knows_the_way(self) -> bool:
        return not math.isnan(self.capacity) or is_traffic(self.varied.key)

    def _doubled(self, first: float) -> Highest | None:
        """Double a value until it misses the SLO, if it ever does."""
        highest = first
        for _ in range(MOST_DOUBLINGS):
            if self.tried[highest] > 0:
                return None
            if not self._knows_the_way and is_no_harder_above(self.strains, first):
                return self._ended("not harder", highest)
            try:
                self._try([2 * highest])
            except StudyError as error:
                return self._ended("unbounded", highest, error.problems[0].text)
            highest *= 2
        return None if self.tried[highest] > 0 else self._ended("unbounded", highest)

    def _nothing_keeps_it(self, lowest: float) -> Highest:
        """Tell what misses at every value down to the lowest from what more of it would mend."""
        first = self.varied.value
        if not self._knows_the_way:
            with suppress(StudyError):  # more is not allowed
                self._try([2 * first])
            ends = self.strains[lowest], self.strains[max(self.strains)]
            if ends[1] < ends[0] or are_alike(self.strains):
                return self._ended("not harder", first)
        return self._ended("never", lowest)

    def _try(self, values: Sequence[float]) -> None:
        """One run of the study's first seed at each value."""
        seed = self.varied.point.seed
        trials = [self._trial(value, seed) for value in values]
        for value, sample in zip(values, self.ask(trials), strict=True):
            promise = worst([sample], self.promises)
            missed = sample.count(promise)
            self.tried[value] = distance(missed, sample.measured, promise.allowed)
            self.shares[value] = missed / sample.measured
            self.strains[value] = sample.strain
            if abs(self.tried[value]) == min(map(abs, self.tried.values())):
                self.waited = waited([sample], promise)

    def _others_keep(self, value: float) -> bool:
        """Tell whether other seeds keep the SLO too: near the capacity one may just be lucky."""
        first = self.varied.point.seed + 1
        samples = self.ask([self._trial(value, first + seed) for seed in range(SCOUTS)])
        promise = worst(samples, self.promises)
        missed = sum(sample.count(promise) for sample in samples)
        measured = sum(sample.measured for sample in samples)
        self.tried[value] = distance(missed, measured, promise.allowed)
        self.shares[value] = missed / measured
        return self.tried[value] <= 0

    def _trial(self, value: float, seed: int) -> Trial:
        shown = f"{self.varied.key}={value:.6g}"
        label = f"{self.label}, {shown}" if self.label else shown
        return Trial(self.varied.at(value), seed, label, self.varied.draw)

    def _line(self, middle: float) -> Highest:
        """Put the pair around a value, and move it to where its root is."""
        found, line = None, None
        for _ in range(MOST_MOVES):
            line = self._halved(*self._ends(middle), min(SCOUTS, self.begin_with))
            found = self._root(line)
            if found is None or is_around(line.pair, found, 1 + self._spread):
                line = self._pair(line.pair.low, line.pair.high, self.begin_with)
                found = self._root(line)
                if found is None or is_around(line.pair, found, self._outside):
                    break
            middle = self._below_capacity(min(max(found.value, middle * 0.85), middle * 1.15))
        if found is None or line is None:
            return self._ended("undecided", middle)
        wanted = seeds_needed(found, self.target, self.most_seeds)
        if wanted > len(line.pair.missed_low):
            line = self._pair(line.pair.low, line.pair.high, wanted)
            found = self._root(line) or found
        return self._found(found, line)

    def _halved(self, low: float, high: float, seeds: int) -> Line:
        """Return what lies between two values, or closer where that is steep."""
        line = self._pair(low, high, seeds)
        while steepness(line) > STEEP and high > low * NARROWEST and not self.varied.is_whole:
            middle = math.sqrt(low * high)
            below = self._pair(low, middle, seeds)
            low, high = (low, middle) if far(below)[1] > 0 else (middle, high)
            line = self._pair(low, high, seeds)
        return line

    def _root(self, line: Line) -> Root | None:
        return root(line.pair, line.promise.allowed, self.confidence)

    @property
    def _scale(self) -> Scale:
        return Scale(self.capacity * (OF_TOKENS if self.waited < HARDLY else 1))

    @property
    def _spread(self) -> float:
        return BENT_SPREAD if math.isnan(self.capacity) else SPREAD

    @property
    def _outside(self) -> float:
        return BENT_OUTSIDE if math.isnan(self.capacity) else OUTSIDE

    def _below_capacity(self, value: float) -> float:
        return value if math.isnan(self.capacity) else min(value, FIRST[1] * self.capacity)

    def _ends(self, middle: float) -> tuple[float, float]:
        """Two values of a pair, as far apart on the scale on either side."""
        scale = self._scale
        place = scale.place(middle)
        step = self._spread / scale.relative(middle)
        if not math.isnan(self.capacity):
            highest = self.capacity - LEAST_ROOM * (self.capacity - middle)
            step = min(step, scale.place(highest) - place)
        low, high = scale.value(place - step), scale.value(place + step)
        if self.varied.is_whole:
            low, high = max(1, math.floor(low)), math.ceil(high)
            high = high + 1 if high == low else high
        return low, high

    def _pair(self, low: float, high: float, seeds: int) -> Line:
        """Ask for other seeds than the one that localised: that one was chosen by its luck.

        The line is that of the promise that is nearest to missed at the higher value.
        """
        first = self.varied.point.seed + 1
        trials = [
            self._trial(value, first + seed) for seed in range(seeds) for value in (low, high)
        ]
        answers = self.ask(trials)
        samples = {low: answers[0::2], high: answers[1::2]}
        promise = worst(samples[high], self.promises)
        self.waited = waited(answers, promise)

        def counts(value: float, what: Callable[[Sample], int]) -> npt.NDArray[np.int64]:
            return np.fromiter((what(sample) for sample in samples[value]), dtype=np.int64)

        missed = [counts(value, lambda one: one.count(promise)) for value in (low, high)]
        measured = [counts(value, lambda one: one.measured) for value in (low, high)]
        scale = self._scale if high < self.capacity else Scale()
        effects = self._effect(low, promise), self._effect(high, promise)
        pair = Pair(low, high, missed[0], missed[1], measured[0], measured[1], scale, effects)
        return Line(pair, samples, promise)

    def _effect(self, value: float, promise: Promise) -> float:
        return self.expected(self.varied.at(value), promise, self.waited)

    def _found(self, found: Root, line: Line) -> Highest:
        every = [sample for row in line.samples.values() for sample in row]
        name, share = binding(every, [line.promise])
        around = tuple(
            (value, sum(one.count(line.promise) for one in row) / sum(one.measured for one in row))
            for value, row in line.samples.items()
        )
        return Highest(
            "found", found.value, found.low, found.high, found.seeds, found, name, share,
            self._shown(), around,
        )  # fmt: skip

    def _ended(self, outcome: Outcome, value: float, refused: str = "") -> Highest:
        samples = self.ask([self._trial(value, self.varied.point.seed)])
        name, share = binding(samples, self.promises)
        tried = self._shown()
        return Highest(
            outcome, value, binds=name, binds_share=share, tried=tried, refused=refused,
            strains=tuple(sorted(self.strains.items())),
        )  # fmt: skip

    def _shown(self) -> tuple[tuple[float, float], ...]:
        return tuple(sorted(self.shares.items()))
