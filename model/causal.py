"""What causal attention attends: (query, key) pairs and positions, with and without a window."""

import numpy as np

from model.operators import F, floats, minimum, where_any


def causal_pairs(chunk_tokens: F, past_tokens: F, sliding_window: int | None = None) -> F:
    """Return the (query, key) pairs of a chunk: query i attends past + i + 1 keys, or the window.

    ``chunk * past + chunk (chunk + 1) / 2``; with a window the queries are split where it fills.
    """
    chunk, past = floats(chunk_tokens), floats(past_tokens)
    if sliding_window is None:
        return chunk * past + chunk * (chunk + 1) / 2
    # Queries that still see everything before them.
    short = minimum(chunk, floats(np.maximum(sliding_window - past, 0.0)))
    return short * past + short * (short + 1) / 2 + (chunk - short) * sliding_window


def touched_positions(chunk: F, past: F, sliding_window: int | None = None) -> F:
    """Return the cached positions that a chunk attends, its own included; 0 for no chunk."""
    positions = where_any(chunk, past + chunk)
    if sliding_window is None:
        return positions
    # The first query reaches back window - 1 positions, the last one to the chunk's end.
    return minimum(positions, chunk + (sliding_window - 1))


def attended(chunk: int, past: int, sliding_window: int | None = None) -> tuple[int, int]:
    """Return what a causal chunk attends: (query, key) pairs, and cached positions touched.

    ``causal_pairs`` for plain integers, exactly; the positions are ``past + chunk``, less those
    that even the first query's window has left behind.
    """
    if sliding_window is None or past + chunk <= sliding_window:
        return chunk * past + chunk * (chunk + 1) // 2, past + chunk
    short = min(chunk, max(sliding_window - past, 0))
    pairs = short * past + short * (short + 1) // 2 + (chunk - short) * sliding_window
    return pairs, min(past + chunk, chunk + sliding_window - 1)
