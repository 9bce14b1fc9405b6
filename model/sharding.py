"""What one rank of a tensor-parallel group holds.

Megatron's split (Shoeybi et al. 2019, section 3): attention heads, MLP width and vocabulary are
divided; norms, routers and learned positions are repeated on every rank, and so are key and value
heads when there are fewer of them than ranks. Which side of a matrix is divided, and how, the
matrix says (``model.matrices``).
"""

from model.matrices import Matrix
from model.precision import Precision
from model.quantization.scheme import Scheme
from model.shape import DecoderSpec, Layers
from model.share import Share
from model.stages import Stage

VOCABULARY_PADDING = 64
"""vLLM pads the rows of embedding and LM head to a multiple of this (VocabParallelEmbedding)."""

SMALLEST_GROUP = 32
"""vLLM's kernel for 4-bit experts halves groups that a rank's share cuts, down to this."""


def tensor_parallel_sizes(
    spec: DecoderSpec, most: int = 64, precision: Precision | None = None
) -> tuple[int, ...]:
    """Return the group sizes that divide the model, at most ``most``.

    A size must divide the attention heads and every MLP width, and either divide the key and value
    heads or be a multiple of them (each rank then keeps a copy of one head). With a ``precision``
    it must divide the blocks and groups of quantized matrices as well.
    """
    sides = {side for kind in spec.layers for matrix in kind.matrices for side in matrix.sides}
    most = min([most, *(side.count for side in sides if not side.copied)])
    sizes = (size for size in range(1, most + 1) if all(side.divides(size) for side in sides))
    return tuple(n for n in sizes if precision is None or not cut_scales(spec, precision, n))


def _all_sizes(spec: DecoderSpec, precision: Precision | None = None) -> tuple[int, ...]:
    return tensor_parallel_sizes(spec, spec.hidden_size * spec.vocab_size, precision)


def check_divides(spec: DecoderSpec, tp: int) -> None:
    """Refuse a group whose ranks cannot share the model.

    Raises:
        ValueError: ``tp`` does not divide the model; names the nearest size that does.
    """
    if tp >= 1 and all(
        side.divides(tp) for kind in spec.layers for m in kind.matrices for side in m.sides
    ):
        return
    sizes = _all_sizes(spec)
    closest = min(sizes, key=lambda size: abs(size - tp))
    told = (part for kind in spec.layers for part in (kind.mixer.told, kind.mlp.told))
    parts = dict.fromkeys(part for part in told if part)
    raise ValueError(
        f"tensor_parallel_size = {tp} does not divide {spec.name} ({', '.join(parts)}), "
        f"expected one of {', '.join(map(str, sizes))}; nearest: {closest}"
    )


