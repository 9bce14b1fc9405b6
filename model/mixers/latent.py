"""Multi-head latent attention (MLA): one cached vector stands for the keys and values of all heads.

DeepSeek-V2 (arXiv 2405.04434, section 2.1). As vLLM runs it (vllm/v1/attention/backends/mla):

Decoding is absorbed
    Queries go through the heads' part of ``kv_b_proj`` into the latent space, scores and values are
    taken there, and the outputs come back through the rest of that matrix. The latent is read once
    for all heads; its ``kv_lora_rank + rope`` numbers are on every rank. These products are in the
    activations' precision, of a copy of ``kv_b_proj`` where that is quantized.
Prefill is expanded
    Keys and values of the chunk and of its past are made from the latent with ``kv_b_proj``, and
    attended as in other models. The past is made again for every chunk.
With an index (``model.mixers.index``)
    Both are absorbed, over the chosen positions only.

Both ways take a row through ``kv_b_proj`` once, with the same FLOPs, so that this product is one of
``operators``; what the past costs is part of ``attention``.
"""

from functools import cached_property

from model.attended import Attended
from model.caches import LATENT, Cache
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.index import Index
from model.mixers.mixer import Kernel, Rotary
from model.operators import NORM_FLOPS, ROPE_FLOPS, SOFTMAX_FLOPS, F, Operator
from model.share import Share

