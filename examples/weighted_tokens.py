"""A router of one's own: the fewest tokens, each request counted as some tokens more.

headroom run examples/weighted_tokens.yaml --plugin examples/weighted_tokens.py
headroom check examples/weighted_tokens.py
"""

import numpy as np

from sim.routers.router import Arrival, Looks, Router, View


class WeightedTokens(Router):
    """Between ``least_tokens`` (``request_tokens: 0``) and ``least_requests`` (a very large one).

    A long prompt is worth many short ones to whoever waits behind it; but every request that
    decodes takes its part of each step, however short it is.
    """

    looks_at = Looks.TOKENS

    def __init__(self, view: View, rng: np.random.Generator, *, request_tokens: int = 500) -> None:
        super().__init__(view, rng)
        if request_tokens < 0:
            raise ValueError(f"request_tokens = {request_tokens}, expected at least 0")
        self.request_tokens = request_tokens

    def choose(self, arrival: Arrival) -> int:
        """The lowest load; of equal ones the lowest number."""
        return min(self.view.numbers, key=self.load)

    def load(self, number: int) -> int:
        """Tokens of a replica, with what its requests count beside."""
        return self.view.tokens(number) + self.request_tokens * self.view.requests(number)
