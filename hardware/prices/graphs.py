"""CUDA graphs: a small step is replayed as one of the sizes that were captured."""

import numpy as np
import numpy.typing as npt

from hardware.memory.runtime import capture_sizes
from hardware.prices.lines import at_least
from hardware.steps.prices import Piece

Floats = npt.NDArray[np.float64]

MOST_CAPTURED = 512
"""Tokens of the largest graph; vllm/config/vllm.py, ``_set_cudagraph_sizes``."""


def largest_graph(max_seqs: int, most: int | None = None) -> int:
    """Return the tokens of the largest step that a graph replays.

    Args:
        max_seqs: seats; twice as many are captured.
        most: what an engine is told instead (``max_cudagraph_capture_size``).
    """
    return capture_sizes(min(2 * max_seqs, MOST_CAPTURED) if most is None else most)[-1]


def with_graphs(token_s: Floats, largest: int, eager_s: float) -> Floats:
    """Return the seconds of steps by their tokens: replayed as far as graphs go, else as launched.

    Args:
        token_s: of steps of 0, 1, 2, ... tokens, as if each had a graph of its own.
        largest: tokens of the largest graph.
        eager_s: what the host takes to launch a step without one.
    """
    seconds = token_s[replayed(len(token_s) - 1, largest)]
    seconds[largest + 1 :] = np.maximum(seconds[largest + 1 :], eager_s)
    return seconds


def launched(
    pieces: list[list[tuple[Piece, ...]]], token_s: list[float], eager_s: float
) -> list[list[tuple[Piece, ...]]]:
    """Return the attention of decodes alone in an engine without graphs.

    A step takes at least what the host takes to launch it, so that attention takes at least what is
    left beside ``token_s``; where there are several classes of cache, that of the first.

    Args:
        pieces: by class, then by decodes from 0, which end in their order where tokens do.
        token_s: by tokens of the step, from 0: what the GPU spends on them beside.
        eager_s: what the host takes.
    """
    first = [
        at_least(lines, eager_s - token_s[decodes]) if 0 < decodes < len(token_s) else lines
        for decodes, lines in enumerate(pieces[0])
    ]
    return [first, *pieces[1:]]


def replayed(max_tokens: int, largest: int) -> npt.NDArray[np.int64]:
    """Return the tokens that steps of 0 to ``max_tokens`` tokens compute, padding included.

    Steps of decodes and mixed ones are padded to the next size that was captured, up to the
    ``largest``; larger ones run as they are. Attention is not padded, nor is what samples.
    """
    tokens = np.arange(max_tokens + 1)
    sizes = np.array([0, *capture_sizes(min(largest, max_tokens))])
    small = tokens <= sizes[-1]
    padded = sizes[np.searchsorted(sizes, tokens[small])]
    return np.concatenate((padded, tokens[~small]))
