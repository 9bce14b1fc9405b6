"""FLOPs and bytes of operators, summed over layers: what prices are computed from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.mixers.mixer import Mixer
from model.operators import F, Operator
from model.share import Share

Floats = npt.NDArray[np.float64]


def operators_work(operators: Iterable[Operator]) -> tuple[Floats, Floats]:
    """Return (FLOPs, bytes) of all operators together, over all their layers."""
    flops: F = 0.0
    bytes_: F = 0.0
    for operator in operators:
        flops = flops + operator.layers * operator.flops
        bytes_ = bytes_ + operator.layers * operator.bytes
    return np.asarray(flops), np.asarray(bytes_)


@dataclass(frozen=True, slots=True)
class AttentionTerm:
    """What one attention operator costs over its layers, per unit of its three arguments.

    rows: query tokens. positions: cached tokens they attend. pairs: (query, position) pairs that
    are computed. A decoding sequence is one row, and as many pairs as positions.
    Arithmetic is ``pairs * per_pair``; traffic is ``rows * per_row + positions * per_position +
    pairs * moved_per_pair``. Units: seconds in a price, FLOPs and bytes in a count of work.
    """

    per_pair: float
    per_row: float
    per_position: float
    moved_per_pair: float

    def __add__(self, other: "AttentionTerm") -> "AttentionTerm":
        return AttentionTerm(
            self.per_pair + other.per_pair,
            self.per_row + other.per_row,
            self.per_position + other.per_position,
            self.moved_per_pair + other.moved_per_pair,
        )


class Attended(NamedTuple):
    """What steps attended in one class of cache, summed over them."""

    decode_reads: int
    """Positions, by decoding (and padding) sequences."""
    prefill_pairs: int
    """Causal (query, key) pairs of chunks: chunk * past + chunk * (chunk + 1) / 2 without a
    window."""
    prefill_reads: int
    """Positions that chunks read: past + chunk without a window."""

    def plus(self, other: "Attended") -> "Attended":
        """Return both together."""
        return Attended(*(mine + more for mine, more in zip(self, other, strict=True)))


NOTHING_ATTENDED = Attended(0, 0, 0)


def attention_work(mixer: Mixer, share: Share, *, fused: bool) -> list[tuple[AttentionTerm, str]]:
    """Return FLOPs and bytes of every operator of a mixer's attention per unit, and its arithmetic.

    Over all layers that have the mixer, on one rank.
    """
    of_pair, of_row, of_position = (
        mixer.attention(rows, pairs, positions, share, fused=fused)
        for rows, pairs, positions in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    )
    terms = []
    for pair, row, position in zip(of_pair, of_row, of_position, strict=True):
        layers = pair.layers
        term = AttentionTerm(
            per_pair=layers * float(pair.flops),
            per_row=layers * float(row.bytes),
            per_position=layers * float(position.bytes),
            moved_per_pair=layers * float(pair.bytes),
        )
        terms.append((term, pair.compute))
    return terms
