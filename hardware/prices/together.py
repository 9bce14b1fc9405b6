"""What all layers of a group take together: sums over their kinds."""

from functools import reduce
from itertools import chain, repeat
from operator import add

import numpy as np
import numpy.typing as npt

from hardware.group import Group
from hardware.prices.chunks import ChunkCost, ChunksOfAll
from hardware.prices.lines import straight_pieces
from hardware.prices.protocol import Prices
from hardware.prices.work import AttentionTerm, attention_work
from hardware.step_prices import Piece
from model.shape import Layers
from model.share import Share

Floats = npt.NDArray[np.float64]


def decode_pieces(group: Group, prices: Prices, most: int) -> list[list[tuple[Piece, ...]]]:
    """Return the attention of 0 to ``most`` decoding sequences, by class of cache.

    Lines over the positions attended in the class.
    """
    classes = []
    for layers in layers_by_class(group):
        together, *others = [prices.decode(kind.mixer, share, most) for kind, share in layers]
        for other in others:
            together = [first + more for first, more in zip(together, other, strict=True)]
        classes.append([straight_pieces(operators) for operators in together])
    return classes


def layers_by_class(group: Group) -> list[list[tuple[Layers, Share]]]:
    """Return the kinds of layers of every class of cache, in the order of ``spec.windows``."""
    return [
        [(kind, share) for kind, share in group.layers if kind.mixer.cache.window == window]
        for window in group.spec.windows
    ]


def chunk_cost(group: Group, prices: Prices) -> ChunkCost:
    """Return the attention of chunks; what a chunk costs once is in the first kind."""
    overheads = chain((prices.host.chunk_s,), repeat(0.0))
    parts = tuple(
        prices.chunks(kind.mixer, share, overhead_s)
        for (kind, share), overhead_s in zip(group.layers, overheads, strict=False)
    )
    return parts[0] if len(parts) == 1 else ChunksOfAll(parts)


def attention_works(group: Group) -> tuple[AttentionTerm, ...]:
    """Return FLOPs and bytes of fused attention per unit, by class of cache."""
    classes = []
    for layers in layers_by_class(group):
        works = [attention_work(kind.mixer, share, fused=True) for kind, share in layers]
        classes.append(reduce(add, (term for work in works for term, _ in work)))
    return tuple(classes)


def all_reduces_s(group: Group, prices: Prices, tokens: Floats) -> Floats:
    """Return all all-reduces of steps of so many tokens; 0 for none."""
    seconds = group.all_reduces * prices.all_reduce_s(group.reduced_bytes(tokens), group.tp)
    return np.where(tokens > 0, seconds, 0.0)


def gather_s(group: Group, prices: Prices, sequences: Floats) -> Floats:
    """Return the gathering of the logits of so many sequences; 0 for none."""
    seconds = prices.all_gather_s(group.logits_bytes(sequences), group.tp)
    return np.where(sequences > 0, seconds, 0.0)
