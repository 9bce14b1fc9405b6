"""Prices from the roofline: a GPU's peaks, and how far kernels stay from them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.interconnect import all_gather_s, all_reduce_s
from hardware.prices.chunks import ChunkCost, ModelledChunks
from hardware.prices.lines import Longer
from hardware.prices.protocol import Host
from hardware.prices.work import AttentionTerm, attention_work
from hardware.roofline import F, operator_s
from model.mixers.mixer import Mixer
from model.operators import Operator
from model.share import Share

Floats = npt.NDArray[np.float64]

LINEAR_KINDS = ("gemm", "norm", "elementwise", "gather")
"""Kinds of operators beside attention."""


def efficiencies(kind: str, calibration: Calibration) -> tuple[float, float]:
    """Return (FLOPs, bytes) efficiencies of a kind of operators other than attention."""
    if kind == "gemm":
        return calibration.gemm_flops, calibration.gemm_bytes
    if kind in LINEAR_KINDS:
        return 1.0, calibration.elementwise_bytes
    raise ValueError(f"kind = {kind!r}, expected one of {', '.join(LINEAR_KINDS)}")


def gemm_factor(rows: float | Floats, calibration: Calibration) -> Floats:
    """Return how far matrix products of ``rows`` rows are from the fitted efficiencies.

    Kernels are chosen by shape, so that efficiency is no constant: a curve over the rows, linear in
    the logarithms between its nodes and constant beyond them.
    """
    nodes, factors = np.array(calibration.gemm_curve).T
    logs = np.log(np.maximum(rows, 1.0))
    return np.asarray(np.exp(np.interp(logs, np.log(nodes), np.log(factors))))


def host_of(calibration: Calibration) -> Host:
    """Return the host's times of a calibration."""
    return Host(
        idle_start_s=calibration.idle_start_s,
        step_s=calibration.step_overhead_s,
        sequence_s=calibration.sequence_overhead_s,
        chunk_s=calibration.chunk_overhead_s,
        layer_s=calibration.layer_overhead_s,
    )


class Roofline:
    """Every operator takes the longer of arithmetic and traffic at the calibration's efficiencies.

    Args:
        gpu: whose peaks.
        calibration: efficiencies and overheads.
        fused: FlashAttention's traffic; otherwise scores and probabilities go through memory.
    """

    def __init__(self, gpu: Gpu, calibration: Calibration, *, fused: bool) -> None:
        self.gpu, self.calibration, self.fused = gpu, calibration, fused
        self.host = host_of(calibration)

    def operators_s(self, operators: Sequence[Operator], layers: int) -> Floats:
        """See ``Prices``."""
        gpu, calibration = self.gpu, self.calibration
        total: F = 0.0
        for operator in operators:
            flops_efficiency, bytes_efficiency = efficiencies(operator.kind, calibration)
            seconds: F = operator_s(
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

    def decode(self, mixer: Mixer, share: Share, most: int) -> list[list[Longer]]:
        """See ``Prices``."""
        calibration = self.calibration
        terms = self.attention_terms(
            mixer, share, calibration.attention_decode_flops, calibration.attention_decode_bytes
        )
        return [
            [((0.0, t.per_pair), (t.per_row * n, t.per_position + t.moved_per_pair)) for t in terms]
            for n in range(most + 1)
        ]

    def chunks(self, mixer: Mixer, share: Share, overhead_s: float) -> ChunkCost:
        """See ``Prices``."""
        calibration = self.calibration
        reached = (calibration.attention_prefill_flops, calibration.attention_prefill_bytes)
        return self.modelled_chunks(mixer, share, reached, overhead_s)

    def modelled_chunks(
        self, mixer: Mixer, share: Share, reached: tuple[float, float], overhead_s: float
    ) -> ModelledChunks:
        """Return chunks at efficiencies of FLOPs and bytes."""
        terms = self.attention_terms(mixer, share, *reached)
        return ModelledChunks(
            terms=tuple((t.per_pair, t.per_row, t.per_position, t.moved_per_pair) for t in terms),
            overhead_s=overhead_s,
            sliding_window=mixer.caches[0].window,
            fused=self.fused,
        )

    def attention_terms(
        self, mixer: Mixer, share: Share, flops_efficiency: float, bytes_efficiency: float
    ) -> tuple[AttentionTerm, ...]:
        """Return the seconds of every attention operator per unit of its arguments.

        Raises:
            UnsupportedPrecisionError: the GPU lacks the arithmetic.
        """
        moved_per_s = self.gpu.bandwidth_bytes_per_s * bytes_efficiency
        return tuple(
            AttentionTerm(
                per_pair=term.per_pair / (self.gpu.peak(compute) * flops_efficiency),
                per_row=term.per_row / moved_per_s,
                per_position=term.per_position / moved_per_s,
                moved_per_pair=term.moved_per_pair / moved_per_s,
            )
            for term, compute in attention_work(mixer, share, fused=self.fused)
        )

    def all_reduce_s(self, bytes_: Floats, ranks: int) -> Floats:
        """See ``Prices``."""
        calibration = self.calibration
        one = np.asarray(all_reduce_s(bytes_, ranks, self.gpu, calibration.all_reduce_bytes))
        return one + calibration.collective_overhead_s

    def all_gather_s(self, bytes_: Floats, ranks: int) -> Floats:
        """See ``Prices``."""
        calibration = self.calibration
        one = np.asarray(all_gather_s(bytes_, ranks, self.gpu, calibration.all_reduce_bytes))
        return one + calibration.collective_overhead_s
