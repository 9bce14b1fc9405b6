"""Linear attention with a fixed decay per head (lightning attention): MiniMax-01, Ling 2.5.

Qin et al., arXiv 2401.04658: a state of ``head_dim`` x ``head_dim`` a head, and chunks of tokens
that attend each other as matrices.
"""

from functools import cached_property

from model.attended import Attended
from model.caches import STATE, Cache, State
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.mixers.recurrent import RECURRENT, Scan
from model.operators import NORM_FLOPS, ROPE_FLOPS, F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Lightning:
    """Heads of queries, keys and values of ``head_dim`` numbers."""

    hidden_size: int
    num_heads: int
    head_dim: int
    chunk: int = 256
    """Tokens of a prompt that are computed together."""
    qk_norm: bool = False
    norm_numbers: int | None = None
    """Parameters of the norm of the outputs; None: one for every number."""
    rotary: Rotary | None = None
    state_number_bytes: float | None = 4.0
    """Of a number of the state: vLLM keeps it in float32."""

    @property
    def _inner(self) -> Width:
        return Width(self.num_heads, self.head_dim)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``."""
        hidden, inner = repeated(self.hidden_size), self._inner
        return (
            Matrix("linear_qkv", (inner, inner, inner), hidden),
            Matrix("linear_gate", (inner,), hidden),
            Matrix("linear_out", (hidden,), inner),
        )

    @property
    def vector_numbers(self) -> int:
        """Norms of the outputs, and of queries and keys."""
        outputs = self._inner.whole if self.norm_numbers is None else self.norm_numbers
        return outputs + (2 * self.head_dim if self.qk_norm else 0)

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """See ``Mixer``."""
        numbers = (Width(self.num_heads, self.head_dim**2),)
        state = State(RECURRENT, numbers, number_bytes=self.state_number_bytes)
        return (Cache(kind=STATE, states=(state,)),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.num_heads} attention heads"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return Kernel("lightning", self.num_heads // tp, self.num_heads // tp, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: products, nonlinearities of queries, keys and values, the gated norm."""
        qkv, gate, last = self.matrices
        inner = rows * self._inner.on_rank(share.tp)
        flops = NORM_FLOPS["rmsnorm"]
        normed = share.elementwise("qk_norm", 2 * inner, flops, 2, kind="norm")
        rotated = share.elementwise("rope", 2 * inner, ROPE_FLOPS, 2)
        return [
            *share.products(qkv, rows),
            *share.products(gate, rows),
            *((normed,) if self.qk_norm else ()),
            *((rotated,) if self.rotary is not None else ()),
            share.elementwise("linear_act", 3 * inner, 4, 2),
            share.elementwise("linear_norm", inner, flops + 5, 3, kind="norm"),
            *share.products(last, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``.

        With heads of d numbers a decoding token and head take ``5 d d`` FLOPs: forgetting, writing,
        reading; in chunks of C tokens a token takes ``4 d d`` and ``4 C d`` inside the chunk.
        """
        heads, dim = self.num_heads // share.tp, self.head_dim
        scan = Scan(
            name="linear_attention",
            decode_flops=heads * 5 * dim**2,
            chunk_flops=heads * (4 * dim**2 + 4 * self.chunk * dim),
            copied_numbers=heads * dim**2 / self.chunk,
            vectors=4 * heads * dim,
        )
        return [scan.operator(self.caches[0], attended, share, decode=decode)]
