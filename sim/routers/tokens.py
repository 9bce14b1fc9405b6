"""A router that looks at how many tokens each replica has."""

import numpy as np

from sim.routers.router import Arrival, Looks, Router, View
from sim.seen.lowest import Lowest


class LeastTokens(Router):
    """The fewest tokens: prompts, and what was generated.

    Tokens of a replica only grow, but for those who leave it. So what was last seen is at least
    exceeded by nobody: the lowest is looked at again until it is as it was.
    """

    looks_at = Looks.TOKENS

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._seen = Lowest(len(view.numbers))
        self._dropping: set[int] = set()

    def choose(self, arrival: Arrival) -> int:
        """The lowest, as they are now."""
        seen, view = self._seen, self.view
        for number in self._dropping:
            seen.set(number, 0)
        self._dropping = {number for number in self._dropping if view.unsettled(number)}
        while True:
            number = seen.first()
            tokens = view.tokens(number)
            if tokens == seen.keys[number]:
                return number
            seen.set(number, tokens)

    def left(self, number: int, requests: int) -> None:
        """It may have any number of tokens from now on."""
        self._seen.set(number, 0)
        self._dropping.add(number)
