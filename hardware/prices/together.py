"""What all layers of a group take together: sums over their kinds."""

from collections.abc import Iterable, Mapping
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from hardware.group import Group
from hardware.prices.beside import idle_tile_s, tile_line
from hardware.prices.chunks import ChunkCost, ChunksOfAll
from hardware.prices.lines import straight_pieces
from hardware.prices.protocol import DecodeOperators, Prices
from hardware.prices.work import ClassWork, Linear, attention_work
from hardware.steps.prices import Beside, Piece
from model.caches import Reach

Floats = npt.NDArray[np.float64]


SQUARES = 8.0
"""Bytes of a token in the all-reduce of a norm over all heads: its queries' squares and its keys',
a float32 each."""


def decode_pieces(
    group: Group, prices: Prices, most: int, rows: int = 1, *, beside: bool = False
) -> list[list[tuple[Piece, ...]]]:
    """Return the attention of 0 to ``most`` decoding sequences of ``rows`` each, by class of cache.

    Lines over the positions attended in the class. What reads none is in the first. ``beside``: in
    one call with a prompt's chunk, or with others of several rows.
    """
    kinds = []
    for mixer, share in group.attending:
        kind = prices.decode(mixer, share, most, rows)
        kinds.append(_in_tiles(kind, prices.beside_position_s(mixer, share)) if beside else kind)
    first = group.spec.reaches[0]
    return [
        [straight_pieces(operators) for operators in _side_by_side(kinds, reach, first, most)]
        for reach in group.spec.reaches
    ]


def beside(group: Group, prices: Prices, most: int, rows: int = 1) -> Beside | None:
    """Return the attention of decodes in a step with chunks; None where it is the same."""
    positions_s = [prices.beside_position_s(mixer, share) for mixer, share in group.attending]
    if not any(positions_s):
        return None
    pieces = decode_pieces(group, prices, most, rows, beside=True)
    return Beside(pieces, sum(map(idle_tile_s, positions_s)))


def _in_tiles(
    kind: dict[Reach | None, DecodeOperators], position_s: float
) -> dict[Reach | None, DecodeOperators]:
    """The same operators, none of which is faster than its tiles."""
    if not position_s:
        return kind
    return {
        reach: [
            [(*longest, tile_line(position_s, sequences)) for longest in operators]
            for sequences, operators in enumerate(by_sequences)
        ]
        for reach, by_sequences in kind.items()
    }


def _side_by_side(
    kinds: Iterable[Mapping[Reach | None, DecodeOperators]], reach: Reach, first: Reach, most: int
) -> DecodeOperators:
    """The operators of all kinds of layers in one class, by sequences."""
    together: DecodeOperators = [[] for _ in range(most + 1)]
    for kind in kinds:
        for of, by_sequences in kind.items():
            if (of or first) == reach:
                for operators, more in zip(together, by_sequences, strict=True):
                    operators += more
    return together


def chunk_cost(group: Group, prices: Prices) -> ChunkCost:
    """Return the attention of chunks; what a chunk costs once is in the first kind."""
    overheads = chain((prices.host.chunk_s if group.embeds else 0.0,), repeat(0.0))
    parts = tuple(
        prices.chunks(mixer, share, overhead_s)
        for (mixer, share), overhead_s in zip(group.attending, overheads, strict=False)
    )
    return parts[0] if len(parts) == 1 else ChunksOfAll(parts)


def attention_works(group: Group) -> tuple[ClassWork, ...]:
    """Return FLOPs and bytes of fused attention, by class of cache."""
    first = group.spec.reaches[0]
    works = dict.fromkeys(group.spec.reaches, ClassWork())
    for mixer, share in group.attending:
        for term in attention_work(mixer, share, fused=True, decode=True):
            decode = ClassWork(term.flops, term.bytes, Linear(), Linear())
            works[term.reach or first] = works[term.reach or first].plus(decode)
        for term in attention_work(mixer, share, fused=True, decode=False):
            chunks = ClassWork(Linear(), Linear(), term.flops, term.bytes)
            works[term.reach or first] = works[term.reach or first].plus(chunks)
    return tuple(works.values())


def all_reduces_s(group: Group, prices: Prices, tokens: Floats) -> Floats:
    """Return all all-reduces of steps of so many tokens; 0 for none."""
    bytes_, cut = group.reduced_bytes(tokens), group.cut_reduces
    seconds = (group.all_reduces - cut) * prices.all_reduce_s(bytes_, group.tp, fused=True)
    if cut:
        seconds = seconds + cut * prices.all_reduce_s(bytes_, group.tp)
    if group.norm_reduces:
        seconds = seconds + group.norm_reduces * prices.all_reduce_s(tokens * SQUARES, group.tp)
    return np.where(tokens > 0, seconds, 0.0)


def gather_s(group: Group, prices: Prices, sequences: Floats) -> Floats:
    """Return the gathering of the logits of so many sequences; 0 for none."""
    seconds = prices.all_gather_s(group.logits_bytes(sequences), group.tp)
    return np.where(sequences > 0, seconds, 0.0)
