"""What a candidate may cost: as its tests and what it holds leave it open."""

import math

from experiments.planning.plan.branching import State
from experiments.planning.plan.demand import Curve, Demand, risk
from experiments.planning.plan.finding import Finalist, PlanFound
from experiments.planning.sequential import Verdict

Ends = tuple[float, float]
"""USD per hour, the lower one first."""


def least_usd(state: State) -> float:
    """Return the price per hour that a candidate is not below: one replica more than surely miss.

    What fewer replicas were tested at without a verdict may keep the SLO after all.
    """
    missed = [n for n, probe in state.probes.items() if probe.verdict is Verdict.MISSED]
    return state.candidate.sizes.usd_per_hour(max((state.least - 1, *missed)) + 1)


def price_ends(found: PlanFound, one: Finalist) -> Ends:
    """Return the 95% interval of a deployment's price per hour, by that of what it holds.

    Its ends are the prices of the smallest deployments whose risk is small enough if each holds as
    much more, or as much less, as the interval says. Where that is not known (windows, runners-up
    whose risk is not looked at) it is what its tests leave open.
    """
    usd = one.candidate.sizes.usd_per_hour
    least = min(least_usd(one.state), one.usd_per_hour)
    held = one.holds
    if held is None or one.curve is None or math.isnan(held.low):
        return least, one.usd_per_hour
    study, sizes = found.problem.plan.study, one.candidate.sizes
    available = 1.0 if study.failures is None else study.failures.availability
    most, fewest = (
        smallest(
            Curve({count: value * end / held.value for count, value in one.curve.points.items()}),
            found.demand, available, sizes.fewest, study.most_replicas,
        )
        for end in (held.low, held.high)
    )  # fmt: skip
    return max(least, min(usd(fewest), one.usd_per_hour)), max(usd(most), one.usd_per_hour)


def smallest(curve: Curve, demand: Demand, available: float, fewest: int, most: int) -> int:
    """Return the smallest number of replicas whose risk may be taken, or the largest allowed.

    Args:
        curve: what so many replicas hold.
        demand: the traffic, and the risk that may be taken.
        available: the probability that a replica is there.
        fewest: replicas below which nothing can be served.
        most: replicas that a plan may have.
    """
    counts = range(fewest, most)
    enough = (one for one in counts if risk(demand, curve, one, available) <= demand.share)
    return next(enough, most)
