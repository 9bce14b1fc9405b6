"""FLOPs and memory traffic of every operator of one step, on one tensor-parallel rank.

A step is one forward pass over ``tokens`` rows: one row per decoding sequence and ``chunk_tokens``
rows per prefill chunk. Counts broadcast: give numpy arrays of steps and get arrays of counts.

What is counted
    A matrix product of (m, k) by (k, n) is ``2 m n k`` FLOPs; a bias rides on it for free. Traffic
    is what an operator must read and write once: its weights, its inputs and its outputs. Zero rows
    cost nothing.
What is shared between ranks
    See ``model.sharding``. Norms, residuals and routers are repeated on every rank, not divided.
What is not counted
    Collectives, which belong to the interconnect; sampling; the softmax of a router; quantizing
    activations before an fp8 or int8 product.

What a layer does stands in its mixer and its MLP (``model.mixers``, ``model.mlps``).
"""

from collections.abc import Sequence

from model.attended import attended_by_chunk, attended_by_decodes
from model.causal import attended, causal_pairs
from model.operators import F, Operator, floats
from model.precision import Precision
from model.shape import DecoderSpec
from model.sharding import (
    check_divides,
    encoder_bytes,
    rank_vocabulary,
    rank_weight_bytes,
    reordered_scales_bytes,
    rotary_table_bytes,
    shares,
    stage_weight_bytes,
    tensor_parallel_sizes,
    unpacked_bytes,
)
from model.share import Share, gemm

__all__ = [
    "F",
    "Operator",
    "attended",
    "causal_pairs",
    "decode_attention",
    "encoder_bytes",
    "prefill_attention",
    "rank_vocabulary",
    "rank_weight_bytes",
    "reordered_scales_bytes",
    "rotary_table_bytes",
    "sequence_operators",
    "stage_weight_bytes",
    "step_operators",
    "tensor_parallel_sizes",
    "token_operators",
    "unpacked_bytes",
]

NORMS = ("input_norm", "post_norm", "mixer_output_norm", "mlp_output_norm")
"""Names of the norms of a layer, as many as it has."""


def token_operators(
    spec: DecoderSpec, tokens: F, *, precision: Precision, tp: int = 1, embeds: bool = True
) -> list[Operator]:
    """Return all that depends on the step's token count only.

    Embedding; per layer its norms, the projections around the mixer, rotary positions, the MLP or
    the experts, and the residual additions. ``mlp_up`` of a gated MLP is its gate and up matrices
    in one product.

    Args:
        spec: the decoder.
        tokens: rows of the step, or an array of them.
        precision: bytes per number.
        tp: ranks that share the model.
        embeds: whether the embedding is here, and what else a model has once.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    rows, layers = floats(tokens), shares(spec, precision, tp)
    operators = _once(spec, rows, precision, tp) if embeds else []
    for kind, share in layers:
        operators += (
            *(share.norm(name, kind.norm, rows) for name in NORMS[: min(1, kind.norms)]),
            *kind.mixer.operators(rows, share),
            *(share.norm(name, kind.norm, rows) for name in NORMS[1 : kind.norms]),
            *kind.mlp.operators(rows, share),
            share.elementwise("residual", kind.parts * rows * spec.hidden_size, 1, 3),
        )
    return operators


def sequence_operators(
    spec: DecoderSpec, sequences: F, *, precision: Precision, tp: int = 1
) -> list[Operator]:
    """Return what runs on the sampled rows only: the final norm and the LM head.

    Args:
        spec: the decoder.
        sequences: rows that get logits, one per sequence, or an array of them.
        precision: bytes per number; few checkpoints quantize the LM head.
        tp: ranks that share the model.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    check_divides(spec, tp)
    rows, vocabulary = floats(sequences), rank_vocabulary(spec, tp)
    ((scheme, _),) = precision.weights.of("lm_head", (0,))
    head = gemm(
        "lm_head",
        1,
        rows,
        vocabulary,
        spec.hidden_size,
        precision,
        bias=spec.head.logit_bias,
        scheme=scheme,
    )
    return [Share((0,), precision, tp).norm("final_norm", spec.head.norm, rows), head]


