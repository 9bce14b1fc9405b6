"""A router of one's own: requests of a kind stay together, unless their replica has far more to do.

headroom run examples/length_sticky.yaml --plugin examples/length_sticky.py
headroom check examples/length_sticky.py
"""

import numpy as np

from sim.routers.router import Arrival, Looks, Router, View


class LengthSticky(Router):
    """Prompts of about a length share a replica, as long as it has at most ``slack`` requests more.

    Short and long prompts do not wait for each other, then; who falls behind is left out.
    """

    looks_at = Looks.LOADS

    def __init__(self, view: View, rng: np.random.Generator, *, slack: int = 8) -> None:
        super().__init__(view, rng)
        if slack < 0:
            raise ValueError(f"slack = {slack}, expected at least 0")
        self.slack = slack

    def choose(self, arrival: Arrival) -> int:
        home = arrival.prompt_tokens.bit_length() % len(self.view.numbers)
        least = min(self.view.numbers, key=self.view.requests)
        return home if self.view.requests(home) <= self.view.requests(least) + self.slack else least
