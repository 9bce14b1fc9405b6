"""CUDA graphs: a small step is replayed as one of the sizes that were captured."""

import numpy as np
import numpy.typing as npt

from hardware.runtime_memory import capture_sizes

MOST_CAPTURED = 512
"""Tokens of the largest graph; vllm/config/vllm.py, ``_set_cudagraph_sizes``."""


def replayed(max_tokens: int, max_seqs: int) -> npt.NDArray[np.int64]:
    """Return the tokens that steps of 0 to ``max_tokens`` tokens compute, padding included.

    Steps of decodes and mixed ones are padded to the next size that was captured, up to twice the
    seats; larger ones run as they are. Attention is not padded, nor is what samples.
    """
    tokens = np.arange(max_tokens + 1)
    sizes = np.array([0, *capture_sizes(_largest(max_tokens, max_seqs))])
    small = tokens <= sizes[-1]
    padded = sizes[np.searchsorted(sizes, tokens[small])]
    return np.concatenate((padded, tokens[~small]))


def largest_replayed(max_tokens: int, max_seqs: int) -> int:
    """Return the tokens of the largest step that is replayed."""
    return capture_sizes(_largest(max_tokens, max_seqs))[-1]


def _largest(max_tokens: int, max_seqs: int) -> int:
    return min(2 * max_seqs, MOST_CAPTURED, max_tokens)
