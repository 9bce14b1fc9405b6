"""A store of KV that replicas share, as one of them sees it."""

from hardware.memory.host_link import GIB
from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class SharedStore:
    """The same for all replicas that share it, but for their links."""

    size_bytes: int
    chunk_bytes: int
    """Of a chunk of all ranks."""
    chunk_tokens: int
    link_s: float
    """Of a chunk on a replica's own links, each rank its part."""
    store_s: float
    """Of a chunk on the store's link, alone; 0: it has no limit."""
    latency_s: float
    min_load_tokens: int
    writes_back: bool = False
    """Below the host's memory: whether chunks are written when they make room there."""

    @property
    def chunks(self) -> int:
        """How many it holds."""
        return self.size_bytes // self.chunk_bytes

    def as_text(self) -> str:
        """Return a line of the memory ledger, for people."""
        each = f"{self.chunk_tokens} tokens, {self.chunk_bytes / 2**20:.3g} MiB each"
        gib = f"{self.size_bytes / GIB:>9.2f} GiB"
        return f"{'shared KV store':<18} {gib}  {self.chunks} chunks of {each}, of all replicas"
