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
"""

from collections.abc import Sequence

from model.attention_ops import attended, causal_pairs, decode_attention, prefill_attention
from model.operators import (
    ACTIVATION_FLOPS,
    NORM_FLOPS,
    ROPE_FLOPS,
    F,
    Operator,
    elementwise,
    floats,
    gemm,
    layer_gemms,
    norm,
)
from model.precision import Precision
from model.quantization.scheme import Scheme
from model.sharding import (
    Shard,
    rank_weight_bytes,
    rotary_table_bytes,
    shard,
    tensor_parallel_sizes,
)
from model.spec import DecoderSpec

__all__ = [
    "F",
    "Operator",
    "attended",
    "causal_pairs",
    "decode_attention",
    "expected_experts",
    "prefill_attention",
    "rank_weight_bytes",
    "rotary_table_bytes",
    "sequence_operators",
    "shard",
    "step_operators",
    "tensor_parallel_sizes",
    "token_operators",
]


def expected_experts(spec: DecoderSpec, tokens: F) -> F:
    """Return how many distinct experts of a layer ``tokens`` tokens are expected to touch.

    ``E (1 - (1 - k/E)^t)`` for t tokens that choose k of E experts each, uniformly and
    independently: one expert is missed by one token with probability 1 - k/E. Real routers are
    less even and touch fewer. 0 for a model without experts.
    """
    if not spec.num_experts:
        return 0.0
    missed = 1.0 - spec.experts_per_token / spec.num_experts
    return spec.num_experts * (1.0 - missed ** floats(tokens))


def token_operators(
    spec: DecoderSpec, tokens: F, *, precision: Precision, tp: int = 1
) -> list[Operator]:
    """Return all that depends on the step's token count only.

    Embedding; per layer both norms, the projections around the attention, rotary positions, the
    MLP or the experts, and both residual additions. ``mlp_up`` of a gated MLP is its gate and up
    matrices in one product.

    Args:
        spec: the decoder.
        tokens: rows of the step, or an array of them.
        precision: bytes per number.
        tp: ranks that share the model.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    held, rows = shard(spec, tp), floats(tokens)
    return [
        _embedding(spec, rows, precision, tp),
        norm("input_norm", spec, rows, precision, spec.num_layers),
        *_attention_projections(spec, held, rows, precision),
        norm("post_norm", spec, rows, precision, spec.num_layers),
        *(_experts if spec.num_experts else _mlp)(spec, held, rows, precision),
        elementwise("residual", spec, 2 * rows * spec.hidden_size, 1, 3, precision),
    ]


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
    held, rows = shard(spec, tp), floats(sequences)
    ((scheme, _),) = precision.weights.of("lm_head", 1)
    head = gemm("lm_head", 1, rows, held.vocab, spec.hidden_size, precision, scheme=scheme)
    return [norm("final_norm", spec, rows, precision, 1), head]


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


def _embedding(spec: DecoderSpec, rows: F, precision: Precision, tp: int) -> Operator:
    """Looks up one token row, of which a rank holds one in ``tp``, and adds a position row."""
    elements = rows * spec.hidden_size
    learned = spec.positions == "learned"
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


def _attention_projections(
    spec: DecoderSpec, held: Shard, rows: F, precision: Precision
) -> list[Operator]:
    hidden, head_dim = spec.hidden_size, spec.head_dim
    queries = held.heads * head_dim
    rotated = queries + held.kv_heads * head_dim
    qkv = rotated + held.kv_heads * head_dim
    operators = layer_gemms("qkv_proj", spec, rows, qkv, hidden, precision, bias=spec.qkv_bias)
    if spec.qk_norm:
        flops = NORM_FLOPS["rmsnorm"]
        operators.append(
            elementwise("qk_norm", spec, rows * rotated, flops, 2, precision, kind="norm")
        )
    if spec.positions == "rope":
        operators.append(elementwise("rope", spec, rows * rotated, ROPE_FLOPS, 2, precision))
    bias = spec.output_bias
    return operators + layer_gemms("o_proj", spec, rows, hidden, queries, precision, bias=bias)


def _mlp(spec: DecoderSpec, held: Shard, rows: F, precision: Precision) -> list[Operator]:
    """The dense MLP, or the expert that every token takes."""
    hidden, width, bias = spec.hidden_size, held.mlp_width, spec.mlp_bias
    up_width = (spec.mlp_matrices - 1) * width
    return [
        *layer_gemms("mlp_up", spec, rows, up_width, hidden, precision, bias=bias),
        _activation("mlp_act", spec, rows * width, precision),
        *layer_gemms("mlp_down", spec, rows, hidden, width, precision, bias=bias),
    ]


def _experts(spec: DecoderSpec, held: Shard, rows: F, precision: Precision) -> list[Operator]:
    """Router, routed experts as one grouped product, and the weighted sum of their outputs.

    The product's (m, n, k) is gate, up and down side by side: every token goes through k of the
    experts, so m is the number of (token, expert) pairs. Only the touched experts' weights are
    read, see ``expected_experts``.
    """
    layers, hidden, width = spec.num_layers, spec.hidden_size, held.expert_width
    pairs = rows * spec.experts_per_token
    # The sum reads the outputs of every pair and writes one row per token.
    sum_moved = 1 + 1 / spec.experts_per_token
    operators = [
        gemm("router", layers, rows, spec.num_experts, hidden, precision),
        *(
            _expert_products(spec, width, rows, precision, scheme, count)
            for scheme, count in precision.weights.of("experts", layers)
        ),
        _activation("experts_act", spec, pairs * width, precision),
        elementwise("experts_sum", spec, pairs * hidden, 2, sum_moved, precision),
    ]
    if held.mlp_width:
        operators += _mlp(spec, held, rows, precision)
    if spec.shared_expert_gate:
        operators.append(gemm("shared_expert_gate", layers, rows, 1, hidden, precision))
    return operators


def _expert_products(
    spec: DecoderSpec,
    width: int,
    rows: F,
    precision: Precision,
    scheme: Scheme | None,
    layers: int,
) -> Operator:
    """The grouped product of the layers whose experts are stored in one way."""
    hidden, pairs = spec.hidden_size, rows * spec.experts_per_token
    ups, expert_width = spec.mlp_matrices - 1, spec.mlp_matrices * width
    matrices = precision.matrix_bytes(scheme, ups * width, hidden)
    matrices += precision.matrix_bytes(scheme, hidden, width)
    return Operator(
        name="experts",
        kind="gemm",
        layers=layers,
        flops=2 * pairs * expert_width * hidden,
        weight_bytes=expected_experts(spec, rows) * matrices,
        activation_bytes=pairs * (2 * hidden + expert_width) * precision.activation_bytes,
        kv_bytes=0.0,
        gemm=(pairs, expert_width, hidden),
        groups=spec.num_experts,
        compute=precision.product(scheme),
    )


def _activation(name: str, spec: DecoderSpec, elements: F, precision: Precision) -> Operator:
    """The nonlinearity, times the other half when gated."""
    flops = ACTIVATION_FLOPS[spec.activation] + spec.gated_mlp
    return elementwise(name, spec, elements, flops, spec.mlp_matrices, precision)