def rank_vocabulary(spec: DecoderSpec, tp: int) -> int:
    """Return the rows of the vocabulary of one of ``tp`` ranks.

    The vocabulary is padded up to a multiple of `VOCABULARY_PADDING`, then of ``tp``.
    """
    vocabulary = -(-spec.vocab_size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    return -(-vocabulary // tp)


def shares(spec: DecoderSpec, precision: Precision, tp: int) -> list[tuple[Layers, Share]]:
    """Return every kind of layers with what one of ``tp`` ranks holds of them.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    check_divides(spec, tp)
    return [(kind, Share(kind.places, precision, tp)) for kind in spec.layers]


def cut_scales(spec: DecoderSpec, precision: Precision, tp: int) -> str:
    """Return which matrix's blocks or groups ``tp`` ranks would cut; an empty text for none.

    As in vLLM: the inputs of a rank must be whole blocks or groups. With blocks of several rows so
    must the outputs of every joined part, but for the last of a matrix that is not split. Groups of
    experts may be halved down to `SMALLEST_GROUP`.
    """
    if not precision.weights.parts:
        return ""
    for kind, share in shares(spec, precision, tp):
        for matrix in kind.matrices:
            for scheme, _ in share.schemes(matrix):
                if scheme is not None and not scheme.flat:
                    cut = _cut(matrix, scheme, tp)
                    if cut:
                        return f"{matrix.name}: {cut}"
    return ""


def _cut(matrix: Matrix, scheme: Scheme, tp: int) -> str:
    rows, columns = scheme.block
    inputs = matrix.inputs.on_rank(tp)
    split = inputs != matrix.inputs.whole
    if matrix.copies > 1 and scheme.filled_up:
        return ""
    if matrix.copies > 1 and rows <= 1 and columns:
        columns = min(columns, SMALLEST_GROUP)
    if columns > 1 and split and inputs % columns:
        return f"{inputs} inputs a rank, groups of {columns}"
    divided = any(side.on_rank(tp) != side.whole for side in matrix.outputs)
    for side in matrix.outputs if divided else matrix.outputs[:-1]:
        if rows > 1 and side.on_rank(tp) % rows:
            return f"{side.on_rank(tp)} outputs a rank, blocks of {rows}"
    return ""


def check_scales(spec: DecoderSpec, precision: Precision, tp: int) -> None:
    """Raise ValueError if ``tp`` ranks would cut the blocks or groups of quantized matrices."""
    cut = cut_scales(spec, precision, tp)
    if cut:
        sizes = _all_sizes(spec, precision)
        expected = f"expected one of {', '.join(map(str, sizes))}" if sizes else "no size does"
        raise ValueError(
            f"tensor_parallel_size = {tp} does not divide the scales of {spec.name} "
            f"({precision.weights}): {cut}; {expected}"
        )


def rank_weight_bytes(spec: DecoderSpec, *, precision: Precision, tp: int = 1) -> float:
    """Return the bytes of all weights that one rank keeps in memory.

    With one rank and one precision this is ``spec.parameters()`` times the bytes of a weight, and
    what the padding of the vocabulary adds. Encoders are not among them (``encoder_bytes``).

    Raises:
        ValueError: ``tp`` does not divide the model, or the scales of its quantized matrices.
    """
    return stage_weight_bytes(Stage(spec), precision=precision, tp=tp)


def stage_weight_bytes(stage: Stage, *, precision: Precision, tp: int = 1) -> float:
    """Return the same of one pipeline stage, of which each has ``tp`` ranks.

    Raises:
        ValueError: see ``rank_weight_bytes``.
    """
    spec = stage.spec
    check_scales(spec, precision, tp)
    matrices, vectors = 0.0, 0
    for kind, share in shares(spec, precision, tp):
        for matrix in kind.matrices:
            matrices += _matrix_bytes(matrix, share)
        vectors += kind.count * kind.vector_numbers(tp)
    held, once = rank_vocabulary(spec, tp), 0
    if stage.embeds or (stage.predicts and spec.head.tied):
        once += spec.hidden_size * held
    if stage.embeds:
        once += spec.hidden_size * spec.embedding.position_rows + spec.embedding.norm_parameters
        once += spec.once.on_rank(tp)
    if stage.predicts:
        once += spec.head.norm.parameters + (held if spec.head.logit_bias else 0)
    rest = (vectors + once) * precision.activation_bytes
    ((head, _),) = precision.weights.of("lm_head", (0,))
    if stage.predicts and not spec.head.tied:
        rest += precision.matrix_bytes(head, held, spec.hidden_size)
    return matrices + rest


def _matrix_bytes(matrix: Matrix, share: Share) -> float:
    """Bytes of all copies of a matrix in all layers; every joined part has scales of its own."""
    k, total = matrix.inputs.on_rank(share.tp), 0.0
    for scheme, layers in share.schemes(matrix):
        for side in matrix.outputs:
            n, whole = side.on_rank(share.tp), matrix.inputs.whole
            held = k
            if scheme is not None and matrix.copies > 1:
                of_n, of_k = scheme.tiles if len(matrix.outputs) > 1 else scheme.tiles[::-1]
                n, held = scheme.part(n, side.whole, of_n), scheme.part(k, whole, of_k)
            one = share.precision.matrix_bytes(scheme, n, held, whole)
            total += layers * matrix.copies * one
    return total


def unpacked_bytes(spec: DecoderSpec, *, precision: Precision, tp: int = 1) -> float:
    """Return the bytes of the copies that one rank keeps of quantized matrices, unpacked."""
    numbers = 0
    for kind, share in shares(spec, precision, tp):
        for matrix in kind.matrices:
            if matrix.unpacked:
                layers = sum(n for scheme, n in share.schemes(matrix) if scheme is not None)
                outputs = sum(side.on_rank(tp) for side in matrix.outputs)
                numbers += layers * outputs * matrix.inputs.on_rank(tp)
    return numbers * precision.activation_bytes


def reordered_scales_bytes(
    spec: DecoderSpec, *, precision: Precision, tp: int = 1, stored_too: bool
) -> float:
    """Return the bytes that one rank keeps of experts' scales in the order of their kernel beyond
    those that were stored, and of their biases, which it keeps in float32.

    Outputs are filled up to multiples of 256, groups to pairs (``HopperMXScaleLayout`` of Triton).

    Args:
        spec: of the stage.
        precision: with schemes whose scales are ``reordered``.
        tp: ranks.
        stored_too: whether an engine keeps the scales as they were stored beside them.
    """
    total = 0.0
    for kind, share in shares(spec, precision, tp):
        for matrix in kind.matrices:
            for scheme, layers in share.schemes(matrix):
                if scheme is None or not scheme.reordered or matrix.copies == 1:
                    continue
                tile = scheme.tiles[0] if len(matrix.outputs) > 1 else scheme.tiles[1]
                sides = ((side.on_rank(tp), side.whole) for side in matrix.outputs)
                outputs = sum(scheme.part(size, whole, tile) for size, whole in sides)
                groups = -(-matrix.inputs.on_rank(tp) // 32)
                scales = -(-outputs // 256) * 256 * -(-groups // 2) * 2
                more = (scales - (0 if stored_too else outputs * groups)) * scheme.scale_bits / 8
                wider = matrix.bias_numbers(tp) * (4 - precision.activation_bytes)
                total += layers * matrix.copies * (more + wider)
    return total


def encoder_bytes(spec: DecoderSpec, precision: Precision, tp: int = 1) -> float:
    """Return the bytes of the encoders that one rank keeps beside its part of the decoder.

    They are divided like it, as vLLM does unless told otherwise (``mm_encoder_tp_mode: weights``).
    """
    return -(-spec.encoder_parameters // tp) * precision.activation_bytes


def rotary_table_bytes(spec: DecoderSpec, precision: Precision) -> float:
    """Return the bytes of the tables of cosines and sines that every rank keeps, for all layers."""
    numbers = sum(each.table_rows * each.table_numbers for each in spec.rotary_tables)
    return numbers * precision.activation_bytes
