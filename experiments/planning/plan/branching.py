"""Branch and bound over price: the cheapest candidates, and why each other one is not.

What a candidate costs at least follows from its capacity. In the order of that bound, candidates
are solved for replicas until enough kinds of hardware have a price; every other one gets one test
at the largest number of replicas that would still be as cheap, and most end there. Whoever's bound
is dearer is never simulated.
"""

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import field

from experiments.planning.plan.candidates import Candidate
from experiments.planning.probes import Probe, settle
from experiments.planning.sequential import Verdict
from experiments.planning.smallest import bisection
from experiments.planning.trials import Ask
from model.dataclass import dataclass

SAFE, FULL = 0.85, 1.02
"""Shares of the capacity: replicas are first tried at one, and never fewer than at the other."""
WAVE = 4
"""Candidates that are tested side by side. It is fixed, so that no answer depends on how many
processes there are."""
TOO_DEAR = 2.0
"""A runner-up that costs so many times what the answer does is none."""
ALIKE = 1 + 1e-9
"""Prices that differ by rounding alone are the same."""

ProbeAt = Callable[[Candidate, int], Probe]
"""A fresh test of a candidate with so many replicas."""


@dataclass(slots=True)
class State:
    """What is known of one candidate."""

    candidate: Candidate
    least: int
    """Replicas below which not even its capacity is enough."""
    first: int
    """Where a search begins."""
    probes: dict[int, Probe] = field(default_factory=dict)
    """By replicas."""
    replicas: int | None = None
    """The smallest number that keeps the SLO, once it is known."""
    fate: str = ""
    """Why it is out: ``price bound``, ``needs more``, ``undecided``; empty while it is not."""

    @property
    def bound_usd(self) -> float:
        """Price per hour that it cannot be below."""
        return self.candidate.sizes.usd_per_hour(self.least)

    @property
    def usd_per_hour(self) -> float:
        """Its price; infinite while it has none."""
        if self.replicas is None:
            return math.inf
        return self.candidate.sizes.usd_per_hour(self.replicas)

    @property
    def not_kept(self) -> int | None:
        """Largest number of replicas that was tested and did not keep the SLO; None without one."""
        tried = [n for n, probe in self.probes.items() if probe.verdict is not Verdict.KEPT]
        return max(tried, default=None)

    @property
    def misses(self) -> int:
        """Largest number of replicas that did not keep the SLO, or cannot."""
        return max(self.least - 1, self.not_kept or 0)


