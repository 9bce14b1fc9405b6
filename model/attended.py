"""What the queries of a step attend, cache by cache: a mixer's work is linear in these counts."""

from collections.abc import Sequence

import numpy as np

from model.caches import Cache
from model.causal import causal_pairs, touched_positions
from model.dataclass import dataclass
from model.operators import F, floats, minimum


@dataclass(frozen=True, slots=True)
class Attended:
    """Counts of one mixer's caches, which add up over sequences."""

    sequences: F
    """That are there: each has its states read and written."""
    rows: F
    """Query tokens: one of a decoding sequence, all of a chunk."""
    pairs: tuple[F, ...]
    """(query, entry) pairs that are computed, by cache."""
    entries: tuple[F, ...]
    """Cached entries that are read, by cache; a new token's own is one of them."""


def attended_by_decodes(caches: Sequence[Cache], sequences: F, context_tokens: F) -> Attended:
    """Return what sequences attend that decode one token each.

    What caps the entries of one query (a window, an index's choice) caps the mean over the
    sequences: exact when all of them are on the same side of it.

    Args:
        caches: of the mixer.
        sequences: how many.
        context_tokens: positions before and at the new tokens, summed over the sequences.
    """
    rows, context = floats(sequences), floats(context_tokens)
    read = tuple(_decoded(cache, rows, context) for cache in caches)
    return Attended(rows, rows, read, read)


def _decoded(cache: Cache, rows: F, context: F) -> F:
    most, every = cache.reach
    entries = context / every
    return entries if most is None else minimum(entries, rows * most)


def attended_by_chunk(
    caches: Sequence[Cache], chunk_tokens: F, past_tokens: F, *, fused: bool = True
) -> Attended:
    """Return what a prompt's chunk attends: its own past, and itself as far as causality lets it.

    Args:
        caches: of the mixer.
        chunk_tokens: of the chunk.
        past_tokens: of the same prompt that are cached already.
        fused: only causal pairs are computed (Dao 2023, section 3.1); otherwise the full rectangle
            of queries and entries.
    """
    chunk, past = floats(chunk_tokens), floats(past_tokens)
    entries = tuple(_touched(cache, chunk, past) for cache in caches)
    pairs = tuple(
        _pairs(cache, chunk, past) if fused else chunk * touched
        for cache, touched in zip(caches, entries, strict=True)
    )
    present = floats(np.greater(chunk, 0).astype(np.float64))
    return Attended(present, chunk, pairs, entries)


def _pairs(cache: Cache, chunk: F, past: F) -> F:
    """Of a cache with one entry for r tokens query i sees ``(past + i + 1) / r`` of them."""
    most, every = cache.reach
    return causal_pairs(chunk, past, most if most is None else most * every) / every


def _touched(cache: Cache, chunk: F, past: F) -> F:
    """Entries that some query of the chunk attends; an index may choose others for every query."""
    window = None if cache.window is None else cache.window * cache.every
    touched = touched_positions(chunk, past, window) / cache.every
    return touched if cache.most_read is None else minimum(touched, chunk * cache.most_read)
