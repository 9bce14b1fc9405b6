"""Seconds of operators on one GPU: the one place where counts become time.

Every group of operators is priced by a small function: ``operators_s`` for all that is tabulated
over a step's tokens or sequences, ``attention_terms`` for what depends on contexts. Measured
kernels can take the place of either.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.kernels import Kernels
from hardware.roofline import F, operator_s
from model.operators import Operator
from model.precision import Precision
from model.sharding import shares
from model.spec import DecoderSpec

Floats = npt.NDArray[np.float64]

LINEAR_KINDS = ("gemm", "norm", "elementwise", "gather")
"""Kinds of operators that ``operators_s`` prices."""


def efficiencies(kind: str, calibration: Calibration) -> tuple[float, float]:
    """Return (FLOPs, bytes) efficiencies of a kind of operators other than attention."""
    if kind == "gemm":
        return calibration.gemm_flops, calibration.gemm_bytes
    if kind in LINEAR_KINDS:
        return 1.0, calibration.elementwise_bytes
    raise ValueError(f"kind = {kind!r}, expected one of {', '.join(LINEAR_KINDS)}")


def operators_s(operators: Iterable[Operator], gpu: Gpu, calibration: Calibration) -> Floats:
    """Return the seconds of all operators together, one entry per entry of their counts.

    Raises:
        UnsupportedPrecisionError: the GPU lacks the arithmetic of one of them.
    """
    if calibration.kernels is not None:
        return _measured_s(operators, gpu, calibration, calibration.kernels)
    total: F = 0.0
    for operator in operators:
        flops_efficiency, bytes_efficiency = efficiencies(operator.kind, calibration)
        seconds = operator_s(
            operator.flops,
            operator.bytes,
            gpu.peak(operator.compute) * flops_efficiency,
            gpu.bandwidth_bytes_per_s * bytes_efficiency,
            calibration.gemm_overlap if operator.kind == "gemm" else 1.0,
        )
        if operator.gemm is not None and calibration.gemm_curve:
            seconds = seconds / gemm_factor(operator.gemm[0], calibration)
        total = total + operator.layers * seconds
    return np.asarray(total)


def _measured_s(
    operators: Iterable[Operator], gpu: Gpu, calibration: Calibration, kernels: Kernels
) -> Floats:
    """Matrix products as measured; the small kernels between them by their traffic.

    ``layer_overhead_s`` is what those take however little they move (launches, and activations
    that the L2 cache holds): only what their traffic takes beyond it is added.
    """
    products: F = 0.0
    between: F = 0.0
    layers = 1
    for operator in operators:
        if operator.gemm is not None:
            measured_s = kernels.gemm_s(operator, gpu) / calibration.gemm_share
            products = products + operator.layers * measured_s
            continue
        moved_per_s = gpu.bandwidth_bytes_per_s * calibration.elementwise_bytes
        between = between + operator.layers * operator.bytes / moved_per_s
        layers = max(layers, operator.layers)
    hidden_s = layers * calibration.layer_overhead_s if layers > 1 else 0.0
    return np.asarray(products + np.maximum(between - hidden_s, 0.0))


def gemm_factor(rows: float | Floats, calibration: Calibration) -> Floats:
    """Return how far matrix products of ``rows`` rows are from the fitted efficiencies.

    Kernels are chosen by shape, so that efficiency is no constant: a curve over the rows, linear in
    the logarithms between its nodes and constant beyond them.
    """
    nodes, factors = np.array(calibration.gemm_curve).T
    logs = np.log(np.maximum(rows, 1.0))
    return np.asarray(np.exp(np.interp(logs, np.log(nodes), np.log(factors))))


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
    """What one attention operator costs over all layers, per unit of its three arguments.

    rows: query tokens. positions: cached tokens they attend. pairs: (query, position) pairs that
    are computed. A decoding sequence is one row, and as many pairs as positions.
    Arithmetic is ``pairs * per_pair``; traffic is ``rows * per_row + positions * per_position +
    pairs * moved_per_pair``. Units: seconds in a price, FLOPs and bytes in a count of work.
    """

    per_pair: float
    per_row: float
    per_position: float
    moved_per_pair: float


def attention_work(
    spec: DecoderSpec, *, precision: Precision, tp: int, fused: bool
) -> list[tuple[AttentionTerm, str]]:
    """Return FLOPs and bytes of every attention operator per unit, and its arithmetic."""
    terms = []
    for kind, share in shares(spec, precision, tp):
        of_pair, of_row, of_position = (
            kind.mixer.attention(rows, pairs, positions, share, fused=fused)
            for rows, pairs, positions in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
        )
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
