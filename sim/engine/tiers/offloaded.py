"""What vLLM's OffloadingConnector is told, what it keeps of a request, and its copies."""

from dataclasses import dataclass

from sim.engine.sequence import Sequence
from sim.engine.tiers.pipe import Job


@dataclass(frozen=True)
class OffloadSettings:
    """Of one engine."""

    blocks_per_chunk: int
    block_size: int
    block_s: float
    """Time of one block in either direction, alone."""
    latency_s: float = 0.0
    """Of one transfer, beside its blocks."""
    together: float = 1.0
    """Speed of each direction while both are busy, as a share of its speed alone."""
    store_threshold: int = 0
    """A chunk is kept from this offer on; below 2 from the first."""
    max_tracker_size: int = 64_000
    """Chunks whose offers are counted."""
    offload_prompt_only: bool = True
    """Whether answers are not kept."""
    offers_again: bool = False
    """Whether a request that begins again offers all of its chunks again (vLLM 0.33 on)."""
    ahead: bool = False
    drafts: bool = False
    """Whether answers advance by drafts that were right."""
    drops_chunk: bool = False
    """Whether the drafter has layers in each chunk, and reads what the target's last one makes: the
    last chunk that is found is computed again, that of an answer that goes on is not kept."""


class Transfer(Job):
    """Chunks that one request brings, or has copied."""

    def __init__(self, work_s: float, sequence: Sequence, keys: list[int], stores: bool) -> None:
        super().__init__(work_s)
        self.sequence = sequence
        self.keys = keys
        self.stores = stores


class Offloaded:
    """What the connector knows of one request."""

    __slots__ = ("jobs", "keys", "marks", "promoted", "rank", "stored")

    def __init__(self) -> None:
        self.keys: list[int] = []
        """Of its whole chunks, in order."""
        self.marks = bytearray()
        """What was done with each."""
        self.stored = 0
        """The first chunk that was not yet offered."""
        self.jobs = 0
        """Transfers under way."""
        self.rank = 0
        """See ``Eviction.seen``."""
        self.promoted: list[int] = []
        """Chunks that came from a tier below for it, and stay until it has been served."""
