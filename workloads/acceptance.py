"""Which drafts of a text are right: drawn, of every output token of every request, once for a seed.

Position g of an answer has so many right drafts behind it, however the request is scheduled: no
engine draws, and none knows before it has verified them. Requests are drawn by blocks, each from a
stream of its own, when the first of a block is asked for.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workloads.streams import numbered_stream

Floats = npt.NDArray[np.float64]

BLOCK = 256
"""Requests that are drawn together."""
KEPT_BLOCKS = 16
LEVELS = 40
"""Halvings of the search for a level: beyond a float's digits."""


class DrawnAcceptance:
    """Accepted drafts of requests.

    Args:
        seed: of the run.
        output_tokens: of every request.
        rates: probability that the first, the first two, ... drafts of a step are all right;
            not increasing.
        length_std: standard deviation over requests of the mean acceptance length: some texts are
            easier to guess than others. 0: all alike.
    """

    def __init__(
        self,
        seed: int,
        output_tokens: npt.NDArray[np.integer],
        rates: Sequence[float],
        length_std: float = 0.0,
    ) -> None:
        self.seed, self.output_tokens = seed, output_tokens
        self.rates = np.array(rates, dtype=np.float64)
        self.length_std = length_std
        self._blocks: OrderedDict[int, tuple[bytes, list[int]]] = OrderedDict()

    def of(self, request: int) -> bytes:
        """Return one byte for each output token of a request: drafts that are right behind it."""
        block, place = divmod(request, BLOCK)
        drawn, offsets = self._blocks.get(block) or self._draw(block)
        return drawn[offsets[place] : offsets[place + 1]]

    def _draw(self, block: int) -> tuple[bytes, list[int]]:
        rng = numbered_stream(self.seed, "drafts", block)
        lengths = self.output_tokens[block * BLOCK : (block + 1) * BLOCK].astype(np.int64)
        rates = _rates_of(self.rates, self._levels(rng))
        chances = rng.random(int(lengths.sum()))
        accepted = np.zeros(len(chances), dtype=np.uint8)
        for of_place in rates[: len(lengths)].T:
            accepted += chances < np.repeat(of_place, lengths)
        found = accepted.tobytes(), [0, *np.cumsum(lengths).tolist()]
        self._blocks[block] = found
        if len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return found

    def _levels(self, rng: np.random.Generator) -> Floats:
        """Mean accepted drafts of a step, of every request of a block: a beta distribution."""
        most, mean = len(self.rates), float(self.rates.sum())
        share, spread = mean / most, self.length_std / most
        if not spread or not 0 < share < 1:
            return np.full(BLOCK, mean)
        weight = share * (1 - share) / spread**2 - 1
        return most * rng.beta(share * weight, (1 - share) * weight, BLOCK)


def most_length_std(rates: Sequence[float]) -> float:
    """Return the standard deviation below which requests can differ: that of all or nothing."""
    most, mean = len(rates), float(sum(rates))
    return float(np.sqrt(max(0.0, mean * (most - mean))))


def _rates_of(rates: Floats, levels: Floats) -> Floats:
    """Return rates with other sums, by a power of each, shape (levels, drafts).

    What a level changes most are the drafts that are neither sure nor hopeless.
    """
    if np.all(levels == rates.sum()):
        return np.broadcast_to(rates, (len(levels), len(rates)))
    logs = np.log(np.clip(rates, 1e-300, 1.0))
    low, high = np.full(len(levels), -40.0), np.full(len(levels), 40.0)
    for _ in range(LEVELS):
        middle = (low + high) / 2
        sums = np.exp(np.exp(middle)[:, None] * logs).sum(axis=1)
        too_many = sums > levels
        low, high = np.where(too_many, middle, low), np.where(too_many, high, middle)
    return np.asarray(np.exp(np.exp((low + high) / 2)[:, None] * logs))


def rates_of_length(length: float, tokens: int) -> list[float]:
    """Return rates of a mean acceptance length, as vLLM's ``synthetic_acceptance_length`` has them.

    The smallest spread: so many drafts are always right, the next one sometimes, those behind it
    never (``SpeculativeConfig._acceptance_length_to_rates``).
    """
    drafts = length - 1
    full = int(drafts)
    return ([1.0] * full + [drafts - full] + [0.0] * (tokens - full - 1))[:tokens]
