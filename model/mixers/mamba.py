"""State-space layers: Mamba (Gu, Dao, arXiv 2312.00752) and Mamba-2 (Dao, Gu, arXiv 2405.21060)."""

from functools import cached_property

from model.attended import Attended
from model.caches import Cache
from model.counts import count_of
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.mixers.recurrent import Scan, convolution, convolved, state_cache
from model.operators import NORM_FLOPS, F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Mamba2:
    """Heads of ``head_dim`` numbers with ``state_size`` numbers of state each."""

    hidden_size: int
    num_heads: int
    head_dim: int
    groups: int
    """Heads of a group share what they write to and read from the state by."""
    state_size: int
    conv_kernel: int
    chunk: int = 256
    """Tokens of a prompt that are computed together."""
    bias: bool = False
    """Of the product from the hidden size."""
    output_bias: bool = False
    conv_bias: bool = True
    norm: bool = True
    """A norm of the gated outputs."""
    state_number_bytes: float | None = None
    """Of a number of the state; None: an activation's."""

    @property
    def rotary(self) -> Rotary | None:
        """None: the order of tokens is in the state."""
        return None

    @property
    def _inner(self) -> Width:
        return Width(self.num_heads, self.head_dim)

    @cached_property
    def _convolved(self) -> tuple[Width, ...]:
        """Inputs, and what heads of a group write and read by."""
        group = Width(self.groups, self.state_size, copied=True)
        return (self._inner, group, group)

    @cached_property
    def _convolution(self) -> Matrix:
        return convolution(self._convolved, self.conv_kernel, bias=self.conv_bias)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``: gates, inputs and time steps are one product."""
        hidden, inner = repeated(self.hidden_size), self._inner
        joined = (inner, *self._convolved, Width(self.num_heads))
        return (
            Matrix("ssm_in", joined, hidden, bias=self.bias),
            self._convolution,
            Matrix("ssm_out", (hidden,), inner, bias=self.output_bias),
        )

    @property
    def vector_numbers(self) -> int:
        """Decay, skip and offset of every head; the norm."""
        return 3 * self.num_heads + (self._inner.whole if self.norm else 0)

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """See ``Mixer``."""
        state = (Width(self.num_heads, self.head_dim * self.state_size),)
        kernel, wide = self.conv_kernel, self.state_number_bytes
        return (state_cache(self._convolved, kernel, state, wide),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{count_of(self.num_heads, 'state head')}, {count_of(self.groups, 'group')}"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return Kernel("mamba2", self.num_heads // tp, max(1, self.groups // tp), 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        first, conv, last = self.matrices
        outputs = rows * self._inner.on_rank(share.tp)
        flops = (NORM_FLOPS["rmsnorm"] if self.norm else 0) + 5  # a product with a SiLU
        return [
            *share.products(first, rows),
            convolved(conv, rows, share),
            share.elementwise("ssm_norm", outputs, flops, 3, kind="norm"),
            *share.products(last, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``.

        With heads of p numbers and states of p x n, a decoding token and head take ``5 p n`` FLOPs:
        forgetting, writing, reading. In chunks of C tokens a token takes ``4 p n`` for the state, 2
        C p inside the chunk, and ``2 C n`` once for a group (arXiv 2405.21060, section 6).
        """
        heads, groups = self.num_heads // share.tp, max(1, self.groups // share.tp)
        state = self.head_dim * self.state_size
        inside = heads * self.head_dim + groups * self.state_size
        scan = Scan(
            name="ssm",
            decode_flops=heads * 5 * state,
            chunk_flops=heads * 4 * state + 2 * self.chunk * inside,
            copied_numbers=heads * state / self.chunk,
            vectors=2 * heads * self.head_dim + 2 * groups * self.state_size,
        )
        return [scan.operator(self.caches[0], attended, share, decode=decode)]


@dataclass(frozen=True, kw_only=True)
class Mamba:
    """Channels with ``state_size`` numbers of state each."""

    hidden_size: int
    channels: int
    state_size: int
    conv_kernel: int
    step_rank: int
    """Width that the time steps of the channels are made from."""
    bias: bool = False
    conv_bias: bool = True
    norms: bool = False
    """Norms of the time steps and of what is written and read by (Jamba)."""

    @property
    def rotary(self) -> Rotary | None:
        """None: the order of tokens is in the state."""
        return None

    @property
    def _inner(self) -> Width:
        return Width(self.channels)

    @cached_property
    def _convolution(self) -> Matrix:
        return convolution((self._inner,), self.conv_kernel, bias=self.conv_bias)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``; the last is the decay of every number of the state."""
        hidden, inner = repeated(self.hidden_size), self._inner
        steps = repeated(self.step_rank + 2 * self.state_size)
        return (
            Matrix("ssm_in", (inner, inner), hidden, bias=self.bias),
            Matrix("ssm_x", (steps,), inner),
            Matrix("ssm_dt", (inner,), repeated(self.step_rank), bias=True),
            Matrix("ssm_out", (hidden,), inner, bias=self.bias),
            self._convolution,
            Matrix("ssm_decay", (inner,), repeated(self.state_size), quantized=False),
        )

    @property
    def vector_numbers(self) -> int:
        """A skip of every channel, and norms."""
        return self.channels + (self.step_rank + 2 * self.state_size if self.norms else 0)

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """See ``Mixer``."""
        state = (Width(self.channels, self.state_size),)
        return (state_cache((self._inner,), self.conv_kernel, state),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.channels} state channels"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return Kernel("mamba", self.channels // tp, 1, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``."""
        first, x, dt, last, conv, _ = self.matrices
        inner, flops = rows * self._inner.on_rank(share.tp), NORM_FLOPS["rmsnorm"]
        normed = rows * (self.step_rank + 2 * self.state_size)
        norm = share.elementwise("ssm_norm", normed, flops, 2, kind="norm")
        return [
            *share.products(first, rows),
            convolved(conv, rows, share),
            *share.products(x, rows),
            *((norm,) if self.norms else ()),
            *share.products(dt, rows),
            share.elementwise("ssm_gate", inner, 5, 3),
            *share.products(last, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``: one kernel scans tokens one after the other, 8 FLOPs a number of state.

        A decay (product, exponent), forgetting, writing (two products, a sum), reading.
        """
        channels = self._inner.on_rank(share.tp)
        flops = 8 * channels * self.state_size
        scan = Scan(
            name="ssm",
            decode_flops=flops,
            chunk_flops=flops,
            copied_numbers=0,
            vectors=3 * channels + 2 * self.state_size,
        )
        return [scan.operator(self.caches[0], attended, share, decode=decode)]
