"""The index of a sparse attention (DSA): small keys, by which a query chooses the positions it
attends.

DeepSeek-V3.2 (arXiv 2512.02556, section 2.1): ``sum over heads of w relu(q k)`` for all earlier
positions, in fp8, and the best ``topk`` of them. vLLM keeps it whole on every rank.
"""

from functools import cached_property

from model.caches import INDEX, Cache
from model.dataclass import dataclass
from model.matrices import Matrix, repeated
from model.operators import NORM_FLOPS, ROPE_FLOPS, F, Operator
from model.share import Share

SCORE_BYTES = 4
"""Of a position's score, which is written and read to choose."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """Heads of queries, one key per position."""

    hidden_size: int
    query_rank: int
    """Width that its queries are made from: the attention's ``q_lora_rank``."""
    num_heads: int
    head_dim: int
    topk: int
    """Positions that it chooses for a query, at most."""
    rope_head_dim: int = 64

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Queries, keys, and weights of the heads; those stay in 16 bits."""
        hidden = repeated(self.hidden_size)
        queries = repeated(self.num_heads * self.head_dim)
        return (
            Matrix("index_q_proj", (queries,), repeated(self.query_rank)),
            Matrix("index_k_proj", (repeated(self.head_dim),), hidden),
            Matrix("index_weights", (repeated(self.num_heads),), hidden, quantized=False),
        )

    @property
    def vector_numbers(self) -> int:
        """A LayerNorm of the keys."""
        return 2 * self.head_dim

    @cached_property
    def cache(self) -> Cache:
        """Keys in fp8 with one float32 scale, whatever the attention keeps."""
        return Cache(
            kind=INDEX,
            per_entry=repeated(self.head_dim),
            fp8_entry_bytes=self.head_dim + 4,
            always_fp8=True,
        )

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """Return what depends on the step's tokens only."""
        queries = self.num_heads * self.head_dim
        rotated = rows * (self.num_heads + 1) * self.rope_head_dim
        flops = NORM_FLOPS["layernorm"]
        return [
            *(one for matrix in self.matrices for one in share.products(matrix, rows)),
            share.elementwise("index_norm", rows * self.head_dim, flops, 2, kind="norm"),
            share.elementwise("index_rope", rotated, ROPE_FLOPS, 2),
            # To fp8: a maximum and a product for each, read in 16 bits and written in 8.
            share.elementwise("index_quantize", rows * queries, 2, 1.5),
        ]

    def choice(self, rows: F, pairs: F, entries: F, share: Share) -> Operator:
        """Return scoring and choosing: ``heads (2 d + 3)`` FLOPs per (query, position) pair.

        Args:
            rows: query tokens.
            pairs: of queries and positions.
            entries: keys that are read.
            share: the rank and the layers.
        """
        flops = pairs * self.num_heads * (2 * self.head_dim + 3)
        moved = rows * self.num_heads * self.head_dim + 2 * SCORE_BYTES * pairs
        cached = (entries + rows) * self.cache.entry_bytes(share.precision.kv_bytes, share.tp)
        return share.attention("index", flops, moved, cached, compute="fp8")
