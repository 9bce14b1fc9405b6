"""What one rank of a tensor-parallel group holds.

Megatron's split (Shoeybi et al. 2019, section 3): attention heads, MLP width and vocabulary are
divided; norms, routers and learned positions are repeated on every rank, and so are key and value
heads when there are fewer of them than ranks.
"""

from dataclasses import dataclass

from model.precision import Precision
from model.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class Shard:
    """What one tensor-parallel rank holds of a layer."""

    heads: int
    kv_heads: int
    mlp_width: int
    expert_width: int
    vocab: int


def tensor_parallel_sizes(spec: DecoderSpec, most: int = 64) -> tuple[int, ...]:
    """Return the group sizes that divide the model, at most ``most``.

    A size must divide the attention heads and every MLP width, and either divide the key and value
    heads or be a multiple of them (each rank then keeps a copy of one head).
    """
    return tuple(size for size in range(1, most + 1) if _divides(spec, size))


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

    The vocabulary is padded up to a multiple of ``tp``.

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
    return Shard(
        heads=spec.num_heads // tp,
        kv_heads=max(1, spec.num_kv_heads // tp),
        mlp_width=(spec.intermediate_size + spec.shared_expert_intermediate_size) // tp,
        expert_width=spec.moe_intermediate_size // tp,
        vocab=-(-spec.vocab_size // tp),
    )


def rank_weight_bytes(spec: DecoderSpec, *, precision: Precision, tp: int = 1) -> float:
    """Return the bytes of all weights that one rank keeps in memory.

    With one rank and one precision this is ``spec.parameters()`` times the bytes of a weight.

    Raises:
        ValueError: ``tp`` does not divide the model.
    """
    held, head_dim = shard(spec, tp), spec.head_dim
    qkv = (held.heads + 2 * held.kv_heads) * head_dim
    layer_matrices = (
        spec.hidden_size * (qkv + held.heads * head_dim)
        + spec.mlp_matrices * spec.hidden_size * held.mlp_width
        + spec.num_experts * spec.mlp_matrices * spec.hidden_size * held.expert_width
    )
    layer_rest = (
        spec.router_parameters()
        + (qkv if spec.qkv_bias else 0)
        + (spec.hidden_size if spec.output_bias else 0)
        + ((spec.mlp_matrices - 1) * held.mlp_width + spec.hidden_size if spec.mlp_bias else 0)
        + 2 * spec.norm_parameters()
        + (2 * head_dim if spec.qk_norm else 0)
    )
    vocab_tables = 1 if spec.tied_embeddings else 2
    once = spec.hidden_size * (vocab_tables * held.vocab + spec.position_rows)
    rest = spec.num_layers * layer_rest + spec.norm_parameters() + once
    return (
        spec.num_layers * layer_matrices * precision.weight_bytes
        + rest * precision.activation_bytes
    )
