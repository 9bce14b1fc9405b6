"""What one rank of a tensor-parallel group holds.

Megatron's split (Shoeybi et al. 2019, section 3): attention heads, MLP width and vocabulary are
divided; norms, routers and learned positions are repeated on every rank, and so are key and value
heads when there are fewer of them than ranks.
"""

from dataclasses import dataclass

from model.precision import Precision
from model.spec import DecoderSpec

VOCABULARY_PADDING = 64
"""vLLM pads the rows of embedding and LM head to a multiple of this (VocabParallelEmbedding)."""

SMALLEST_GROUP = 32
"""vLLM's kernel for 4-bit experts halves groups that a rank's share cuts, down to this."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of one layer, as one rank holds it."""

    module: str
    outputs: tuple[int, ...]
    """Of the parts that an engine joins: queries, keys and values; gate and up."""
    inputs: int
    whole_inputs: int
    """Of all ranks together."""
    copies: int = 1
    """Experts."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What one tensor-parallel rank holds of a layer."""

    heads: int
    kv_heads: int
    mlp_width: int
    expert_width: int
    vocab: int


def tensor_parallel_sizes(
    spec: DecoderSpec, most: int = 64, precision: Precision | None = None
) -> tuple[int, ...]:
    """Return the group sizes that divide the model, at most ``most``.

    A size must divide the attention heads and every MLP width, and either divide the key and value
    heads or be a multiple of them (each rank then keeps a copy of one head). With a ``precision``
    it must divide the blocks and groups of quantized matrices as well.
    """
    sizes = (size for size in range(1, most + 1) if _divides(spec, size))
    return tuple(n for n in sizes if precision is None or not cut_scales(spec, precision, n))


def _divides(spec: DecoderSpec, tp: int) -> bool:
    widths = (
        spec.num_heads,
        spec.intermediate_size,
        spec.moe_intermediate_size,
        spec.shared_expert_intermediate_size,
    )
    whole = all(width % tp == 0 for width in widths)
    return whole and (spec.num_kv_heads % tp == 0 or tp % spec.num_kv_heads == 0)


def _width(spec: DecoderSpec) -> int:
    return spec.intermediate_size or spec.moe_intermediate_size


