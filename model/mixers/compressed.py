"""DeepSeek-V4's attention: a window of positions, and entries that stand for several tokens.

All query heads share one vector per entry, which is key and value. Behind the window a compressor
makes an entry of every 4 tokens, of which an index chooses some for a query, or of every 128, and
all are attended. Outputs go back to the hidden size through a narrow width, in groups of heads.

The states of the compressors are the engine's (``hardware.memory.kv_compressed``): a window of
tokens.
"""

from functools import cached_property

from model.attended import Attended
from model.caches import COMPRESSED, INDEX, Cache
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.operators import NORM_FLOPS, ROPE_FLOPS, SOFTMAX_FLOPS, F, Operator
from model.share import Share

ENTRY_SCALES = 8
"""Bytes of an entry's scales in vLLM's layout: 448 fp8 numbers, 64 in 16 bits, and these."""


@dataclass(frozen=True, kw_only=True)
class ChosenEntries:
    """An index over compressed entries."""

    num_heads: int
    head_dim: int
    topk: int
    """Entries that it chooses for a query, at most."""


@dataclass(frozen=True, kw_only=True)
class CompressedAttention:
    """Queries of ``num_heads`` heads over shared entries of ``head_dim`` numbers."""

    hidden_size: int
    num_heads: int
    head_dim: int
    rope_head_dim: int
    q_lora_rank: int
    output_groups: int
    output_rank: int
    """Width of one group's outputs before they are joined."""
    window: int
    every: int = 0
    """Tokens that a compressed entry stands for; 0: only the window."""
    overlap: int = 1
    """Entries that a token is part of."""
    index: ChosenEntries | None = None
    """Chooses compressed entries; None: all are attended."""
    rotary: Rotary | None = None

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``."""
        hidden, latent = repeated(self.hidden_size), repeated(self.q_lora_rank)
        groups = Width(self.output_groups, self.output_rank)
        of_group = repeated(self.num_heads * self.head_dim // self.output_groups)
        return (
            Matrix("qkv_a_proj", (latent, repeated(self.head_dim)), hidden),
            Matrix("q_b_proj", (Width(self.num_heads, self.head_dim),), latent),
            Matrix("o_a_proj", (groups,), of_group),
            Matrix("o_b_proj", (hidden,), groups),
            *self._compressor("compressor", self.head_dim),
            *self._index_matrices,
        )

    def _compressor(self, name: str, size: int) -> tuple[Matrix, ...]:
        if not self.every:
            return ()
        both = repeated(self.overlap * size)
        return (Matrix(name, (both, both), repeated(self.hidden_size)),)

    @property
    def _index_matrices(self) -> tuple[Matrix, ...]:
        index = self.index
        if index is None:
            return ()
        queries = repeated(index.num_heads * index.head_dim)
        return (
            *self._compressor("index_compressor", index.head_dim),
            Matrix("index_q_proj", (queries,), repeated(self.q_lora_rank)),
            Matrix("index_weights", (repeated(index.num_heads),), repeated(self.hidden_size)),
        )

    @property
    def vector_numbers(self) -> int:
        """Norms, sinks, and for each compressor a norm and the weights of places in an entry."""
        sizes = [self.head_dim] if self.every else []
        sizes += [self.index.head_dim] if self.index else []
        compressors = sum(size * (self.every * self.overlap + 1) for size in sizes)
        return self.q_lora_rank + self.head_dim + self.num_heads + compressors

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """The window, compressed entries, and the keys of the index."""
        width, rotated = repeated(self.head_dim), self.rope_head_dim
        bytes_ = self.head_dim - rotated + 2 * rotated + ENTRY_SCALES
        window = Cache(
            kind=COMPRESSED,
            per_entry=width,
            window=self.window,
            fp8_entry_bytes=bytes_,
            always_fp8=True,
        )
        if not self.every:
            return (window,)
        entries = Cache(
            kind=COMPRESSED,
            per_entry=width,
            every=self.every,
            overlap=self.overlap,
            most_read=self.index.topk if self.index else None,
            fp8_entry_bytes=bytes_,
            always_fp8=True,
        )
        if self.index is None:
            return (window, entries)
        keys = Cache(
            kind=INDEX,
            per_entry=repeated(self.index.head_dim),
            every=self.every,
            overlap=self.overlap,
            fp8_entry_bytes=self.index.head_dim + 4,
            always_fp8=True,
        )
        return (window, entries, keys)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.num_heads} attention heads, {self.output_groups} output groups"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        kind = "compressed" if self.index is None else "sparse compressed"
        return Kernel(kind, self.num_heads // tp, 1, self.head_dim)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        first, queries, groups, output, *rest = self.matrices
        heads, flops = self.num_heads // share.tp, NORM_FLOPS["rmsnorm"]
        normed = rows * (self.q_lora_rank + self.head_dim * (heads + 1))
        rotated = rows * (2 * heads + 1) * self.rope_head_dim
        return [
            *share.products(first, rows),
            *share.products(queries, rows),
            share.elementwise("latent_norm", normed, flops, 2, kind="norm"),
            share.elementwise("rope", rotated, ROPE_FLOPS, 2),
            *(one for matrix in rest for one in share.products(matrix, rows)),
            *share.products(groups, rows),
            *share.products(output, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``: ``4 d + 3`` FLOPs per head, query and entry, whichever cache it is in.

        A compressor takes a softmax over the numbers of its tokens; the index scores entries as in
        ``model.mixers.index``.
        """
        operators = [self._attended(place, attended, share) for place in range(self._read)]
        index = self.index
        if index is not None:
            pairs, entries = attended.pairs[2], attended.entries[2]
            cache, kept = self.caches[2], share.precision.kv_bytes
            moved = attended.rows * index.num_heads * index.head_dim + 8 * pairs
            written = entries + attended.rows / self.every
            operators.insert(
                0,
                share.attention(
                    "index",
                    pairs * index.num_heads * (2 * index.head_dim + 3),
                    moved,
                    written * cache.entry_bytes(kept, share.tp),
                    compute="fp8",
                ),
            )
        return operators

    @property
    def _read(self) -> int:
        """Caches that are attended: the window, and compressed entries."""
        return 2 if self.every else 1

    def _attended(self, place: int, attended: Attended, share: Share) -> Operator:
        """The attention to one of the caches, and what makes its entries."""
        heads, rows, wide = self.num_heads // share.tp, attended.rows, share.precision
        pairs, entries, every = attended.pairs[place], attended.entries[place], self.every
        flops = heads * pairs * (4 * self.head_dim + SOFTMAX_FLOPS)
        vectors, written = 2 * rows * heads * self.head_dim * wide.activation_bytes, rows
        if place:
            made = self.overlap * self.head_dim
            flops = flops + rows * made * (SOFTMAX_FLOPS + 2)
            vectors, written = rows * 2 * made * wide.activation_bytes, rows / every
        bytes_ = self.caches[place].entry_bytes(wide.kv_bytes, share.tp)
        name = "compressed" if place else "attention"
        return share.attention(name, flops, vectors, (entries + written) * bytes_)
