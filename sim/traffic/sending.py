"""When the API has sent the last tokens of answers: the end of a request for whoever is outside.

An engine is through with a request before its API server is. Clients, and routers in front of
servers, see it end when its response does.
"""

from sim.engine.journal import Journal
from sim.traffic.outbox import Outbox


class Sending:
    """What lies between the end of a step and the clients of its tokens.

    Args:
        outboxes: what tokens pass on their way out, by replica; empty: nothing.
        output_s: how long they are on their way behind that.
        journals: of each replica.
    """

    def __init__(self, outboxes: list[Outbox], output_s: float, journals: list[Journal]) -> None:
        self._outboxes, self._output_s, self._journals = outboxes, output_s, journals

    def seen_s(self, number: int, now_s: float) -> float:
        """Return when the tokens of a replica's step that ended now are seen."""
        seen_s = now_s
        if self._outboxes:
            seen_s = self._outboxes[number].last_seen_s(self._journals[number])
        return seen_s + self._output_s
