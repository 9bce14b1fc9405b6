"""Seconds of attention per unit of its arguments: from the roofline, or from measured kernels."""

import numpy as np

from hardware.calibration import Calibration
from hardware.chunk_cost import ChunkCost, ModelledChunks, measured_chunks
from hardware.gpu import Gpu
from hardware.kernels import nearest
from hardware.operator_prices import AttentionTerm, attention_work
from model.ops import shard
from model.precision import Precision
from model.spec import DecoderSpec

DecodeTerm = tuple[float, float, float, float]
"""Of one attention operator over all layers: seconds, and seconds per position attended; twice. The
longer of the two counts: arithmetic and traffic, or a kernel's floor and its traffic."""


def attention_terms(
    spec: DecoderSpec,
    gpu: Gpu,
    *,
    precision: Precision,
    tp: int,
    fused: bool,
    flops_efficiency: float,
    bytes_efficiency: float,
) -> tuple[AttentionTerm, ...]:
    """Return the seconds of every attention operator per unit of its arguments.

    Raises:
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    moved_per_s = gpu.bandwidth_bytes_per_s * bytes_efficiency
    return tuple(
        AttentionTerm(
            per_pair=term.per_pair / (gpu.peak(compute) * flops_efficiency),
            per_row=term.per_row / moved_per_s,
            per_position=term.per_position / moved_per_s,
            moved_per_pair=term.moved_per_pair / moved_per_s,
        )
        for term, compute in attention_work(spec, precision=precision, tp=tp, fused=fused)
    )


def decode_terms(
    spec: DecoderSpec,
    gpu: Gpu,
    max_seqs: int,
    tp: int,
    precision: Precision,
    calibration: Calibration,
    fused: bool,
) -> list[tuple[DecodeTerm, ...]]:
    """Return the terms of 0 to ``max_seqs`` decoding sequences, see ``StepCost.decode_terms``.

    Raises:
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    sequences = np.arange(max_seqs + 1)
    if calibration.kernels is None or not fused:
        terms = attention_terms(
            spec,
            gpu,
            precision=precision,
            tp=tp,
            fused=fused,
            flops_efficiency=calibration.attention_decode_flops,
            bytes_efficiency=calibration.attention_decode_bytes,
        )
        return [
            tuple(
                (0.0, t.per_pair, t.per_row * n, t.per_position + t.moved_per_pair) for t in terms
            )
            for n in sequences.tolist()
        ]
    held = shard(spec, tp)
    kernel = nearest(calibration.kernels.decode_attention, precision.kv_numbers)
    floor_s, base_s, share = kernel.of_batches(sequences, held.kv_heads, held.heads / held.kv_heads)
    row_bytes = 2 * held.kv_heads * spec.head_dim * precision.kv_bytes
    if held.heads > held.kv_heads:
        share = share * calibration.attention_decode_bytes
    per_position = spec.num_layers * row_bytes / (gpu.bandwidth_bytes_per_s * share)
    floor, base = (spec.num_layers * seconds for seconds in (floor_s, base_s))
    return [
        ((low, 0.0, start, slope),)
        for low, start, slope in zip(
            floor.tolist(), base.tolist(), per_position.tolist(), strict=True
        )
    ]


def chunk_cost(
    spec: DecoderSpec,
    gpu: Gpu,
    tp: int,
    precision: Precision,
    calibration: Calibration,
    fused: bool,
) -> ChunkCost:
    """Return the price of prefill chunks.

    Raises:
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    kernels = calibration.kernels if fused else None
    terms = attention_terms(
        spec,
        gpu,
        precision=precision,
        tp=tp,
        fused=fused,
        flops_efficiency=1.0 if kernels else calibration.attention_prefill_flops,
        bytes_efficiency=1.0 if kernels else calibration.attention_prefill_bytes,
    )
    bound = ModelledChunks(
        terms=tuple((t.per_pair, t.per_row, t.per_position, t.moved_per_pair) for t in terms),
        overhead_s=0.0 if kernels else calibration.chunk_overhead_s,
        sliding_window=spec.sliding_window,
        fused=fused,
    )
    if kernels is None:
        return bound
    held = shard(spec, tp)
    group = held.heads / held.kv_heads
    decode = nearest(kernels.decode_attention, precision.kv_numbers)
    launch_s, _, _ = decode.of_batches(np.array([1]), held.kv_heads, group)
    return measured_chunks(
        bound,
        nearest(kernels.prefill_attention, precision.kv_numbers),
        heads=held.heads,
        group=group,
        overhead_s=calibration.chunk_overhead_s,
        launch_s=spec.num_layers * float(launch_s[0]),
    )
