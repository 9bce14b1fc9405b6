"""Attention with grouped query heads, over all positions or the last ones of a window."""

from functools import cached_property

from model.attended import Attended
from model.caches import HEADS, Cache
from model.counts import count_of
from model.dataclass import dataclass
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
    v_head_dim: int | None = None
    """Numbers of a value of one head, where they are not ``head_dim`` (MiMo-V2)."""
    gate: int = 0
    """Numbers per query head that gate its output, made from the hidden size beside the queries:
    ``head_dim`` (Qwen3-Next) or 1 (Step-3.5); 0 for none."""
    gate_bias: bool = True
    """Those numbers have biases where the queries have (they come out of one matrix)."""
    sinks: bool = False
    """A learned score per query head that takes part in the softmax (gpt-oss)."""
    values_are_keys: bool = False
    """Values are the keys before rotation, without a matrix of their own (Gemma 4)."""
    shares_cache: bool = False
    """Attends keys and values that an earlier layer has cached, and has none of its own (Gemma
    3n)."""

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def value_dim(self) -> int:
        """Numbers of a value of one head."""
        return self.v_head_dim or self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``."""
        hidden, outputs = repeated(self.hidden_size), Width(self.num_heads, self.value_dim)
        queries = Width(self.num_heads, self.head_dim + self.gate)
        keys = Width(self.num_kv_heads, self.head_dim, copied=True)
        values = Width(self.num_kv_heads, self.value_dim, copied=True)
        joined: tuple[Width, ...] = (queries, keys, values)
        if self.shares_cache or self.values_are_keys:
            joined = joined[: 1 if self.shares_cache else 2]
        unbiased = None if self.gate_bias or not self.gate else Width(self.num_heads, self.gate)
        return (
            Matrix("qkv_proj", joined, hidden, bias=self.qkv_bias, unbiased=unbiased),
            Matrix("o_proj", (hidden,), outputs, bias=self.output_bias),
        )

    @property
    def vector_numbers(self) -> int:
        """Norms of queries and keys, and sinks."""
        sinks = self.num_heads if self.sinks else 0
        if not self.qk_norm:
            return sinks
        norms = 2 * self.head_dim if self.qk_norm_numbers is None else self.qk_norm_numbers
        return sinks + norms

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """Keys and values of every KV head."""
        width = Width(self.num_kv_heads, self.head_dim + self.value_dim, copied=True)
        kept = not self.shares_cache
        return (Cache(kind=HEADS, per_entry=width, window=self.sliding_window, kept=kept),)

    @property
    def norms_all_heads(self) -> bool:
        """Whether queries and keys have one norm over all heads, which ranks must share."""
        numbers = self.qk_norm_numbers or 0
        return self.qk_norm and numbers >= self.query_size + self.kv_size

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        heads = count_of(self.num_heads, "attention head")
        return f"{heads}, {count_of(self.num_kv_heads, 'KV head')}"

    def heads_on(self, tp: int) -> tuple[int, int]:
        """Return the query heads and the KV heads of one of ``tp`` ranks."""
        return self.num_heads // tp, max(1, self.num_kv_heads // tp)

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        heads, kv_heads = self.heads_on(tp)
        return Kernel("grouped", heads, kv_heads, kv_heads * (self.head_dim + self.value_dim))

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: the projections around the attention."""
        qkv, output = self.matrices
        heads, kv_heads = self.heads_on(share.tp)
        rotated = (heads + (0 if self.shares_cache else kv_heads)) * self.head_dim
        operators = share.products(qkv, rows)
        if self.qk_norm:
            flops = NORM_FLOPS["rmsnorm"]
            operators.append(share.elementwise("qk_norm", rows * rotated, flops, 2, kind="norm"))
        if self.rotary is not None:
            operators.append(share.elementwise("rope", rows * rotated, ROPE_FLOPS, 2))
        if self.gate:
            # A sigmoid of every number of the gate, and a product with every number of the output.
            outputs = heads * self.value_dim
            each = 1 + 4 * self.gate / self.value_dim
            moved = 2 + self.gate / self.value_dim
            operators.append(share.elementwise("gate", rows * outputs, each, moved))
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
        both, numbers = self.head_dim + self.value_dim, share.precision
        heads, kv_heads = self.heads_on(share.tp)
        flops = heads * pairs * (2 * both + SOFTMAX_FLOPS)
        vectors = rows * heads * both * numbers.activation_bytes
        moved = positions + (0 if self.shares_cache else rows)
        cached = both * kv_heads * numbers.kv_bytes * moved
        return [share.attention("attention", flops, vectors, cached)]

    def _standard(self, rows: F, pairs: F, positions: F, share: Share) -> list[Operator]:
        """Scores, softmax and values as three operators over (row, position) pairs.

        The projection is taken to write new keys and values where attention reads them, so they
        are not moved again.
        """
        numbers, (heads, kv_heads) = share.precision, self.heads_on(share.tp)
        queries = rows * heads * self.head_dim * numbers.activation_bytes
        outputs = rows * heads * self.value_dim * numbers.activation_bytes
        scores = heads * pairs * numbers.activation_bytes
        cached, product = kv_heads * positions * numbers.kv_bytes, 2 * heads * pairs
        keys, values = cached * self.head_dim, cached * self.value_dim
        of_keys, of_values = product * self.head_dim, product * self.value_dim
        return [
            share.attention("attn_scores", of_keys, queries + scores, keys),
            share.attention("attn_softmax", SOFTMAX_FLOPS * heads * pairs, 2 * scores, 0.0),
            share.attention("attn_value", of_values, scores + outputs, values),
        ]
