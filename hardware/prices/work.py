"""FLOPs and bytes of operators, summed over layers: what prices are computed from."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.attended import Attended
from model.caches import Reach
from model.dataclass import dataclass
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


class Linear(NamedTuple):
    """An amount that is linear in what queries attend.

    FLOPs or bytes in a count of work, seconds in a price.
    """

    per_sequence: float = 0.0
    per_row: float = 0.0
    """A row is a query token: one of a decoding sequence, all of a chunk."""
    per_pair: float = 0.0
    """Of a query and a position that it attends."""
    per_position: float = 0.0
    """That is read."""

    def plus(self, other: "Linear") -> "Linear":
        """Return both together."""
        return Linear(*(mine + more for mine, more in zip(self, other, strict=True)))

    def over(self, rate: float) -> "Linear":
        """Return what it takes at so much a second."""
        return Linear(*(amount / rate for amount in self))


@dataclass(frozen=True, slots=True)
class AttentionTerm:
    """One operator of a mixer's attention, over all layers that have the mixer, on one rank."""

    reach: Reach | None
    """Which pairs and positions it depends on; None: on sequences and rows alone."""
    flops: Linear
    bytes: Linear
    compute: str
    """Its arithmetic."""


class ReadTotals(NamedTuple):
    """What steps attended in one class of cache, summed over them."""

    decode_reads: int
    """Positions, by decoding (and padding) sequences."""
    prefill_pairs: int
    """Causal (query, position) pairs of chunks: chunk * past + chunk * (chunk + 1) / 2 without a
    window."""
    prefill_reads: int
    """Positions that chunks read: past + chunk without a window."""
    draft_pairs: int = 0
    """(query, position) pairs of decoding sequences beyond one for each position that they read:
    their drafts attend the same positions once more."""

    def plus(self, other: "ReadTotals") -> "ReadTotals":
        """Return both together."""
        return ReadTotals(*(mine + more for mine, more in zip(self, other, strict=True)))


NOTHING_READ = ReadTotals(0, 0, 0)


def attention_work(
    mixer: Mixer, share: Share, *, fused: bool, decode: bool
) -> tuple[AttentionTerm, ...]:
    """Return FLOPs and bytes of every operator of a mixer's attention.

    Args:
        mixer: whose work is linear in what it attends (``Mixer.attention``).
        share: the rank and the layers.
        fused: one pass over the cache, or standard operators.
        decode: of decoding sequences, or of a prompt's chunk.

    Raises:
        ValueError: an operator that reads caches of different reach.
    """
    caches = mixer.caches
    nothing = (0.0,) * len(caches)
    units = [(1.0, 0.0, nothing, nothing), (0.0, 1.0, nothing, nothing)]
    for place in range(len(caches)):
        one = (*nothing[:place], 1.0, *nothing[place + 1 :])
        units += [(0.0, 0.0, one, nothing), (0.0, 0.0, nothing, one)]
    by_unit = [
        mixer.attention(Attended(*unit), share, fused=fused, decode=decode) for unit in units
    ]
    return tuple(_term(mixer, operators) for operators in zip(*by_unit, strict=True))


def _term(mixer: Mixer, by_unit: tuple[Operator, ...]) -> AttentionTerm:
    """Put together an operator's work on a sequence, a row, and a pair and an entry by cache."""
    layers = by_unit[0].layers
    flops = [layers * float(each.flops) for each in by_unit]
    moved = [layers * float(each.bytes) for each in by_unit]
    read: dict[Reach, tuple[Linear, Linear]] = {}
    for place, cache in enumerate(mixer.caches):
        of_cache = slice(2 + 2 * place, 4 + 2 * place)
        if cache.read is not None and (any(flops[of_cache]) or any(moved[of_cache])):
            more_flops, more_moved = (
                Linear(0.0, 0.0, *(amount / cache.every for amount in amounts[of_cache]))
                for amounts in (flops, moved)
            )
            its_flops, its_moved = read.get(cache.read, (Linear(), Linear()))
            read[cache.read] = its_flops.plus(more_flops), its_moved.plus(more_moved)
    if len(read) > 1:
        raise ValueError(
            f"{by_unit[0].name} of {mixer.told} reads caches of {len(read)} reaches at once, "
            "expected one"
        )
    reach, (of_flops, of_bytes) = next(iter(read.items()), (None, (Linear(), Linear())))
    return AttentionTerm(
        reach=reach,
        flops=Linear(*flops[:2]).plus(of_flops),
        bytes=Linear(*moved[:2]).plus(of_bytes),
        compute=by_unit[0].compute,
    )


class ClassWork(NamedTuple):
    """FLOPs and bytes of one class of cache, of decoding sequences and of chunks."""

    decode_flops: Linear = Linear()
    decode_bytes: Linear = Linear()
    chunk_flops: Linear = Linear()
    chunk_bytes: Linear = Linear()

    def plus(self, other: "ClassWork") -> "ClassWork":
        """Return both together."""
        return ClassWork(*(mine.plus(more) for mine, more in zip(self, other, strict=True)))


def own_work(work: Linear, rows: float, sequences: float) -> float:
    """Return what is done for rows and sequences, whatever they attend."""
    return work.per_row * rows + work.per_sequence * sequences


def read_work(decode: Linear, chunk: Linear, reads: ReadTotals) -> float:
    """Return what is done for pairs and positions.

    As if all of them were of decoding sequences, and what chunks do more.
    """
    decoded, pairs, positions, drafted = reads
    work = decode.per_pair * (decoded + drafted + pairs) + decode.per_position * (
        decoded + positions
    )
    more = (chunk.per_pair - decode.per_pair) * pairs
    return work + more + (chunk.per_position - decode.per_position) * positions
