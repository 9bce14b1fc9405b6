"""What mixers with a state per sequence have in common: a short convolution, and work on a state.

A decoding token reads the state, changes it and writes it back. A prompt is cut in chunks: inside a
chunk tokens attend each other as matrices, and the state goes from chunk to chunk, where the kernel
leaves a copy of it in memory for the products behind.
"""

from model.attended import Attended
from model.caches import STATE, Cache, State
from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.operators import F, Operator
from model.share import Share

CONV, RECURRENT = "conv", "recurrent"


def convolution(widths: tuple[Width, ...], kernel: int, *, bias: bool = False) -> Matrix:
    """Return the weights of a convolution over time of every channel by itself."""
    return Matrix("conv", widths, repeated(kernel), bias=bias, quantized=False)


def state_cache(
    conv: tuple[Width, ...],
    kernel: int,
    recurrent: tuple[Width, ...] = (),
    number_bytes: float | None = None,
) -> Cache:
    """Return what a sequence keeps: the last inputs of a convolution, and a recurrent state.

    Args:
        conv: channels.
        kernel: tokens that the convolution looks at, its own included.
        recurrent: numbers of the state.
        number_bytes: of one of them; None: an activation's.
    """
    states = [State(CONV, conv, times=kernel - 1)]
    if recurrent:
        states.append(State(RECURRENT, recurrent, number_bytes=number_bytes))
    return Cache(kind=STATE, states=tuple(states))


def convolved(matrix: Matrix, rows: F, share: Share) -> Operator:
    """Return the convolution and a nonlinearity: ``2 kernel + 4`` FLOPs per channel and row."""
    channels = sum(part.on_rank(share.tp) for part in matrix.outputs)
    return share.elementwise("conv", rows * channels, 2 * matrix.inputs.whole + 4, 2)


@dataclass(frozen=True, slots=True)
class Scan:
    """FLOPs of a state layer on a rank, and what its chunks leave in memory."""

    name: str
    decode_flops: float
    """Of a decoding token."""
    chunk_flops: float
    """Of a token of a prompt."""
    copied_numbers: float
    """Numbers that a token's share of a chunk writes and reads again."""
    vectors: float
    """Numbers of a token that are read and written besides."""

    def operator(self, cache: Cache, attended: Attended, share: Share, *, decode: bool) -> Operator:
        """Return the work of a step: states are read and written once for every sequence."""
        wide = share.precision.activation_bytes
        flops = attended.rows * (self.decode_flops if decode else self.chunk_flops)
        vectors = attended.rows * self.vectors * wide
        if not decode:
            vectors = vectors + 2 * attended.rows * self.copied_numbers * wide
        states = 2 * attended.sequences * cache.sequence_bytes(wide, share.tp)
        return share.attention(self.name, flops, vectors, states)