def decode_attention(
    spec: DecoderSpec,
    decodes: F,
    context_tokens: F,
    *,
    precision: Precision,
    tp: int = 1,
    fused: bool = True,
) -> list[Operator]:
    """Return the attention of sequences that decode one token each, over all layers.

    Args:
        spec: the decoder.
        decodes: decoding sequences.
        context_tokens: positions attended, summed over the sequences, current tokens included.
        precision: bytes per number.
        tp: ranks that share the heads.
        fused: one pass over the keys (FlashAttention), or three standard operators.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    return [
        operator
        for kind, share in shares(spec, precision, tp)
        for operator in kind.mixer.attention(
            attended_by_decodes(kind.mixer.caches, decodes, context_tokens),
            share,
            fused=fused,
            decode=True,
        )
    ]


def prefill_attention(
    spec: DecoderSpec,
    chunk_tokens: F,
    past_tokens: F,
    *,
    precision: Precision,
    tp: int = 1,
    fused: bool = True,
) -> list[Operator]:
    """Return the attention of one prefill chunk over its own past, over all layers.

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
    return [
        operator
        for kind, share in shares(spec, precision, tp)
        for operator in kind.mixer.attention(
            attended_by_chunk(kind.mixer.caches, chunk_tokens, past_tokens, fused=fused),
            share,
            fused=fused,
            decode=False,
        )
    ]


def step_operators(
    spec: DecoderSpec,
    decodes: int,
    context_tokens: int,
    chunks: Sequence[tuple[int, int]],
    *,
    precision: Precision,
    tp: int = 1,
    fused: bool = True,
) -> list[Operator]:
    """Return every operator of one step, chunk by chunk, for tables.

    Logits are computed for every sequence of the step: an engine does so for unfinished prompts
    too, and discards them.

    Args:
        spec: the decoder.
        decodes: decoding sequences.
        context_tokens: positions that they attend, current tokens included.
        chunks: (chunk_tokens, past_tokens) of every prefill chunk.
        precision: bytes per number.
        tp: ranks that share the model.
        fused: see ``prefill_attention``.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    tokens = decodes + sum(chunk for chunk, _ in chunks)
    operators = token_operators(spec, tokens, precision=precision, tp=tp)
    if decodes:
        operators += decode_attention(
            spec, decodes, context_tokens, precision=precision, tp=tp, fused=fused
        )
    for chunk, past in chunks:
        operators += prefill_attention(spec, chunk, past, precision=precision, tp=tp, fused=fused)
    return operators + sequence_operators(spec, decodes + len(chunks), precision=precision, tp=tp)


def _once(spec: DecoderSpec, rows: F, precision: Precision, tp: int) -> list[Operator]:
    """What stands before all layers."""
    share = Share((0,), precision, tp)
    operators = [_embedding(spec, rows, precision, tp), *spec.once.operators(rows, share)]
    if spec.embedding.norm_behind is not None:
        operators.append(share.norm("embedding_norm", spec.embedding.norm_behind, rows))
    return operators


def _embedding(spec: DecoderSpec, rows: F, precision: Precision, tp: int) -> Operator:
    """Looks up one token row, of which a rank holds one in ``tp``, and adds a position row."""
    elements = rows * spec.hidden_size
    learned = spec.embedding.position_rows > 0
    return Operator(
        name="embedding",
        kind="gather",
        layers=1,
        flops=elements if learned else 0.0 * elements,
        weight_bytes=elements * (1 / tp + learned) * precision.activation_bytes,
        activation_bytes=elements * precision.activation_bytes,
        kv_bytes=0.0,
        compute=precision.compute,
    )
