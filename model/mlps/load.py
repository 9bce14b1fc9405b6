"""How evenly tokens choose their experts: what decides which experts a step reads."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from model.operators import F, floats

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExpertLoad:
    """A power law: the expert in place i of popularity is chosen in proportion to ``i ** -a``.

    With a = 0 all are chosen alike, which real routers come near to and never reach. Measured
    tables of experts are taken at 1.01 and 1.2 (aiconfigurator's ``power_law_1.01`` and
    ``power_law_1.2``).
    """

    exponent: float = 0.0
    """a, from 0."""

    def __post_init__(self) -> None:
        """Check the exponent."""
        if not 0 <= self.exponent <= 10:
            raise ValueError(f"exponent = {self.exponent}: expected 0 to 10")

    def chances(self, experts: int, per_token: float) -> Floats:
        """Return the chance of every expert, most popular first, to be one of a token's.

        They add up to ``per_token``. An expert cannot be chosen twice by a token: what the law
        gives it beyond 1 goes to the others, in proportion.
        """
        return _chances(self.exponent, experts, per_token)

    def touched(self, experts: int, per_token: float, tokens: F) -> F:
        """Return how many distinct experts ``tokens`` tokens are expected to touch.

        ``sum over i of 1 - (1 - p_i)^t`` for tokens that choose independently; if all are chosen
        alike ``E (1 - (1 - k/E)^t)``.
        """
        count = floats(tokens)
        if not self.exponent:
            missed = 1.0 - per_token / experts
            return experts * (1.0 - missed**count)
        total = np.zeros_like(count)
        for chance in self.chances(experts, per_token):
            total = total + (1.0 - (1.0 - chance) ** count)
        return floats(total)

    def busiest(self, experts: int, per_token: float, ranks: int) -> float:
        """Return the work of the busiest of ``ranks`` that share the experts, over the mean.

        The rank that holds the most popular expert, with average ones beside it:
        ``(p_1 + (E/R - 1) (k - p_1) / (E - 1)) / (k / R)``; 1 for one rank or equal chances.
        """
        if ranks == 1 or experts == 1:
            return 1.0
        most = float(self.chances(experts, per_token)[0])
        beside = (experts / ranks - 1) * (per_token - most) / (experts - 1)
        return (most + beside) * ranks / per_token


EVEN = ExpertLoad()


@lru_cache(maxsize=64)
def _chances(exponent: float, experts: int, per_token: float) -> Floats:
    shares = np.arange(1, experts + 1, dtype=np.float64) ** -exponent
    certain = 0
    while True:
        left = shares[certain:]
        rest = (per_token - certain) * left / left.sum() if certain < experts else left
        if not len(rest) or rest[0] <= 1.0 + 1e-12:
            break
        certain += int(np.count_nonzero(rest > 1.0))
    chances = np.concatenate([np.ones(certain), np.minimum(rest, 1.0)])
    chances.flags.writeable = False
    return chances
