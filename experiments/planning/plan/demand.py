"""How much traffic a plan has to hold, and the risk that it is more than a deployment holds.

The forecast is lognormal around ``growth``; what a deployment holds is as uncertain as its model.
Both are one standard deviation of the logarithm of their ratio.
"""

import math
from statistics import NormalDist

from model.dataclass import dataclass

MOST_DOWN = 2
"""Replicas that are away at once, of which the risk is looked at; more count as a miss."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Traffic as a multiple of what the workload says."""

    growth: float
    """The forecast."""
    spread: float
    """Standard deviation of the logarithm of traffic over what is held."""
    share: float
    """Of the risk that may be taken."""

    @property
    def design(self) -> float:
        """The multiple that is exceeded with the probability that may be taken."""
        if not self.spread:
            return self.growth
        return self.growth * math.exp(NormalDist().inv_cdf(1 - self.share) * self.spread)

    def exceeded(self, holds: float) -> float:
        """Return the probability that traffic is more than a multiple."""
        if not holds > 0:
            return 1.0
        ahead = math.log(holds / self.growth)
        if not self.spread:
            return 0.0 if ahead >= 0 else 1.0
        return NormalDist().cdf(-ahead / self.spread)


def down(replicas: int, availability: float) -> list[float]:
    """Return the probabilities that 0, 1, ... replicas are away, up to ``MOST_DOWN``."""
    most = min(MOST_DOWN, replicas)
    return [
        math.comb(replicas, away) * availability ** (replicas - away) * (1 - availability) ** away
        for away in range(most + 1)
    ]


@dataclass(slots=True)
class Curve:
    """What so many replicas hold, as a multiple of the traffic: simulated where it was asked.

    Per replica it is nearly a straight line in 1 / replicas: a router has more to choose from.
    """

    points: dict[int, float]

    def holds(self, replicas: int) -> float:
        """Return what they hold; 0 of none."""
        if replicas < 1:
            return 0.0
        if replicas in self.points:
            return self.points[replicas]
        near = sorted(self.points, key=lambda count: abs(count - replicas))[:2]
        if len(near) < 2:
            return self.points[near[0]] * replicas / near[0]
        first, second = near
        each = {count: self.points[count] / count for count in near}
        slope = (each[first] - each[second]) / (1 / first - 1 / second)
        return replicas * (each[first] + slope * (1 / replicas - 1 / first))


def needed(
    demand: Demand, curve: Curve, ratio: float, availability: float, most: int
) -> int | None:
    """Return the fewest replicas whose risk may be taken if each held ``ratio`` of it; None beyond
    ``most``."""
    changed = Curve({count: value * ratio for count, value in curve.points.items()})
    counts = range(1, most + 1)
    fit = (one for one in counts if risk(demand, changed, one, availability) <= demand.share)
    return next(fit, None)


def risk(demand: Demand, curve: Curve, replicas: int, availability: float = 1.0) -> float:
    """Return the probability that traffic is more than the replicas that serve hold."""
    chances = down(replicas, availability)
    told = sum(
        chance * demand.exceeded(curve.holds(replicas - away))
        for away, chance in enumerate(chances)
    )
    return min(1.0, told + max(0.0, 1 - sum(chances)))
