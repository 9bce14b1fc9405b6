"""Prices from the roofline: a GPU's peaks, and how far kernels stay from them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.links.interconnect import all_gather_s, all_reduce_s
from hardware.prices.chunks import ChunkCost, ChunkTerm, ModelledChunks
from hardware.prices.lines import Line
from hardware.prices.protocol import DecodeOperators, Host
from hardware.prices.work import Linear, attention_work
from hardware.roofline import F, operator_s
from model.caches import Reach
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
        eager_layer_s=calibration.eager_layer_s,
        eager_experts_s=calibration.eager_experts_s,
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

    def decode(
        self, mixer: Mixer, share: Share, most: int, rows: int = 1
    ) -> dict[Reach | None, DecodeOperators]:
        """See ``Prices``."""
        calibration = self.calibration
        reached = (calibration.attention_decode_flops, calibration.attention_decode_bytes)
        operators: dict[Reach | None, DecodeOperators] = {}
        for reach, compute, memory in self.attention_s(mixer, share, reached, decode=True):
            by_sequences = operators.setdefault(reach, [[] for _ in range(most + 1)])
            for sequences, batch in enumerate(by_sequences):
                lines = (line(each, sequences, rows, reach) for each in (compute, memory))
                batch.append(tuple(lines))
        return operators

    def beside_position_s(self, mixer: Mixer, share: Share) -> float:
        """See ``Prices``: kernels of their own."""
        return 0.0

    def chunks(self, mixer: Mixer, share: Share, overhead_s: float) -> ChunkCost:
        """See ``Prices``."""
        calibration = self.calibration
        reached = (calibration.attention_prefill_flops, calibration.attention_prefill_bytes)
        return self.modelled_chunks(mixer, share, reached, overhead_s)

    def modelled_chunks(
        self, mixer: Mixer, share: Share, reached: tuple[float, float], overhead_s: float
    ) -> ModelledChunks:
        """Return chunks at efficiencies of FLOPs and bytes."""
        terms = self.attention_s(mixer, share, reached, decode=False)
        return ModelledChunks(
            terms=tuple(ChunkTerm(reach or Reach(None), *both) for reach, *both in terms),
            overhead_s=overhead_s,
            fused=self.fused,
        )

    def attention_s(
        self, mixer: Mixer, share: Share, reached: tuple[float, float], *, decode: bool
    ) -> list[tuple[Reach | None, Linear, Linear]]:
        """Return every attention operator's reach, seconds of arithmetic and of traffic.

        Args:
            mixer: of the layers.
            share: the rank and the layers.
            reached: efficiencies of FLOPs and bytes.
            decode: of decoding sequences, or of chunks.

        Raises:
            UnsupportedPrecisionError: the GPU lacks the arithmetic.
        """
        flops_efficiency, bytes_efficiency = reached
        moved_per_s = self.gpu.bandwidth_bytes_per_s * bytes_efficiency
        return [
            (
                term.reach,
                term.flops.over(self.gpu.peak(term.compute) * flops_efficiency),
                term.bytes.over(moved_per_s),
            )
            for term in attention_work(mixer, share, fused=self.fused, decode=decode)
        ]

    def all_reduce_s(self, bytes_: Floats, ranks: int, *, fused: bool = False) -> Floats:
        """See ``Prices``."""
        calibration = self.calibration
        one = np.asarray(all_reduce_s(bytes_, ranks, self.gpu, calibration.all_reduce_bytes))
        return one + calibration.collective_overhead_s

    def all_gather_s(self, bytes_: Floats, ranks: int) -> Floats:
        """See ``Prices``."""
        calibration = self.calibration
        one = np.asarray(all_gather_s(bytes_, ranks, self.gpu, calibration.all_reduce_bytes))
        return one + calibration.collective_overhead_s


def states_moved(rows: int) -> float:
    """Return how much more of a state is moved than by reading and writing it once.

    Rejected drafts leave no trace, as every row has a state of its own: ``IS_SPEC_DECODING`` in
    vllm/model_executor/layers/mamba/ops/mamba_ssm.py.
    """
    return (1 + rows) / 2


def line(seconds: Linear, sequences: int, rows: int = 1, reach: Reach | None = None) -> Line:
    """Return what decoding sequences take, over the positions that they read between them.

    Each of them is a row, and has as many pairs as positions. With drafts it is several rows, which
    read the same positions and attend them as far as causality lets them; where an index chooses
    positions each row reads its own (``sim.engine.drafts.draft_decodes``). A state is read once,
    and written behind every row (``states_moved``).
    """
    once, per_row, per_pair, per_position = seconds
    if rows == 1:
        return (per_row + once) * sequences, per_position + per_pair
    flat = (rows * per_row + once * (states_moved(rows) if reach is None else 1.0)) * sequences
    if reach is not None and reach.chosen:
        return flat, per_position + per_pair
    return flat - per_pair * sequences * (rows * (rows - 1) // 2), per_position + rows * per_pair
