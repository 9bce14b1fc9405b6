"""A gated convolution over a few tokens (LFM2): what a sequence keeps are its last inputs."""

from functools import cached_property

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mixers.mixer import Kernel, Rotary
from model.mixers.recurrent import convolution, state_cache
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class ShortConv:
    """``out(c * conv(b * x))`` with b, c and x from one product."""

    hidden_size: int
    conv_kernel: int
    """Tokens that it looks at, its own included."""
    bias: bool = False

    @property
    def rotary(self) -> Rotary | None:
        """None: the order of tokens is in the convolution."""
        return None

    @property
    def _channels(self) -> Width:
        return Width(self.hidden_size)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """See ``Mixer``."""
        hidden, channels = repeated(self.hidden_size), self._channels
        return (
            Matrix("conv_in", (channels,) * 3, hidden, bias=self.bias),
            Matrix("conv_out", (hidden,), channels, bias=self.bias),
            convolution((channels,), self.conv_kernel, bias=self.bias),
        )

    vector_numbers = 0

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        """See ``Mixer``."""
        return (state_cache((self._channels,), self.conv_kernel),)

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return f"{self.hidden_size} channels"

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return Kernel("short convolution", self.hidden_size // tp, 1, 0)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: products, and two products of every channel."""
        first, last, _ = self.matrices
        channels = rows * self._channels.on_rank(share.tp)
        return [
            *share.products(first, rows),
            share.elementwise("conv_gates", channels, 2, 5),
            *share.products(last, rows),
        ]

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Mixer``: ``2 k`` FLOPs a channel, and the last inputs of every sequence."""
        channels, wide = self._channels.on_rank(share.tp), share.precision.activation_bytes
        flops = attended.rows * channels * 2 * self.conv_kernel
        states = 2 * attended.sequences * self.caches[0].sequence_bytes(wide, share.tp)
        return [share.attention("conv", flops, 2 * attended.rows * channels * wide, states)]
