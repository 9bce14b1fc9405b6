"""The sizes of a deployment: so many replicas, of one pool, or of several in a ratio.

Size n is n replicas in all. Pools share them as a study writes them down, by Sainte-Laguë's rule,
which makes each size the one before with one replica more: 1 + 3 grows by way of 1 + 1, 1 + 2,
1 + 3, 1 + 4, 2 + 4, 2 + 5 to 2 + 6. So a larger size costs more and serves more.
"""

from collections.abc import Callable

from model.dataclass import dataclass

Rates = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a deployment consists of, costs and serves at each size."""

    ratio: tuple[int, ...]
    """Replicas of each pool, as the study has them; of one pool (1,)."""
    usd: tuple[float, ...]
    """Price per hour of one replica of each pool."""
    gpus: tuple[int, ...]
    """Of one replica of each pool."""
    rates: Rates = ()
    """Each row bounds the requests per second that are served: the sum over pools of replicas times
    the row's rate. Pools that answer whole requests have one row, prompts and answers of pools with
    roles have one each. Empty: not known."""

    @property
    def fewest(self) -> int:
        """Replicas below which a pool is missing."""
        return len(self.ratio)

    def parts(self, size: int) -> tuple[int, ...]:
        """Return the replicas of each pool."""
        if len(self.ratio) == 1:
            return (size,)
        parts = [1] * len(self.ratio)
        for _ in range(size - len(parts)):
            wanting = [share / (have + 0.5) for share, have in zip(self.ratio, parts, strict=True)]
            parts[wanting.index(max(wanting))] += 1
        return tuple(parts)

    @property
    def round(self) -> int:
        """Replicas by which a deployment grows without changing the shares of its pools."""
        return 1 if len(self.ratio) == 1 else sum(self.ratio)

    def rounds_from(self, known: int, size: int) -> int:
        """Return the smallest size of at least ``size`` that is whole rounds away from a known
        one: what lies between has other shares, of which the known one says nothing."""
        return known + -(-(size - known) // self.round) * self.round

    def usd_per_hour(self, size: int) -> float:
        """Return the price of all replicas."""
        return _total(self.usd, self.parts(size))

    def gpus_of(self, size: int) -> int:
        """Return the GPUs of all replicas."""
        return sum(each * count for each, count in zip(self.gpus, self.parts(size), strict=True))

    def capacity_per_s(self, size: int) -> float:
        """Return how many requests per second they get through, at most."""
        parts = self.parts(size)
        return min(_total(row, parts) for row in self.rates)

    def least(self, rate_per_s: float, share: float, most: int) -> int:
        """Return the smallest size of which a share of the capacity is a rate.

        ``most + 1`` where none up to that is enough.
        """
        return self._first(lambda size: share * self.capacity_per_s(size) >= rate_per_s, most)

    def below(self, usd_per_hour: float, most: int) -> int:
        """Return the largest size up to ``most`` that is cheaper than a price."""
        return self._first(lambda size: self.usd_per_hour(size) >= usd_per_hour, most) - 1

    def _first(self, holds: Callable[[int], bool], most: int) -> int:
        """Return the smallest size at which something holds that then always does."""
        low, high = self.fewest, most + 1
        while low < high:
            middle = (low + high) // 2
            if holds(middle):
                high = middle
            else:
                low = middle + 1
        return low


def _total(each: tuple[float, ...], parts: tuple[int, ...]) -> float:
    if len(parts) == 1:
        return parts[0] * each[0]
    return sum(value * count for value, count in zip(each, parts, strict=True))
