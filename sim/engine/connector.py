"""KV that is brought from elsewhere instead of being computed: what vLLM calls a KV connector.

    waits -> match: so many tokens can be brought -> blocks taken, parked -> told -> waits no more

A request whose KV is on its way holds its blocks, has no seat and is in no step (vLLM's
WAITING_FOR_REMOTE_KVS). That all of it has come is told between two steps.
"""

from math import inf
from typing import Final

from mypy_extensions import mypyc_attr

from sim.engine.sequence import Batch, Sequence

ASK_AGAIN: Final = -1
"""Instead of tokens: it is not known yet; whoever is behind in the queue passes by meanwhile."""


class Parked:
    """A request whose KV is on its way, or has come and is not yet in a step."""

    __slots__ = ("arrived", "held_tokens", "named", "sequence", "since_s")

    def __init__(self, sequence: Sequence, held_tokens: int, since_s: float) -> None:
        self.sequence = sequence
        self.held_tokens = held_tokens
        """Tokens that it has blocks of: those found here, and those that are brought."""
        self.since_s = since_s
        self.arrived = False
        """Whether the scheduler was told that all has come."""
        self.named = False
        """Whether others can find its blocks."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Connector:
    """Brings KV to one engine, and takes a copy of what it computes. This one does neither."""

    def match(self, sequence: Sequence, past: int) -> int:
        """Tokens behind the first ``past`` that it can bring, or ``ASK_AGAIN``.

        Asked in every step in which the request is next in line."""
        return 0

    def bring(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """The request has blocks for that many tokens behind ``past``: bring them, from now on."""

    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """A step was planned, after so many decode steps; say whether it has to see the next one,
        even if that is like this one."""
        return False

    def ended(self, sequence: Sequence) -> None:
        """A request has ended, or was given up, and lets go of its blocks."""

    def come(self, now_s: float) -> list[Sequence]:
        """Whose KV has all come by now, in this order; each is told once.

        Called between steps, and what it was given in ``planned`` is on its way from then on."""
        return []

    def next_s(self) -> float:
        """When it has something to tell next, later than it was last asked; infinity: never."""
        return inf
