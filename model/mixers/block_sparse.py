"""Attention to chosen blocks of positions (MiniMax-M3): an index scores every position, the best
blocks of a group of heads are attended."""

from dataclasses import replace
from functools import cached_property

from model.attended import Attended
from model.caches import INDEX, Cache
from model.dataclass import dataclass
from model.matrices import Matrix, repeated
from model.mixers.attention import Attention
from model.mixers.mixer import Kernel, Rotary
from model.operators import NORM_FLOPS, ROPE_FLOPS, F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class BlockSparse:
    """Grouped attention, and an index with one key per position that every rank has."""

    heads: Attention
    index_heads: int
    index_dim: int
    block_tokens: int
    blocks: int
    """That a query attends, at most."""

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of the attention, and queries and keys of the index."""
        hidden = repeated(self.heads.hidden_size)
        queries, keys = repeated(self.index_heads * self.index_dim), repeated(self.index_dim)
        return (*self.heads.matrices, Matrix("index_proj", (queries, keys), hidden))

    @property
    def vector_numbers(self) -> int:
        """Norms of the index's queries and keys besides."""
        return self.heads.vector_numbers + 2 * self.index_dim

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """Keys and values of heads, of which some are read, and the index's keys."""
        (kept,) = self.heads.caches
        chosen = replace(kept, most_read=self.block_tokens * self.blocks)
        return (chosen, Cache(kind=INDEX, per_entry=repeated(self.index_dim)))

    @property
    def rotary(self) -> Rotary | None:
        """See ``Mixer``."""
        return self.heads.rotary

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return self.heads.told

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return replace(self.heads.kernel(tp), kind="block sparse")

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        numbers = rows * (self.index_heads + 1) * self.index_dim
        flops = NORM_FLOPS["rmsnorm"] + ROPE_FLOPS
        return [
            *self.heads.operators(rows, share),
            *share.products(self.matrices[-1], rows),
            share.elementwise("index_norm", numbers, flops, 2, kind="norm"),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``: scores of all positions are ``2 d`` FLOPs a head and a maximum."""
        own = Attended(attended.sequences, attended.rows, attended.pairs[:1], attended.entries[:1])
        pairs, entries, wide = attended.pairs[1], attended.entries[1], share.precision
        flops = pairs * self.index_heads * (2 * self.index_dim + 1)
        queries = attended.rows * self.index_heads * self.index_dim * wide.activation_bytes
        keys = (entries + attended.rows) * self.caches[1].entry_bytes(wide.kv_bytes, share.tp)
        return [
            share.attention("index", flops, queries, keys),
            *self.heads.attention(own, share, fused=fused, decode=decode),
        ]
