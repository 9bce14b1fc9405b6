"""Finds the cheapest deployment of a plan: prunes, tests, proves, and looks around the answer."""

import math
from dataclasses import field, replace

from experiments.planning.capacity.found import Highest
from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.branching import ALIKE, Branching, State, state_of
from experiments.planning.plan.candidates import Candidate, Spread, candidates_of
from experiments.planning.plan.demand import Curve, Demand, risk
from experiments.planning.plan.holding import Change, held_by
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.reading import PlanInput
from experiments.planning.plan.sensitivity import (
    MOST_REPLICAS,
    RUNS_OF_AN_ENTRY,
    assumptions,
    spread_of,
    tornado,
)
from experiments.planning.probes import Probe, SteadyProbe, settle
from experiments.planning.progress import SearchProgress
from experiments.planning.sequential import Verdict
from experiments.planning.trials import Trials
from experiments.study.document import Study
from model.dataclass import dataclass

MOST_PROOFS = 6
"""A deployment whose risk is too high grows so often at most before the plan gives up on it."""
HALF_WIDTH, SEEDS = 0.03, 6
"""Of what a deployment holds, relative, and the seeds that it takes at least: the answer rests on
tests at the traffic that is planned for, this tells how far they are from their limit."""
MOST_SIMULATED = 16
"""Up to so many replicas what fewer hold is simulated; beyond, it is in proportion."""


@dataclass(slots=True)
class Finalist:
    """A deployment that keeps the SLO, with what else is known of it."""

    state: State
    replicas: int
    probe: Probe
    """Its test, at this number of replicas."""
    one_down: Probe | None = None
    """The same with one replica fewer at the forecast, of the pool that is missed most; None where
    one is away without which nothing can be served."""
    one_down_of: str = ""
    """Which pool that is."""
    holds: Highest | None = None
    """Of steady traffic, as a multiple of what the workload says."""
    curve: Curve | None = None
    risk: float = math.nan
    risk_ends: tuple[float, float] = (math.nan, math.nan)
    proven: bool = True
    """Whether its risk is below what may be taken."""

    @property
    def candidate(self) -> Candidate:
        """What it consists of."""
        return self.state.candidate

    @property
    def usd_per_hour(self) -> float:
        """Of all replicas."""
        return self.candidate.sizes.usd_per_hour(self.replicas)

    @property
    def gpus(self) -> int:
        """Of all replicas."""
        return self.candidate.sizes.gpus_of(self.replicas)


@dataclass(slots=True)
class PlanFound:
    """What a plan found."""

    candidates: list[Candidate]
    states: dict[int, State]
    """Of the candidates that can be served, by number."""
    problem: Problem
    demand: Demand
    finalists: list[Finalist] = field(default_factory=list)
    """The answer first, then the runners-up by price; none where nothing keeps the SLO."""
    beaten: list[Finalist] = field(default_factory=list)
    """What was proven as well, and costs more than those."""
    base: Highest | None = None
    """What the small deployment of the tornado holds."""
    changes: list[Change] = field(default_factory=list)
    draws: list[Change] = field(default_factory=list)

    @property
    def winner(self) -> Finalist | None:
        """The answer."""
        return self.finalists[0] if self.finalists else None