def shard(spec: DecoderSpec, tp: int) -> Shard:
    """Return what one of ``tp`` ranks holds.

    The vocabulary is padded up to a multiple of `VOCABULARY_PADDING`, then of ``tp``.

    Raises:
        ValueError: ``tp`` does not divide the model; names the nearest size that does.
    """
    if tp < 1 or not _divides(spec, tp):
        sizes = tensor_parallel_sizes(spec, max(1, spec.num_heads))
        closest = min(sizes, key=lambda size: abs(size - tp))
        raise ValueError(
            f"tensor_parallel_size = {tp} does not divide {spec.name} ({spec.num_heads} attention "
            f"heads, {spec.num_kv_heads} KV heads, MLP width {_width(spec)}), expected one of "
            f"{', '.join(map(str, sizes))}; nearest: {closest}"
        )
    vocabulary = -(-spec.vocab_size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    return Shard(
        heads=spec.num_heads // tp,
        kv_heads=max(1, spec.num_kv_heads // tp),
        mlp_width=(spec.intermediate_size + spec.shared_expert_intermediate_size) // tp,
        expert_width=spec.moe_intermediate_size // tp,
        vocab=-(-vocabulary // tp),
    )


def rank_matrices(spec: DecoderSpec, tp: int) -> list[Matrix]:
    """Return the matrices of one layer that a rank holds, under the names of ``model.ops``.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    held, hidden, head_dim = shard(spec, tp), spec.hidden_size, spec.head_dim
    queries, keys = held.heads * head_dim, held.kv_heads * head_dim
    ups = spec.mlp_matrices - 1
    matrices = [
        Matrix("qkv_proj", (queries, keys, keys), hidden, hidden),
        Matrix("o_proj", (hidden,), queries, queries * tp),
    ]
    for up, down, width, copies in (
        ("mlp_up", "mlp_down", held.mlp_width, 1),
        ("experts", "experts", held.expert_width, spec.num_experts),
    ):
        if width:
            matrices.append(Matrix(up, (width,) * ups, hidden, hidden, copies))
            matrices.append(Matrix(down, (hidden,), width, width * tp, copies))
    return matrices


def cut_scales(spec: DecoderSpec, precision: Precision, tp: int) -> str:
    """Return which matrix's blocks or groups ``tp`` ranks would cut; an empty text for none.

    As in vLLM: the inputs of a rank must be whole blocks or groups. With blocks of several rows so
    must the outputs of every joined part, but for the last of a matrix that is not split. Groups of
    experts may be halved down to `SMALLEST_GROUP`.
    """
    for matrix in rank_matrices(spec, tp):
        split = matrix.inputs != matrix.whole_inputs
        for scheme, _ in precision.weights.of(matrix.module, spec.num_layers):
            if scheme is None or scheme.flat:
                continue
            rows, columns = scheme.block
            if matrix.module == "experts" and rows <= 1 and columns:
                columns = min(columns, SMALLEST_GROUP)
            if columns > 1 and split and matrix.inputs % columns:
                return f"{matrix.module}: {matrix.inputs} inputs a rank, groups of {columns}"
            outputs = matrix.outputs if tp > 1 and not split else matrix.outputs[:-1]
            for part in outputs:
                if rows > 1 and part % rows:
                    return f"{matrix.module}: {part} outputs a rank, blocks of {rows}"
    return ""


def check_scales(spec: DecoderSpec, precision: Precision, tp: int) -> None:
    """Raise ValueError if ``tp`` ranks would cut the blocks or groups of quantized matrices."""
    cut = cut_scales(spec, precision, tp)
    if cut:
        sizes = tensor_parallel_sizes(spec, max(1, spec.num_heads), precision)
        expected = f"expected one of {', '.join(map(str, sizes))}" if sizes else "no size does"
        raise ValueError(
            f"tensor_parallel_size = {tp} does not divide the scales of {spec.name} "
            f"({precision.weights}): {cut}; {expected}"
        )


def rank_weight_bytes(spec: DecoderSpec, *, precision: Precision, tp: int = 1) -> float:
    """Return the bytes of all weights that one rank keeps in memory.

    With one rank and one precision this is ``spec.parameters()`` times the bytes of a weight, and
    what the padding of the vocabulary adds.

    Raises:
        ValueError: ``tp`` does not divide the model, or the scales of its quantized matrices.
    """
    check_scales(spec, precision, tp)
    held, head_dim, wide = shard(spec, tp), spec.head_dim, precision.activation_bytes
    matrices = 0.0
    for matrix in rank_matrices(spec, tp):
        for scheme, layers in precision.weights.of(matrix.module, spec.num_layers):
            for n in matrix.outputs:
                one = precision.matrix_bytes(scheme, n, matrix.inputs, matrix.whole_inputs)
                matrices += layers * matrix.copies * one
    qkv = (held.heads + 2 * held.kv_heads) * head_dim
    layer_rest = (
        spec.router_parameters()
        + (qkv if spec.qkv_bias else 0)
        + (spec.hidden_size if spec.output_bias else 0)
        + ((spec.mlp_matrices - 1) * held.mlp_width + spec.hidden_size if spec.mlp_bias else 0)
        + 2 * spec.norm_parameters()
        + (2 * head_dim if spec.qk_norm else 0)
    )
    once = spec.hidden_size * (held.vocab + spec.position_rows) + spec.norm_parameters()
    rest = (spec.num_layers * layer_rest + once) * wide
    ((head, _),) = precision.weights.of("lm_head", 1)
    if not spec.tied_embeddings:
        rest += precision.matrix_bytes(head, held.vocab, spec.hidden_size)
    return matrices + rest


def rotary_table_bytes(spec: DecoderSpec, precision: Precision) -> float:
    """Return the bytes of the table of cosines and sines that every rank keeps, for all layers."""
    rows, numbers = spec.rotary_table
    return rows * numbers * precision.activation_bytes