@dataclass(slots=True)
class Branching:
    """A search over candidates.

    Args:
        states: the candidates that can be served, in written order.
        probe_at: makes tests.
        ask: gives what runs say.
        places: so many kinds of hardware get a price.
        most: largest number of replicas of one deployment.
    """

    states: list[State]
    probe_at: ProbeAt
    ask: Ask
    places: int
    most: int
    floor_usd: float = 0.0
    """Nothing cheaper than this is given up for its price: raised when a winner became dearer."""

    def run(self) -> None:
        """Give every state its number of replicas, or its fate."""
        while wave := self._wave():
            self._solve(wave)

    def reopen(self, floor_usd: float) -> None:
        """Take up again what was given up for being dearer than something that costs more now."""
        self.floor_usd = floor_usd
        for state in self.states:
            if state.replicas is None and state.fate in ("price bound", "needs more"):
                next_usd = state.candidate.sizes.usd_per_hour(state.misses + 1)
                if next_usd * ALIKE < self.limit(state) and state.misses < self.most:
                    state.fate = ""
        self._insist()

    def _insist(self) -> None:
        """Decide what was given up after a few runs, and may be the answer now."""
        asked = [
            (state, count)
            for state in self.states
            for count, probe in sorted(state.probes.items())
            if probe.verdict is not Verdict.KEPT
            and probe.most < probe.every
            and self._may_win(state, count)
        ]
        for state, count in asked:
            probe = state.probes[count]
            probe.most = probe.every
        settle([state.probes[count] for state, count in asked], self.ask)
        for state, count in asked:
            if state.probes[count].verdict is Verdict.KEPT:
                state.replicas, state.fate = None, ""  # solved again: fewer may do as well
            elif state.fate in ("undecided", "needs more"):
                self._lost(state)

    def ties(self, winner: State) -> None:
        """Test who would cost exactly as much as the cheapest, at that many replicas."""
        asked: list[tuple[State, int]] = []
        for state in self.states:
            if state.replicas is not None or state.least > self.most:
                continue
            sizes = state.candidate.sizes
            count = sizes.below(winner.usd_per_hour * ALIKE, self.most)
            if count <= state.misses:
                continue
            gap = abs(sizes.usd_per_hour(count) - winner.usd_per_hour)
            if gap < winner.usd_per_hour * (ALIKE - 1):
                self._probe(state, count)
                asked.append((state, count))
        settle([state.probes[count] for state, count in asked], self.ask)
        for state, count in asked:
            if state.probes[count].verdict is Verdict.KEPT:
                state.replicas, state.fate = count, ""
            else:
                self._lost(state)

    def ranked(self) -> list[State]:
        """Return the solved states, the cheapest first."""
        solved = [state for state in self.states if state.replicas is not None]
        return sorted(solved, key=lambda state: (state.usd_per_hour, state.candidate.number))

    def limit(self, state: State) -> float:
        """Return the price per hour at which a candidate would still matter."""
        return self._limits()(state)

    def _limits(self) -> Callable[[State], float]:
        """Return what ``limit`` is of each candidate, as long as nobody else is solved."""
        best: dict[str, float] = {}
        for one in self.states:
            if one.replicas is not None:
                kind = one.candidate.kind
                best[kind] = min(best.get(kind, math.inf), one.usd_per_hour)
        prices = sorted(best.values())
        last = TOO_DEAR * prices[0] if prices else math.inf
        if len(prices) >= self.places:
            last = min(last, prices[self.places - 1])
        last = max(last, self.floor_usd)
        return lambda state: min(last, best.get(state.candidate.kind, math.inf))

    def _wave(self) -> list[State]:
        """Return who is tested next: the lowest bounds, of hardware that has no price yet first."""
        waiting = sorted(
            (one for one in self.states if one.replicas is None and not one.fate),
            key=lambda state: (state.bound_usd, state.candidate.number),
        )
        wave: list[State] = []
        kinds: set[str] = set()
        priced = {one.candidate.kind for one in self.states if one.replicas is not None}
        unbounded, limits = False, self._limits()
        for state in waiting:
            limit = limits(state)
            if state.bound_usd * ALIKE >= limit or state.least > self.most:
                state.fate = "price bound" if state.least <= self.most else "needs more"
                continue
            if state.candidate.kind in kinds and state.candidate.kind not in priced:
                continue  # one of its kind is solved first, and bounds the others
            if math.isinf(limit):
                unbounded = True
            elif unbounded:
                continue
            kinds.add(state.candidate.kind)
            wave.append(state)
            if len(wave) == (min(WAVE, self.places) if unbounded else WAVE):
                break
        return wave

    def _solve(self, wave: Iterable[State]) -> None:
        """Solve some candidates side by side, each up to the price at which it would matter."""
        asking: list[tuple[State, Generator[int, bool, int | None], int]] = []
        for state in wave:
            limit = self.limit(state)
            most = self.most
            first = state.first
            if not math.isinf(limit):
                most = state.candidate.sizes.below(limit / ALIKE, most)
                first = most  # one test decides most of them
            steps = bisection(state.misses + 1, first, most)
            try:
                asking.append((state, steps, next(steps)))
            except StopIteration:
                self._lost(state)
        while asking:
            settle([self._probe(state, count) for state, _, count in asking], self.ask)
            left = []
            for state, steps, count in asking:
                try:
                    kept = state.probes[count].verdict is Verdict.KEPT
                    left.append((state, steps, steps.send(kept)))
                except StopIteration as ended:
                    state.replicas = ended.value
                    if ended.value is None:
                        self._lost(state)
            # Who would cost more than what was solved meanwhile waits for a test at that price.
            asking = [
                each
                for each in left
                if each[0].candidate.sizes.usd_per_hour(each[2]) * ALIKE < self.limit(each[0])
            ]

    def _probe(self, state: State, count: int) -> Probe:
        """Return the test of a state with so many replicas."""
        if count not in state.probes:
            probe = state.probes[count] = self.probe_at(state.candidate, count)
            if not self._may_win(state, count):
                probe.most = probe.few
        return state.probes[count]

    def _may_win(self, state: State, count: int) -> bool:
        """Whether a test can change the answer.

        Else what it is about costs as much or more: its verdict only prices a runner-up, and
        "undecided" prices it one replica higher, so few runs will do, or a short one that says no.
        """
        usd = state.candidate.sizes.usd_per_hour(count)
        cheapest = min(one.usd_per_hour for one in self.states)
        return usd * ALIKE < max(cheapest, self.floor_usd)

    def _lost(self, state: State) -> None:
        tried = state.not_kept
        undecided = tried is not None and state.probes[tried].verdict is Verdict.UNDECIDED
        state.fate = "undecided" if undecided else "needs more"


def state_of(candidate: Candidate, rate_per_s: float, most: int) -> State:
    """Return what is known before anything is simulated, for traffic of so many requests/s."""
    least, first = (candidate.sizes.least(rate_per_s, share, most) for share in (FULL, SAFE))
    return State(candidate, least, first)
