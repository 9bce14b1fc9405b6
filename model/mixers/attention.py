"""Attention with grouped query heads, over all positions or the last ones of a window."""

from dataclasses import dataclass
from functools import cached_property

from model.attended import Attended
from model.caches import HEADS, Cache
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.operators import NORM_FLOPS, ROPE_FLOPS, SOFTMAX_FLOPS, F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Queries, keys and values of ``head_dim`` numbers; some query heads share a KV head."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    sliding_window: int | None = None
    """Positions that a token attends, itself included; None for all of them."""
    rotary: Rotary | None = None
    """None: positions are learned and added to the embedding, or scores fall with distance (ALiBi)
    at no price of its own, or the layer has none."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    """A norm of queries and of keys: of each head with one weight for all (Qwen3), unless told."""
    qk_norm_numbers: int | None = None
    """Parameters of both where that is not ``2 * head_dim``: a weight for every number of all heads
    (OLMo 2, MiniMax-M2), biases besides (Persimmon)."""

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``."""
        hidden = repeated(self.hidden_size)
        queries = Width(self.num_heads, self.head_dim)
        keys = Width(self.num_kv_heads, self.head_dim, copied=True)
        return (
            Matrix("qkv_proj", (queries, keys, keys), hidden, bias=self.qkv_bias),
            Matrix("o_proj", (hidden,), queries, bias=self.output_bias),
        )

    @property
    def vector_numbers(self) -> int:
        """See ``Mixer``."""
        if not self.qk_norm:
            return 0
        return 2 * self.head_dim if self.qk_norm_numbers is None else self.qk_norm_numbers

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """Keys and values of every KV head."""
        width = Width(self.num_kv_heads, 2 * self.head_dim, copied=True)
        return (Cache(kind=HEADS, per_entry=width, window=self.sliding_window),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.num_heads} attention heads, {self.num_kv_heads} KV heads"

    def heads_on(self, tp: int) -> tuple[int, int]:
        """Return the query heads and the KV heads of one of ``tp`` ranks."""
        return self.num_heads // tp, max(1, self.num_kv_heads // tp)

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        heads, kv_heads = self.heads_on(tp)
        return Kernel("grouped", heads, kv_heads, 2 * kv_heads * self.head_dim)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: the projections around the attention."""
        qkv, output = self.matrices
        heads, kv_heads = self.heads_on(share.tp)
        rotated = heads * self.head_dim + kv_heads * self.head_dim
        operators = share.products(qkv, rows)
        if self.qk_norm:
            flops = NORM_FLOPS["rmsnorm"]
            operators.append(share.elementwise("qk_norm", rows * rotated, flops, 2, kind="norm"))
        if self.rotary is not None:
            operators.append(share.elementwise("rope", rows * rotated, ROPE_FLOPS, 2))
        return operators + share.products(output, rows)

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``; decoding and prefill differ in their counts only.

        With N positions attended and d the head dimension, one query of one head is ``N (4d + 3)``
        FLOPs: two products of 2Nd and a softmax of 3N. Fused (FlashAttention; Dao et al. 2022,
        algorithm 1), queries, cached keys and values are read once and the new ones written: that
        later blocks of queries find the keys in the GPU's own cache is assumed. Unfused (Dao et al.
        2022, algorithm 0) moves scores and probabilities through memory, both written once and read
        once. For one head of N tokens without past at 16 bits that is ``N^2 (4d + 3)`` FLOPs and
        ``8 N (N + d)`` bytes, an intensity of 57.2 FLOP/byte at N = 1024, d = 128; for one decoding
        sequence it is ``4 (Nd + d + 2N)`` bytes.
        """
        build = self._fused if fused else self._standard
        (pairs,), (positions,) = attended.pairs, attended.entries
        return build(attended.rows, pairs, positions, share)

    def _fused(self, rows: F, pairs: F, positions: F, share: Share) -> list[Operator]:
        """Reads q and the attended K and V once, writes o, stores the new K and V in the cache."""
        head_dim, numbers = self.head_dim, share.precision
        heads, kv_heads = self.heads_on(share.tp)
        flops = heads * pairs * (4 * head_dim + SOFTMAX_FLOPS)
        vectors = 2 * rows * heads * head_dim * numbers.activation_bytes
        cached = 2 * kv_heads * head_dim * numbers.kv_bytes * (positions + rows)
        return [share.attention("attention", flops, vectors, cached)]

    def _standard(self, rows: F, pairs: F, positions: F, share: Share) -> list[Operator]:
        """Scores, softmax and values as three operators over (row, position) pairs.

        The projection is taken to write new keys and values where attention reads them, so they
        are not moved again.
        """
        numbers, (heads, kv_heads) = share.precision, self.heads_on(share.tp)
        vectors = rows * heads * self.head_dim * numbers.activation_bytes
        scores = heads * pairs * numbers.activation_bytes
        keys = kv_heads * self.head_dim * positions * numbers.kv_bytes
        product = 2 * self.head_dim * heads * pairs
        return [
            share.attention("attn_scores", product, vectors + scores, keys),
            share.attention("attn_softmax", SOFTMAX_FLOPS * heads * pairs, 2 * scores, 0.0),
            share.attention("attn_value", product, scores + vectors, keys),
        ]
