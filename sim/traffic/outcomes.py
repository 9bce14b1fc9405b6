"""What became of each request: rows in a flat buffer, taken as columns from time to time."""

from array import array
from collections.abc import Callable
from struct import Struct
from typing import Final

from sim.engine.journal import Journal
from sim.engine.sequence import Sequence

UNFINISHED: Final = 0
FINISHED: Final = 1
REJECTED: Final = 2
TIMED_OUT: Final = 3

_pack_outcome: Final = Struct("6d5i").pack
_pack_tiers: Final = Struct("=3id").pack
TIER_BYTES: Final = 20


class Outcomes:
    """Rows of all replicas: first_scheduled_s, first_token_s, finish_s, computed_s, lost_s,
    paused_s, request, replica, preemptions, cached_tokens, status.

    Args:
        journals: of each replica.
        full_bytes: from so many on the rows are worth taking.
        take: called with a replica's number when the rows or its journal are full.
    """

    def __init__(
        self, journals: list[Journal], full_bytes: int, take: Callable[[int], None]
    ) -> None:
        self.rows = bytearray()
        self.tiers: bytearray | None = None
        """Where a cache has tiers, rows of request, brought_tokens, store_tokens, loading_s."""
        self.arrival_s = array("d")
        """Where users wait for answers, when each request was wanted."""
        self.claimed_tokens = array("i")
        """What a router that says so took to be cached of each request."""
        self.metrics_age_s = array("f")
        """How old the metrics were that it looked at then."""
        self.journals = journals
        self._full_bytes = full_bytes
        self._take = take

    def arrived(self, sequence: Sequence) -> None:
        """Users issued a request."""
        self.arrival_s[sequence.request] = sequence.arrival_s

    def routed(self, request: int, claimed_tokens: int, metrics_age_s: float) -> None:
        """The router sent a request, and why."""
        self.claimed_tokens[request] = claimed_tokens
        self.metrics_age_s[request] = metrics_age_s

    def finished(self, sequences: list[Sequence], replica: int, now_s: float) -> None:
        """Sequences produced their last token, now."""
        for sequence in sequences:
            self._ended(sequence, replica, FINISHED, now_s)
        journal = self.journals[replica]
        if journal.steps >= journal.full_steps or len(self.rows) >= self._full_bytes:
            self._take(replica)

    def rejected(self, sequence: Sequence) -> None:
        """Nobody can take it."""
        self._ended(sequence, -1, REJECTED, -1.0)

    def timed_out(self, sequence: Sequence, replica: int, now_s: float) -> None:
        """It was given up, now."""
        self._ended(sequence, replica, TIMED_OUT, now_s)

    def unfinished(self, sequence: Sequence, replica: int) -> None:
        """It has not ended when the clock stops."""
        self._ended(sequence, replica, UNFINISHED, -1.0)

    def _ended(self, sequence: Sequence, replica: int, status: int, finish_s: float) -> None:
        self.rows += _pack_outcome(
            sequence.first_scheduled_s,
            sequence.first_token_s,
            finish_s,
            sequence.computed_s,
            sequence.lost_s,
            sequence.paused_s,
            sequence.request,
            replica,
            sequence.preemptions,
            sequence.cached_tokens,
            status,
        )
        if self.tiers is not None:
            self.tiers += _pack_tiers(
                sequence.request, sequence.brought_tokens, sequence.store_tokens, sequence.loading_s
            )
