"""What became of each request: rows in a flat buffer, taken as columns from time to time."""

from collections.abc import Callable
from struct import Struct
from typing import Final

from sim.engine.journal import Journal
from sim.engine.sequence import Sequence

_pack_outcome = Struct("=6d5i").pack
_pack_tiers = Struct("=2id").pack
TIER_BYTES: Final = 16


class Outcomes:
    """Rows of all replicas: first_scheduled_s, first_token_s, finish_s, computed_s, lost_s,
    paused_s, request, replica, preemptions, cached_tokens, status.

    Args:
        journals: of each replica.
        full_bytes: from so many on the rows are worth taking.
        finished: the status of who has all tokens.
        take: called with a replica's number when the rows or its journal are full.
    """

    def __init__(
        self, journals: list[Journal], full_bytes: int, finished: int, take: Callable[[int], None]
    ) -> None:
        self.rows = bytearray()
        self.tiers: bytearray | None = None
        """Where a cache has tiers, rows of request, brought_tokens, loading_s."""
        self._journals = journals
        self._full_bytes = full_bytes
        self._finished = finished
        self._take = take

    def ended(self, sequence: Sequence, replica: int, status: int, finish_s: float) -> None:
        """A request finished, was rejected or given up, or is unfinished when the clock stops.

        ``finish_s`` is when it was given up, in that case.
        """
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
            self.tiers += _pack_tiers(sequence.request, sequence.brought_tokens, sequence.loading_s)

    def finished(self, sequences: list[Sequence], replica: int, now_s: float) -> None:
        """Sequences produced their last token, now."""
        for sequence in sequences:
            self.ended(sequence, replica, self._finished, now_s)
        journal = self._journals[replica]
        if journal.steps >= journal.full_steps or len(self.rows) >= self._full_bytes:
            self._take(replica)
