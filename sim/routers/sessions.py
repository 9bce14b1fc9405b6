"""A router that keeps sessions where they are."""

import numpy as np

from sim.routers.loads import LeastRequests
from sim.routers.prompts import NOBODY
from sim.routers.router import Arrival, View


class SessionAffinity(LeastRequests):
    """A session stays where its first turn went: where fewest requests were.

    Requests without a session go there, too.
    """

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        super().__init__(view, rng)
        self._homes: dict[int, int] = {}
        self._session = NOBODY

    def choose(self, arrival: Arrival) -> int:
        """Its session's home, or the lowest count."""
        self._session = self.view.prompts.session(arrival.request)
        home = self._homes.get(self._session)
        return super().choose(arrival) if home is None else home

    def sent(self, number: int) -> None:
        """One more, which is at home there."""
        super().sent(number)
        if self._session != NOBODY:
            self._homes[self._session] = number
