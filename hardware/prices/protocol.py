"""What a step asks of the hardware."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hardware.prices.chunks import ChunkCost
from hardware.prices.lines import Longer
from model.caches import Reach
from model.dataclass import dataclass
from model.mixers.mixer import Mixer
from model.operators import Operator
from model.share import Share

Floats = npt.NDArray[np.float64]

DecodeOperators = list[list[Longer]]
"""By decoding sequences, from 0: the operators of their attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Seconds that the host takes, or leaves the GPU without work."""

    idle_start_s: float
    """Before the first step after idling."""
    step_s: float
    """Once per step."""
    sequence_s: float
    """Once per sequence of a step."""
    chunk_s: float
    """Once per prefill chunk."""
    layer_s: float
    """Once per layer: launches and gaps between kernels."""
    eager_layer_s: float = 0.0
    """Of a layer in an engine that has no graphs at all."""
    eager_experts_s: float = 0.0
    """Of a layer of experts in a step that no graph replays."""


class Prices(Protocol):
    """Seconds on one GPU of a group."""

    @property
    def host(self) -> Host:
        """What the host takes."""
        ...

    def operators_s(self, operators: Sequence[Operator], layers: int) -> Floats:
        """Return the seconds of matrix products and of the small kernels between them.

        Args:
            operators: all of one pass, attention apart; one entry per entry of their counts.
            layers: that the pass goes through; 0 for what stands behind all of them.

        Raises:
            UnsupportedPrecisionError: the GPU lacks the arithmetic of one of them.
        """
        ...

    def decode(
        self, mixer: Mixer, share: Share, most: int, rows: int = 1
    ) -> dict[Reach | None, DecodeOperators]:
        """Return the attention of 0 to ``most`` decoding sequences, over all layers of a share.

        Each of them has so many query ``rows``: its last token, and its drafts.

        By what tells how much is read (None: nothing is). Every operator of each batch is the
        longest of lines over the positions attended.

        Raises:
            UnsupportedPrecisionError: the GPU lacks the arithmetic.
        """
        ...

    def beside_position_s(self, mixer: Mixer, share: Share) -> float:
        """Return what a decode takes of each position beside a chunk, over a share's layers.

        0: as much as without one (``hardware.prices.beside``).
        """
        ...

    def chunks(self, mixer: Mixer, share: Share, overhead_s: float) -> ChunkCost:
        """Return the price of prefill chunks' attention, over all layers of a share.

        Args:
            mixer: of the layers.
            share: the rank and the layers.
            overhead_s: once per chunk.

        Raises:
            UnsupportedPrecisionError: the GPU lacks the arithmetic.
        """
        ...

    def all_reduce_s(self, bytes_: Floats, ranks: int, *, fused: bool = False) -> Floats:
        """Return the seconds of an all-reduce of buffers of ``bytes_`` on every rank.

        ``fused``: a norm stands behind it, which the same kernel may compute.
        """
        ...

    def all_gather_s(self, bytes_: Floats, ranks: int) -> Floats:
        """Return the seconds of an all-gather of ``bytes_``, all ranks' parts together."""
        ...
