"""Reads what a decoder is from a Hugging Face ``config.json``; ``model.spec`` finds it."""

from collections.abc import Mapping

from model.config_files import (
    AnyConfig,
    Gpt2Config,
    Llama4TextConfig,
    LlamaConfig,
    MixtralConfig,
    OptConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)
from model.errors import ConfigError
from model.huggingface import read_config
from model.lengths import longest_request, rotary_share, rotary_table_rows
from model.quantization.checkpoint import Checkpoint, read_checkpoint
from model.shape import DecoderSpec

Beside = Mapping[str, Mapping[str, object]]


def spec_from_config(
    config: Mapping[str, object],
    name: str,
    *,
    source: str | None = None,
    beside: Beside | None = None,
) -> DecoderSpec:
    """Read the contents of a Hugging Face ``config.json``.

    Args:
        config: the parsed file.
        name: what the model is called from here on.
        source: what error messages call the config; the name unless given.
        beside: contents of the files beside it that say how the weights are quantized
            (``model.quantization.checkpoint.BESIDE``), by name.

    Raises:
        UnknownArchitectureError: the architecture is not modelled, or not given.
        ConfigError: keys are missing, ill-typed or inconsistent; all of them are listed.
    """
    told = source or name
    architecture, file = read_config(config, told)
    try:
        checkpoint = read_checkpoint(
            config, beside or {}, architecture, _layers(file), getattr(file, "num_experts", 0)
        )
        if isinstance(file, Gpt2Config):
            return _gpt2(name, file, config, checkpoint)
        if isinstance(file, OptConfig):
            return _opt(name, file, config, checkpoint)
        return _llama_like(name, architecture, file, config, checkpoint)
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"{told}: {line}" for line in lines)) from None


def _layers(file: AnyConfig) -> int:
    return file.n_layer if isinstance(file, Gpt2Config) else file.num_hidden_layers


def _llama_like(
    name: str,
    architecture: str,
    file: LlamaConfig,
    config: Mapping[str, object],
    checkpoint: Checkpoint,
) -> DecoderSpec:
    positions = file.max_position_embeddings
    rotated = int(file.width_of_head * rotary_share(config))
    experts = chosen = expert_width = shared_width = 0
    if isinstance(file, MixtralConfig | Llama4TextConfig):
        experts, chosen = file.num_experts, file.num_experts_per_tok
        expert_width = file.intermediate_size
        if isinstance(file, Llama4TextConfig):
            shared_width = file.intermediate_size
    elif isinstance(file, Qwen2MoeConfig | Qwen3MoeConfig):
        experts, chosen = file.num_experts, file.num_experts_per_tok
        expert_width = file.moe_intermediate_size
        if isinstance(file, Qwen2MoeConfig):
            shared_width = file.shared_expert_intermediate_size
    return DecoderSpec(
        name=name,
        architecture=architecture,
        num_layers=file.num_hidden_layers,
        hidden_size=file.hidden_size,
        num_heads=file.num_attention_heads,
        num_kv_heads=file.kv_heads,
        head_dim=file.width_of_head,
        intermediate_size=0 if experts else file.intermediate_size,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.max_position_embeddings,
        gated_mlp=True,
        activation=file.hidden_act,
        norm="rmsnorm",
        norm_eps=file.rms_norm_eps,
        positions="rope",
        position_rows=0,
        rope_theta=file.theta,
        qkv_bias=file.has_qkv_bias,
        output_bias=file.has_output_bias,
        mlp_bias=file.mlp_bias,
        qk_norm=architecture in ("qwen3", "qwen3_moe"),
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=file.window,
        num_experts=experts,
        experts_per_token=chosen,
        moe_intermediate_size=expert_width,
        shared_expert_intermediate_size=shared_width,
        shared_expert_gate=isinstance(file, Qwen2MoeConfig),
        attention_chunk_tokens=getattr(file, "attention_chunk_size", None),
        max_model_len=longest_request(config, positions),
        rotary_table=(rotary_table_rows(config, positions), rotated),
        checkpoint=checkpoint,
    )


def _gpt2(
    name: str, file: Gpt2Config, config: Mapping[str, object], checkpoint: Checkpoint
) -> DecoderSpec:
    return DecoderSpec(
        name=name,
        architecture="gpt2",
        num_layers=file.n_layer,
        hidden_size=file.n_embd,
        num_heads=file.n_head,
        num_kv_heads=file.n_head,
        head_dim=file.n_embd // file.n_head,
        intermediate_size=file.n_inner or 4 * file.n_embd,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.n_positions,
        gated_mlp=False,
        activation=file.activation_function,
        norm="layernorm",
        norm_eps=file.layer_norm_epsilon,
        positions="learned",
        position_rows=file.n_positions,
        rope_theta=0.0,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        qk_norm=False,
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=None,
        max_model_len=longest_request(config, file.n_positions),
        checkpoint=checkpoint,
    )


def _opt(
    name: str, file: OptConfig, config: Mapping[str, object], checkpoint: Checkpoint
) -> DecoderSpec:
    return DecoderSpec(
        name=name,
        architecture="opt",
        num_layers=file.num_hidden_layers,
        hidden_size=file.hidden_size,
        num_heads=file.num_attention_heads,
        num_kv_heads=file.num_attention_heads,
        head_dim=file.hidden_size // file.num_attention_heads,
        intermediate_size=file.ffn_dim,
        vocab_size=file.vocab_size,
        max_position_embeddings=file.max_position_embeddings,
        gated_mlp=False,
        activation=file.activation_function,
        norm="layernorm",
        norm_eps=1e-5,
        positions="learned",
        # The first two rows are never used for text: position p is row p + 2.
        position_rows=file.max_position_embeddings + 2,
        rope_theta=0.0,
        qkv_bias=file.enable_bias,
        output_bias=file.enable_bias,
        mlp_bias=file.enable_bias,
        qk_norm=False,
        tied_embeddings=file.tie_word_embeddings,
        sliding_window=None,
        max_model_len=longest_request(config, file.max_position_embeddings),
        checkpoint=checkpoint,
    )
