"""Linear attention by the delta rule: a matrix per head that tokens correct one after the other.

Gated DeltaNet (Yang et al., arXiv 2412.06464) forgets by one number per head: Qwen3-Next, Qwen3.5.
Kimi Delta Attention (arXiv 2510.26692) forgets by one number per channel of the keys: Kimi Linear,
Kimi K3, Ling 3.
"""

from functools import cached_property

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.mixers.recurrent import Scan, convolution, convolved, state_cache
from model.operators import NORM_FLOPS, F, Operator
from model.share import Share

CHUNK = 64
"""Tokens of a prompt that are computed together (flash-linear-attention's kernels, which vLLM
has)."""


@dataclass(frozen=True, kw_only=True)
class DeltaRule:
    """Heads of keys and values, each with a state of ``key_dim`` times ``value_dim``."""

    hidden_size: int
    num_key_heads: int
    num_value_heads: int
    """A multiple of the key heads: several states share keys and queries."""
    key_dim: int
    value_dim: int
    conv_kernel: int
    decay_per_channel: bool = False
    """Kimi Delta Attention; otherwise Gated DeltaNet."""
    decay_rank: int | None = None
    """Width that the decay of the channels is made from; None: from the hidden size."""
    gate_rank: int | None = None
    """Width that the output's gate is made from; None: from the hidden size."""
    state_number_bytes: float | None = None
    """Of a number of the state; None: an activation's."""

    @property
    def rotary(self) -> Rotary | None:
        """None: the order of tokens is in the state."""
        return None

    @cached_property
    def _parts(self) -> tuple[Width, ...]:
        """Queries, keys and values."""
        keys = Width(self.num_key_heads, self.key_dim)
        return (keys, keys, self._values)

    @property
    def _values(self) -> Width:
        return Width(self.num_value_heads, self.value_dim)

    @property
    def _channels(self) -> Width:
        return Width(self.num_value_heads, self.key_dim)

    @cached_property
    def _convolution(self) -> Matrix:
        return convolution(self._parts, self.conv_kernel)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``; gates of heads stay in 16 bits."""
        hidden, heads = repeated(self.hidden_size), Width(self.num_value_heads)
        joined = (*self._parts, *(() if self.gate_rank else (self._values,)))
        gates = (heads,) if self.decay_per_channel else (heads, heads)
        return (
            Matrix("delta_in", joined, hidden),
            *(self._decay if self.decay_per_channel else ()),
            *(_narrowed("delta_gate", self.gate_rank, self._values, hidden)),
            Matrix("delta_heads", gates, hidden, quantized=False),
            self._convolution,
            Matrix("delta_out", (hidden,), self._values),
        )

    @property
    def _decay(self) -> tuple[Matrix, ...]:
        hidden = repeated(self.hidden_size)
        if self.decay_rank is None:
            return (Matrix("delta_decay", (self._channels,), hidden),)
        return _narrowed("delta_decay", self.decay_rank, self._channels, hidden)

    @property
    def vector_numbers(self) -> int:
        """Strength and offset of the decay, and a norm of one head's values."""
        offsets = self._channels.whole if self.decay_per_channel else self.num_value_heads
        return self.num_value_heads + offsets + self.value_dim

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """See ``Mixer``."""
        state = (Width(self.num_value_heads, self.key_dim * self.value_dim),)
        return (state_cache(self._parts, self.conv_kernel, state, self.state_number_bytes),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.num_key_heads} key heads, {self.num_value_heads} value heads"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        kind = "delta per channel" if self.decay_per_channel else "delta"
        keys, values = self.num_key_heads // tp, self.num_value_heads // tp
        return Kernel(kind, values, keys, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: products, the convolution, and the gated norm of the outputs."""
        *first, conv, last = self.matrices
        outputs = rows * self._values.on_rank(share.tp)
        flops = NORM_FLOPS["rmsnorm"] + 5  # a norm, and a product with a SiLU
        return [
            *(one for matrix in first for one in share.products(matrix, rows)),
            convolved(conv, rows, share),
            share.elementwise("delta_norm", outputs, flops, 3, kind="norm"),
            *share.products(last, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``.

        With states of d x v numbers, a decoding token and head take ``7 d v`` FLOPs: forgetting,
        and three products of a vector with the state (what it recalls, its correction, what the
        query reads). In chunks of C tokens a token takes ``6 d v`` for the same products and ``2 C
        (3 d + 2 v)`` for those inside the chunk (arXiv 2412.06464, section 3.3).
        """
        heads = self.num_value_heads // share.tp
        keys, values = self.key_dim, self.value_dim
        inside = 2 * CHUNK * (3 * keys + 2 * values)
        scan = Scan(
            name="delta_rule",
            decode_flops=heads * 7 * keys * values,
            chunk_flops=heads * (6 * keys * values + inside),
            copied_numbers=heads * keys * values / CHUNK,
            vectors=heads * 2 * values + 2 * self._parts[0].on_rank(share.tp),
        )
        return [scan.operator(self.caches[0], attended, share, decode=decode)]


def _narrowed(name: str, rank: int | None, outputs: Width, hidden: Width) -> tuple[Matrix, ...]:
    """Two matrices through a narrow width that every rank has; none without one."""
    if rank is None:
        return ()
    return (
        Matrix(f"{name}_down", (repeated(rank),), hidden),
        Matrix(f"{name}_up", (outputs,), repeated(rank)),
    )
