"""FLOPs and memory traffic of attention, fused or in three standard operators."""

import numpy as np

from model.operators import SOFTMAX_FLOPS, F, Operator, floats, minimum, where_any
from model.precision import Precision
from model.sharding import Shard, shard
from model.spec import DecoderSpec


def decode_attention(
    spec: DecoderSpec,
    decodes: F,
    context_tokens: F,
    *,
    precision: Precision,
    tp: int = 1,
    fused: bool = True,
) -> list[Operator]:
    """Return the attention of sequences that decode one token each.

    With N positions attended and d the head dimension, one head of one sequence is ``N (4d + 3)``
    FLOPs: two products of 2Nd and a softmax of 3N. Fused, the cached keys and values are read once
    and the new ones written. Unfused at 16 bits it moves ``4 (Nd + d + 2N)`` bytes: see
    ``prefill_attention``.

    Args:
        spec: the decoder. A sliding window caps the mean context; the cap is exact when all
            sequences are on the same side of the window.
        decodes: decoding sequences.
        context_tokens: positions attended, summed over the sequences, current tokens included.
        precision: bytes per number.
        tp: ranks that share the heads.
        fused: one pass over the keys (FlashAttention), or three standard operators.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    rows, context = floats(decodes), floats(context_tokens)
    if spec.sliding_window is not None:
        context = minimum(context, rows * spec.sliding_window)
    build = _fused_attention if fused else _standard_attention
    return build(spec, shard(spec, tp), rows, context, context, precision)


def prefill_attention(
    spec: DecoderSpec,
    chunk_tokens: F,
    past_tokens: F,
    *,
    precision: Precision,
    tp: int = 1,
    fused: bool = True,
) -> list[Operator]:
    """Return the attention of one prefill chunk over its own past.

    Fused (FlashAttention; Dao et al. 2022, algorithm 1; masked blocks skipped as in Dao 2023,
    section 3.1) computes the causal (query, key) pairs only, ``chunk * past + chunk (chunk + 1) /
    2``. It reads queries, keys and values once: that later blocks of queries find the keys in the
    GPU's own cache is assumed. Unfused (Dao et al. 2022, algorithm 0) computes the full rectangle
    ``chunk * (past + chunk)`` and moves scores and probabilities through memory, both written once
    and read once. For one head of N tokens without past at 16 bits that is ``N^2 (4d + 3)`` FLOPs
    and ``8 N (N + d)`` bytes, an intensity of 57.2 FLOP/byte at N = 1024, d = 128.

    Args:
        spec: the decoder; a sliding window caps what each query attends.
        chunk_tokens: tokens of the chunk.
        past_tokens: tokens of the same prompt that are already cached.
        precision: bytes per number.
        tp: ranks that share the heads.
        fused: one pass over the keys, or three standard operators.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    chunk, past = floats(chunk_tokens), floats(past_tokens)
    held, positions = shard(spec, tp), where_any(chunk, past + chunk)
    if spec.sliding_window is not None:
        # The first query reaches back window - 1 positions, the last one to the chunk's end.
        positions = minimum(positions, chunk + (spec.sliding_window - 1))
    if fused:
        pairs = causal_pairs(chunk, past, spec.sliding_window)
        return _fused_attention(spec, held, chunk, pairs, positions, precision)
    return _standard_attention(spec, held, chunk, chunk * positions, positions, precision)


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


def _fused_attention(
    spec: DecoderSpec, held: Shard, rows: F, pairs: F, positions: F, precision: Precision
) -> list[Operator]:
    """Reads q and the attended K and V once, writes o, and stores the new K and V in the cache."""
    head_dim = spec.head_dim
    return [
        Operator(
            name="attention",
            kind="attention",
            layers=spec.num_layers,
            flops=held.heads * pairs * (4 * head_dim + SOFTMAX_FLOPS),
            weight_bytes=0.0,
            activation_bytes=2 * rows * held.heads * head_dim * precision.activation_bytes,
            kv_bytes=2 * held.kv_heads * head_dim * precision.kv_bytes * (positions + rows),
            compute=precision.compute,
        )
    ]


def _standard_attention(
    spec: DecoderSpec, held: Shard, rows: F, pairs: F, positions: F, precision: Precision
) -> list[Operator]:
    """Scores, softmax and values as three operators over (row, position) pairs.

    The projection is taken to write new keys and values where attention reads them, so they are
    not moved again.
    """
    vectors = rows * held.heads * spec.head_dim * precision.activation_bytes
    scores = held.heads * pairs * precision.activation_bytes
    keys = held.kv_heads * spec.head_dim * positions * precision.kv_bytes
    product = 2 * spec.head_dim * held.heads * pairs

    def operator(name: str, flops: F, activation_bytes: F, kv_bytes: F) -> Operator:
        return Operator(
            name=name,
            kind="attention",
            layers=spec.num_layers,
            flops=flops,
            weight_bytes=0.0,
            activation_bytes=activation_bytes,
            kv_bytes=kv_bytes,
            compute=precision.compute,
        )

    return [
        operator("attn_scores", product, vectors + scores, keys),
        operator("attn_softmax", SOFTMAX_FLOPS * held.heads * pairs, 2 * scores, 0.0),
        operator("attn_value", product, scores + vectors, keys),
    ]