@dataclass(slots=True)
class Finder:
    """The search for one plan."""

    plan: PlanInput
    trials: Trials
    spread: Spread
    progress: SearchProgress
    look_around: bool = True
    """Whether the tornado and drawn calibrations are simulated."""

    def run(self) -> PlanFound:
        """Search."""
        study = self.plan.study
        candidates = candidates_of(self.plan, self.spread)
        demand = Demand(study.growth, self._spread(0.0), study.risk.share)
        found = self._search(candidates, demand)
        if found.winner is None or not self.look_around:
            return found
        self._look_around(found)
        more = spread_of(found.draws)
        if more:
            changed = Demand(study.growth, self._spread(more), study.risk.share)
            again = self._search(candidates, changed)
            found = replace(
                again, base=found.base, changes=found.changes, draws=found.draws
            )  # the same runs, and those that a greater demand needs
        return found

    def _spread(self, model: float) -> float:
        study = self.plan.study
        return math.sqrt(study.growth_cv**2 + study.model_error_cv**2 + model**2)

    def _search(self, candidates: list[Candidate], demand: Demand) -> PlanFound:
        problem = Problem(self.plan, demand.design)
        served = [one for one in candidates if not one.lost]
        study = self.plan.study
        if problem.has_windows and served:
            problem.check_windows(served[0])
        states = [
            state_of(one, problem.least_rate_per_s(one), study.most_replicas) for one in served
        ]
        self.progress.expect(self.trials.runs + 8 * (2 + study.runners_up) + 40)
        branching = Branching(
            states, problem.probe, self.trials.ask, 1 + study.runners_up, study.most_replicas
        )
        found = PlanFound(
            candidates, {one.candidate.number: one for one in states}, problem, demand
        )
        looked_at_usd = 0.0
        for _ in range(MOST_PROOFS):
            branching.run()
            ranked = branching.ranked()
            if ranked:
                branching.ties(ranked[0])
                looked_at_usd = max(looked_at_usd, ranked[0].usd_per_hour)
            proven = self._finalists(branching, problem, demand)
            found.finalists = proven[: 1 + study.runners_up]
            found.beaten = proven[1 + study.runners_up :]
            if not proven or proven[0].usd_per_hour <= looked_at_usd * ALIKE:
                break
            looked_at_usd = proven[0].usd_per_hour
            branching.reopen(looked_at_usd)
        return found

    def _finalists(self, branching: Branching, problem: Problem, demand: Demand) -> list[Finalist]:
        """The cheapest of each kind of hardware, as large as their risk makes them.

        As many kinds as are wanted, and every one that may still be cheaper than the best: a spare
        of something small costs less.
        """
        kinds: dict[str, Finalist] = {}
        for state in self._cheapest(branching):
            best = min((one.usd_per_hour for one in kinds.values() if one.proven), default=math.inf)
            enough = len(kinds) > self.plan.study.runners_up
            if state.candidate.kind in kinds or (enough and state.usd_per_hour * ALIKE >= best):
                continue
            assert state.replicas is not None
            one = Finalist(state, state.replicas, state.probes[state.replicas])
            kinds[state.candidate.kind] = self._proven(one, problem, demand)
        ordered = sorted(
            kinds.values(),
            key=lambda each: (not each.proven, each.usd_per_hour, each.candidate.number),
        )
        if ordered and self.plan.study.failures is None:
            self._measure_risk(ordered[0], problem, demand, 1.0)
        for rank, each in enumerate(ordered):
            self._one_down(each, problem, rank == 0)
        return ordered if ordered and ordered[0].proven else []

    def _cheapest(self, branching: Branching) -> list[State]:
        """Solved states by price; of equal ones that which misses least."""
        return sorted(
            branching.ranked(),
            key=lambda state: (
                round(state.usd_per_hour, 6),
                state.probes[state.replicas or 0].missed,
                state.candidate.number,
            ),
        )

    def _proven(self, one: Finalist, problem: Problem, demand: Demand) -> Finalist:
        """Let a deployment grow until its risk, failures included, is small enough."""
        failures = self.plan.study.failures
        available = 1.0 if failures is None else failures.availability
        if failures is None:
            return one
        for _ in range(MOST_PROOFS):
            self._measure_risk(one, problem, demand, available)
            if one.risk <= demand.share:
                one.proven = True
                return one
            more = one.replicas + 1
            if one.curve is not None:
                while (
                    risk(demand, one.curve, more, available) > demand.share
                    and more < self.plan.study.most_replicas
                ):
                    more += 1
            one.replicas = more
            probe = problem.probe(one.candidate, more)
            settle([probe], self.trials.ask)
            one.state.probes[more] = one.probe = probe
        one.proven = False
        return one

    def _measure_risk(
        self, one: Finalist, problem: Problem, demand: Demand, available: float
    ) -> None:
        if problem.has_windows:
            self._window_risk(one, problem, available)
            return
        held = self._held(one.candidate, one.replicas, one.candidate.sized(one.replicas))
        if held.outcome == "undecided" and kept(one.probe):
            held = replace(held, value=problem.multiple)  # what was tested is all that is known
        one.holds = held
        one.risk_ends = (math.nan, math.nan)  # those of fewer replicas are not its own
        points = {one.replicas: held.value}
        if one.replicas > 1 and available < 1 and one.replicas <= MOST_SIMULATED:
            fewer = one.candidate.one_fewer(one.replicas)
            holds = [self._held(one.candidate, one.replicas - 1, each).value for _, each in fewer]
            points[one.replicas - 1] = min(holds, default=0.0)
        one.curve = Curve(points)
        one.risk = risk(demand, one.curve, one.replicas, available)
        if math.isnan(held.low):
            return
        ends = [
            Curve({count: value * end / held.value for count, value in points.items()})
            for end in (held.high, held.low)
        ]
        low, high = (risk(demand, curve, one.replicas, available) for curve in ends)
        one.risk_ends = (low, high)

    def _held(self, candidate: Candidate, replicas: int, deployed: Study) -> Highest:
        """What so many replicas hold, as a multiple of the traffic."""
        study = self.plan.study
        one = Problem(self.plan, 1.0)
        capacity = self._capacity(candidate, replicas) / one.steady_rate_per_s(candidate)
        return held_by(
            deployed, self.trials.ask, promises=one.promises,
            fewest=study.run_requests, capacity=capacity,
            label=candidate.told(replicas), target=HALF_WIDTH, seeds=SEEDS,
        )  # fmt: skip

    def _capacity(self, candidate: Candidate, replicas: int) -> float:
        """Requests per second of so many replicas; NaN where only a bound of it is known."""
        if self.plan.study.workload.has_sessions:
            return math.nan
        return candidate.sizes.capacity_per_s(replicas)

    def _window_risk(self, one: Finalist, problem: Problem, available: float) -> None:
        """Share of the windows that miss; with failures, those of a day with one fewer count."""
        from experiments.planning.plan.demand import down

        chances = down(one.replicas, available)
        missed = [one.probe.missed]
        if available < 1 and one.replicas > 1:
            fewer = problem.one_down(one.candidate, one.replicas)
            settle(list(fewer.values()), self.trials.ask)
            missed.append(max((each.missed for each in fewer.values()), default=1.0))
        told = sum(chance * miss for chance, miss in zip(chances, missed, strict=False))
        one.risk = min(1.0, told + max(0.0, 1 - sum(chances[: len(missed)])))

    def _one_down(self, one: Finalist, problem: Problem, wins: bool) -> None:
        """Test one replica fewer at the forecast: a failure in the busiest hour."""
        if one.replicas < 2:
            return
        forecast = Problem(self.plan, self.plan.study.growth)
        tests = forecast.one_down(one.candidate, one.replicas)
        if forecast == problem and len(one.candidate.pools) < 2 and not problem.has_windows:
            tests |= {"": one.state.probes.get(one.replicas - 1, tests[""])}  # asked already
        for pool, probe in tests.items():
            tests[pool] = probe = busiest_alone(probe) if isinstance(probe, DayProbe) else probe
            probe.most = probe.every if wins else max(probe.few, probe.runs)
        settle(list(tests.values()), self.trials.ask)
        for pool, probe in tests.items():
            if one.one_down is None or _severity(probe) > _severity(one.one_down):
                one.one_down, one.one_down_of = probe, pool

    def _look_around(self, found: PlanFound) -> None:
        """The tornado, and drawn calibrations, on a small deployment of the winner."""
        winner = found.winner
        assert winner is not None
        study = self.plan.study
        one = Problem(self.plan, 1.0)
        sizes = winner.candidate.sizes
        replicas = min(winner.replicas, max(MOST_REPLICAS, sum(sizes.ratio)))
        part = sizes.capacity_per_s(replicas) / sizes.capacity_per_s(winner.replicas)
        rate = one.steady_rate_per_s(winner.candidate) * part
        small = winner.candidate.sized(replicas)
        if small.workload.has_clock:
            small = one.steady(small, rate)
        else:
            from experiments.planning.traffic import scaled

            small = small.model_copy(update={"workload": scaled(small.workload, part)})
        capacity = self._capacity(winner.candidate, replicas) / rate
        entries = len(assumptions(small, study.sensitivity)) + study.calibration_draws
        self.progress.expect(self.trials.runs + RUNS_OF_AN_ENTRY * (1 + entries))
        found.base, found.changes, found.draws = tornado(
            small, self.trials.ask, promises=one.promises, fewest=study.run_requests,
            capacity=capacity, given=study.sensitivity, draws=study.calibration_draws,
        )  # fmt: skip


def busiest_alone(probe: DayProbe) -> SteadyProbe:
    """Return the test of the busiest stretch by its requests, as if it were steady."""
    return SteadyProbe(probe.busiest, f"{probe.label}, busiest stretch", probe.promises,
                       probe.confidence)  # fmt: skip


def _severity(probe: Probe) -> tuple[bool, float]:
    """How bad what a test found is."""
    return not kept(probe), probe.missed


def kept(probe: Probe | None) -> bool:
    """Whether a test says that the SLO is kept; not without one."""
    return probe is not None and probe.verdict is Verdict.KEPT
