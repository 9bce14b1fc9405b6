"""The link between a GPU and the memory of its host, and what of the KV cache lies there."""

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hardware.gpu import Gpu
from hardware.yaml_file import Row, read_bundled, validated
from model.dataclass import dataclass
from model.kept import kept

GIB = 2**30
PAGE_BYTES = 4096
"""Chunks in the host's memory begin with a page, as vLLM's do."""


class HostLink(BaseModel):
    """Copies between a GPU and its host, all of it or a part: the rest is the GPU's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    bytes_per_s: float | None = Field(default=None, gt=0, le=1e15)
    """Of one direction, alone. Default: the GPU's, 50 GB/s with PCIe 5.0."""
    both_bytes_per_s: float | None = Field(default=None, gt=0, le=1e15)
    """Of both together, while both are busy; half of it each. Default: the GPU's, or twice a
    bytes_per_s that is given."""
    latency_s: float | None = Field(default=None, ge=0, le=60)
    """Of a transfer, beside its bytes. Default: the GPU's, 1 ms, which is assumed."""


@dataclass(frozen=True, slots=True)
class HostRates:
    """The same, whole."""

    bytes_per_s: float
    both_bytes_per_s: float
    latency_s: float

    @property
    def together(self) -> float:
        """Speed of a direction while both are busy, as a share of its speed alone."""
        return min(1.0, self.both_bytes_per_s / (2 * self.bytes_per_s))


@dataclass(frozen=True, slots=True)
class HostMemory:
    """KV in the host's memory, of one replica."""

    size_bytes: int
    """That it may take."""
    chunk_bytes: int
    """Of a chunk of all ranks, up to the next page."""
    chunk_tokens: int

    @property
    def chunks(self) -> int:
        """How many it holds."""
        return self.size_bytes // self.chunk_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens that it holds."""
        return self.chunks * self.chunk_tokens

    def as_text(self) -> str:
        """Return a line of the memory ledger, for people."""
        each = f"{self.chunk_tokens} tokens, {self.chunk_bytes / 2**20:.3g} MiB each"
        gib = f"{self.size_bytes / GIB:>9.2f} GiB"
        return f"{'memory of the host':<18} {gib}  {self.chunks} chunks of {each}, of all ranks"


@dataclass(frozen=True)
class _Source(Row):
    title: str
    url: str
    date: str


@dataclass(frozen=True)
class _Link(Row):
    bytes_per_s: float
    both_bytes_per_s: float
    latency_s: float
    source: str


@dataclass(frozen=True)
class _Table(Row):
    sources: dict[str, _Source]
    links: dict[str, _Link]
    gpus: dict[str, list[str]]


@lru_cache(maxsize=1)
def _table() -> _Table:
    return kept("host_links", _read)


def _read() -> _Table:
    path = Path(__file__).parents[1] / "host_links.yaml"
    return validated(_Table, read_bundled(path), path.name)


def host_rates(gpu: Gpu, given: HostLink | None = None) -> HostRates:
    """Return the rates of a GPU's link to its host, as given or as the table has them.

    Raises:
        ValueError: nothing is given, and the table does not know the GPU.
    """
    given = given or HostLink.model_construct()
    table = _table()
    kind = next((link for link, gpus in table.gpus.items() if gpu.name in gpus), None)
    kind = kind or next((link for link, gpus in table.gpus.items() if gpu.like in gpus), None)
    known = table.links[kind] if kind is not None else None
    if given.bytes_per_s is None and known is None:
        raise ValueError(
            f"engine.host_link: nothing is known of the link between {gpu.name} and its host, "
            "expected engine.host_link.bytes_per_s"
        )
    own = given.bytes_per_s is not None or known is None
    rate = given.bytes_per_s or (known.bytes_per_s if known else 0.0)
    both = given.both_bytes_per_s or (2 * rate if own or known is None else known.both_bytes_per_s)
    latency_s = given.latency_s
    if latency_s is None:
        latency_s = known.latency_s if known is not None else 1e-3
    return HostRates(rate, both, latency_s)


def host_memory(
    size_gib: float, *, block_bytes: int, block_tokens: int, blocks_per_chunk: int, ranks: int
) -> HostMemory:
    """Return what of the KV cache fits into so many GiB of the host, all ranks together.

    Args:
        size_gib: vLLM's ``kv_offloading_size``.
        block_bytes: of a block on one rank.
        block_tokens: of a block.
        blocks_per_chunk: blocks that are kept as one.
        ranks: of the replica; each keeps its part.

    Raises:
        ValueError: not one chunk fits.
    """
    bytes_ = block_bytes * blocks_per_chunk * ranks
    chunk_bytes = -(-bytes_ // PAGE_BYTES) * PAGE_BYTES
    memory = HostMemory(int(size_gib * GIB), chunk_bytes, block_tokens * blocks_per_chunk)
    if not memory.chunks:
        raise ValueError(
            f"engine.kv_offloading_size = {size_gib:g} GiB holds no chunk of "
            f"{memory.chunk_tokens} tokens, {chunk_bytes / GIB:.3g} GiB, expected at least that"
        )
    return memory
