"""Experts in fp8 blocks as DeepGEMM computes them: in tiles of rows, filled up for every expert.

Its grouped product of a contiguous layout gives each expert that is touched whole tiles of rows,
however few came to it; what works on the rows between the two products works on room for a tile of
every expert. vLLM does so for batches of every size from 0.11 to 0.14 on Hopper, where DeepGEMM is
installed, as in its images (model_executor/layers/fused_moe/deep_gemm_moe.py; scales of 8 bits skip
the check of the batch's size). Before 0.13 the products compute all of that room, too: rows that
nobody has are marked as the first expert's, and later as nobody's (deep_gemm_utils.py,
``deepgemm_moe_permute``), so that a step of few sequences took as long as one of many.

The law of the products was fitted to 48 of them on H800: median error 3%, largest 15% (InferSim,
github.com/alibaba/InferSim, grouped products of prompts on H800, Apache-2.0).
"""

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu
from model.operators import F, Operator

Floats = npt.NDArray[np.float64]

TILE = 128
"""Rows: ``get_mk_alignment_for_contiguous_layout``."""
READ_SHARE, COMPUTED_SHARE = 0.94, 0.68
"""Of the memory's bandwidth and of the arithmetic's peak."""
BLUNTNESS = 1.5
"""Reading and computing overlap less, the nearer they are to each other: the norm of both."""
MATRICES = 3
"""Gate, up and down."""


def tiled_s(operator: Operator, gpu: Gpu, *, whole_room: bool) -> Floats:
    """Return the seconds of a layer's grouped products; ``operator`` is that of all experts.

    ``whole_room``: whether tiles that nobody has are computed as well.
    """
    rows, widths, inner, touched = _shape(operator)
    each = rows / np.maximum(touched, 1e-9)
    # A rest of a tile for each expert, half of one on average; one tile for few rows.
    filled = touched * TILE * np.maximum(1.0, each / TILE + 0.5)
    if whole_room:
        filled = np.where(rows > 0, -(-_room(operator, rows) // TILE) * TILE, 0.0)
    width = widths / MATRICES
    # Inputs in 8 bits, outputs in 16, of both products.
    moved = operator.weight_bytes + filled * (inner + 2 * 2 * width + width + 2 * inner)
    read_s = moved / (READ_SHARE * gpu.bandwidth_bytes_per_s)
    computed_s = 2 * filled * widths * inner / (COMPUTED_SHARE * gpu.peak(operator.compute))
    return np.asarray((read_s**BLUNTNESS + computed_s**BLUNTNESS) ** (1 / BLUNTNESS))


def around_bytes(operator: Operator) -> Floats:
    """Return what is moved around and between the products of one layer.

    Inputs are copied to their experts in 8 bits, outputs read in 16 to be added up. Activation and
    quantisation run over room for a tile of every expert: of each column 4 bytes are read and 2
    written, then 2 read and 1 written.
    """
    rows, widths, inner, _ = _shape(operator)
    room = _room(operator, rows)
    return np.where(rows > 0, room * 9 * widths / MATRICES + rows * 4 * inner, 0.0)


def _room(operator: Operator, rows: Floats) -> Floats:
    """Rows of the buffers between the products (``compute_aligned_M``)."""
    return rows + operator.groups * (TILE - 1)


def _shape(operator: Operator) -> tuple[Floats, float, float, Floats]:
    """(token, expert) pairs, columns of all three matrices, inputs, and experts touched."""
    assert operator.gemm is not None
    rows, widths, inner = operator.gemm
    touched: F = operator.weight_bytes / (widths * inner)
    return np.asarray(rows, dtype=float), float(widths), float(inner), np.asarray(touched)