EXPANDS = "kv_b_proj"
"""The matrix that makes keys and values of all heads from a latent."""
FP8_GROUP = 128
"""Numbers of a latent that share a float32 scale in fp8, where an index chooses positions."""


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Queries of ``nope + rope`` numbers; keys of as many and values, from one latent vector."""

    hidden_size: int
    num_heads: int
    q_lora_rank: int | None
    """Width that queries are made from; None: from the hidden size."""
    kv_lora_rank: int
    """Numbers of the latent, without the rotated part of the keys that stands beside it."""
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    rotary: Rotary | None = None
    bias: bool = False
    """Of the products from and to the hidden size."""
    gate: int = 0
    """Numbers per head that gate the outputs, made from the hidden size (Kimi K3); 0 for none."""
    index: Index | None = None
    """Chooses the positions that are attended."""
    index_shared: bool = False
    """They are the choice of a layer before (GLM-5.2): without weights or keys of an own index."""

    @property
    def query_dim(self) -> int:
        """Numbers of a query of one head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_size(self) -> int:
        """Numbers of a cached vector."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``; what only makes latents every rank has in full."""
        heads, hidden, ranked = self.num_heads, repeated(self.hidden_size), self.q_lora_rank
        latent, queries = repeated(self.latent_size), Width(heads, self.query_dim)
        if ranked is None:
            first = (
                Matrix("q_proj", (queries,), hidden),
                Matrix("kv_a_proj", (latent,), hidden, bias=self.bias),
            )
        else:
            first = (
                Matrix("qkv_a_proj", (repeated(ranked), latent), hidden, bias=self.bias),
                Matrix("q_b_proj", (queries,), repeated(ranked)),
            )
        expanded = Width(heads, self.qk_nope_head_dim + self.v_head_dim)
        gate = Matrix("output_gate", (Width(heads, self.gate),), hidden)
        return (
            *first,
            Matrix(EXPANDS, (expanded,), repeated(self.kv_lora_rank), unpacked=True),
            Matrix("o_proj", (hidden,), Width(heads, self.v_head_dim), bias=self.bias),
            *((gate,) if self.gate else ()),
            *(self._own_index.matrices if self._own_index else ()),
        )

    @property
    def _own_index(self) -> Index | None:
        return None if self.index_shared else self.index

    @property
    def vector_numbers(self) -> int:
        """Norms of the latents."""
        index = self._own_index.vector_numbers if self._own_index else 0
        return (self.q_lora_rank or 0) + self.kv_lora_rank + index

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """The latents, and the keys of an index."""
        width = repeated(self.latent_size)
        if self.index is None:
            return (Cache(kind=LATENT, per_entry=width),)
        # vLLM's fp8_ds_mla: the latent in fp8 with scales, the rotated part in 16 bits.
        fp8 = self.kv_lora_rank + 4 * (self.kv_lora_rank // FP8_GROUP) + 2 * self.qk_rope_head_dim
        latents = Cache(
            kind=LATENT, per_entry=width, most_read=self.index.topk, fp8_entry_bytes=fp8
        )
        return (latents,) if self.index_shared else (latents, self.index.cache)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.num_heads} attention heads"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        kind = "latent" if self.index is None else "sparse latent"
        return Kernel(kind, self.num_heads // tp, 1, self.latent_size)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: the projections around the attention, and those of an index."""
        named = {matrix.name: matrix for matrix in self.matrices}
        heads = self.num_heads // share.tp
        index = self._own_index.operators(rows, share) if self._own_index else []
        normed = (self.q_lora_rank or 0) + self.kv_lora_rank
        flops = NORM_FLOPS["rmsnorm"]
        first = ("q_proj", "kv_a_proj") if self.q_lora_rank is None else ("qkv_a_proj",)
        operators = [one for name in first for one in share.products(named[name], rows)]
        operators.append(share.elementwise("latent_norm", rows * normed, flops, 2, kind="norm"))
        if self.q_lora_rank is not None:
            operators += share.products(named["q_b_proj"], rows)
        if self.rotary is not None:
            rotated = (heads + 1) * self.qk_rope_head_dim
            operators.append(share.elementwise("rope", rows * rotated, ROPE_FLOPS, 2))
        operators += [*index, *share.products(named[EXPANDS], rows)]
        if self.gate:
            operators += share.products(named["output_gate"], rows)
            gated = rows * heads * self.v_head_dim
            operators.append(share.elementwise("gate", gated, 5, 2 + self.gate / self.v_head_dim))
        return operators + share.products(named["o_proj"], rows)

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``; there is no unfused form.

        Absorbed, one query of one head and one latent are ``2 (c + r) + 2 c + 3`` FLOPs, for c
        numbers of the latent and r rotated ones; expanded they are ``2 (n + r) + 2 v + 3``, for n
        other numbers of the key and v of the value, and every past position goes through
        ``kv_b_proj``.
        """
        if not decode and self.index is None:
            return [self._expanded(attended, share)]
        operators = [self._absorbed(attended, share)]
        if self._own_index is not None:
            keys = (attended.rows, attended.pairs[1], attended.entries[1])
            operators.insert(0, self._own_index.choice(*keys, share))
        return operators

    def _absorbed(self, attended: Attended, share: Share) -> Operator:
        heads, latent = self.num_heads // share.tp, self.latent_size
        rows, pairs, entries = attended.rows, attended.pairs[0], attended.entries[0]
        flops = heads * pairs * (2 * latent + 2 * self.kv_lora_rank + SOFTMAX_FLOPS)
        vectors = rows * heads * (latent + self.kv_lora_rank) * share.precision.activation_bytes
        return share.attention("attention", flops, vectors, self._cached(entries + rows, share))

    def _expanded(self, attended: Attended, share: Share) -> Operator:
        heads, numbers = self.num_heads // share.tp, share.precision
        rows, pairs, entries = attended.rows, attended.pairs[0], attended.entries[0]
        key, value, past = self.query_dim, self.v_head_dim, entries - rows
        flops = heads * pairs * (2 * key + 2 * value + SOFTMAX_FLOPS)
        made = self.qk_nope_head_dim + value
        flops = flops + 2 * past * self.kv_lora_rank * heads * made
        # Queries and outputs; keys and values that are read, and those of the past written before.
        vectors = heads * (rows * (key + value) + entries * (key + value) + past * made)
        moved = vectors * numbers.activation_bytes
        return share.attention("attention", flops, moved, self._cached(entries + rows, share))

    def _cached(self, entries: F, share: Share) -> F:
        """Bytes of latents that are read or written."""
        return entries * self.caches[0].entry_bytes(share.precision.kv_bytes, share.tp)
