"""Seconds of attention per unit of its arguments: from the roofline, or from measured kernels."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from hardware.calibration import Calibration
from hardware.chunk_cost import ChunkCost, ModelledChunks, measured_chunks
from hardware.gpu import Gpu
from hardware.kernels import nearest
from hardware.operator_prices import AttentionTerm, attention_work
from hardware.step_prices import Piece
from model.alike import attention_of
from model.precision import Precision
from model.spec import DecoderSpec

Line = tuple[float, float]
"""Seconds, and seconds per position attended."""


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


def straight_pieces(operators: Sequence[tuple[Line, Line]]) -> tuple[Piece, ...]:
    """Return what operators take together, each the longer of its two lines.

    The steeper line is the longer one from where the two cross; between crossings all is straight.
    Pieces come from the last to the first, which starts at 0.
    """
    lines = [sorted(pair, key=lambda line: line[::-1]) for pair in operators]
    crossings = [
        ceil(min((flat[0] - steep[0]) / (steep[1] - flat[1]), 1e18)) if flat > steep else 0
        for flat, steep in lines
    ]
    pieces = []
    for start in sorted({0, *crossings}, reverse=True):
        longer = [pair[start >= cross] for pair, cross in zip(lines, crossings, strict=True)]
        pieces.append((start, sum(line[0] for line in longer), sum(line[1] for line in longer)))
    return tuple(pieces)


def decode_pieces(
    spec: DecoderSpec,
    gpu: Gpu,
    max_seqs: int,
    tp: int,
    precision: Precision,
    calibration: Calibration,
    fused: bool,
) -> list[tuple[Piece, ...]]:
    """Return the pieces of 0 to ``max_seqs`` decoding sequences, see ``StepCost.decode_pieces``.

    An operator takes the longer of arithmetic and traffic, or of a kernel's floor and its traffic.

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
            straight_pieces(
                [
                    ((0.0, t.per_pair), (t.per_row * n, t.per_position + t.moved_per_pair))
                    for t in terms
                ]
            )
            for n in sequences.tolist()
        ]
    attention = attention_of(spec)
    heads, kv_heads = attention.heads_on(tp)
    kernel = nearest(calibration.kernels.decode_attention, precision.kv_numbers)
    floor_s, base_s, share = kernel.of_batches(sequences, kv_heads, heads / kv_heads)
    row_bytes = 2 * kv_heads * attention.head_dim * precision.kv_bytes
    if heads > kv_heads:
        share = share * calibration.attention_decode_bytes
    per_position = spec.num_layers * row_bytes / (gpu.bandwidth_bytes_per_s * share)
    floor, base = (spec.num_layers * seconds for seconds in (floor_s, base_s))
    return [
        straight_pieces([((low, 0.0), (start, slope))])
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
    heads, kv_heads = attention_of(spec).heads_on(tp)
    group = heads / kv_heads
    decode = nearest(kernels.decode_attention, precision.kv_numbers)
    launch_s, _, _ = decode.of_batches(np.array([1]), kv_heads, group)
    return measured_chunks(
        bound,
        nearest(kernels.prefill_attention, precision.kv_numbers),
        heads=heads,
        group=group,
        overhead_s=calibration.chunk_overhead_s,
        launch_s=spec.num_layers * float(launch_s[0]),
    )
