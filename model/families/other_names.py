"""Other names that files may give a key by, where the family's configuration class knows them.

Those of ``attribute_map`` and ``__post_init__`` in ``transformers`` 5.23, which engines read the
file with: a ``deepseek_v3`` whose file says ``num_local_experts`` has so many ``n_routed_experts``.
A name that the class does not know is not read, as there: it then means what the type means by the
missing key.
"""

from collections.abc import Mapping

from model.errors import ConfigError

_ROUTED = {"num_local_experts": "n_routed_experts"}
_LOCAL = {"num_local_experts": "num_experts"}
_EXPERTS = {"num_experts": "num_local_experts"}
_ERNIE = {"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"}
_N_EMBD = {
    "hidden_size": "n_embd", "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
}  # fmt: skip
_D_MODEL = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
}
_KIMI = {
    "max_position_embeddings": "model_max_length", "n_shared_experts": "num_shared_experts",
    "num_experts_per_tok": "num_experts_per_token", **_LOCAL,
}  # fmt: skip
OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "axk1": _ROUTED,
    "bailing_hybrid": _KIMI,
    "bamba": {"layer_types": "layers_block_type"},
    "bloom": {"num_attention_heads": "n_head", "num_hidden_layers": "n_layer"},
    "codegen": _N_EMBD,
    "dbrx": {**_D_MODEL, "max_position_embeddings": "max_seq_len"},
    "deepseek_v2": {"num_experts": "n_routed_experts"},
    "deepseek_v3": _ROUTED,
    "deepseek_v32": {**_ROUTED, "num_experts": "n_routed_experts"},
    "deepseek_v4": {**_ROUTED, "intermediate_size": "moe_intermediate_size"},
    "dots1": _ROUTED,
    "ernie4_5_moe": _ERNIE,
    "ernie4_5_vl_moe_text": _ERNIE,
    "falcon_h1": {"layer_types": "layers_block_type"},
    "flex_olmo": _LOCAL,
    "glm4_moe": _ROUTED,
    "glm4_moe_lite": {**_ROUTED, "head_dim": "qk_rope_head_dim"},
    "glm4v_moe_text": _ROUTED,
    "glm_moe_dsa": {**_ROUTED, "num_experts": "n_routed_experts"},
    "gpt2": _N_EMBD,
    "gpt_bigcode": _N_EMBD,
    "gpt_oss": _EXPERTS,
    "gptj": _N_EMBD,
    "granitemoehybrid": {"layers_block_type": "layer_types"},
    "hunyuan_v1_moe": {**_LOCAL, "num_experts_per_tok": "moe_topk"},
    "hunyuan_vl_text": {"attention_head_dim": "head_dim", "org_vocab_size": "vocab_size"},
    "hy_v3": _LOCAL,
    "internlm3": {"bias": "mlp_bias", "qkv_bias": "attention_bias"},
    "jamba": _LOCAL,
    "kimi_linear": _KIMI,
    "mellum": _EXPERTS,
    "mimo_v2_flash": _ROUTED,
    "minimax": _EXPERTS,
    "minimax_m2": _EXPERTS,
    "minimax_m3_vl_text": _EXPERTS,
    "mistral4": _ROUTED,
    "mixtral": _EXPERTS,
    "mpt": _D_MODEL,
    "nemotron_h": {**_ROUTED, "layer_types": "layers_block_type"},
    "olmoe": _LOCAL,
    "qwen3_moe": _EXPERTS,
    "qwen3_vl_moe_text": _EXPERTS,
    "solar_open": _ROUTED,
    "step3p5": {
        **_ROUTED, "moe_num_experts": "n_routed_experts", "moe_top_k": "num_experts_per_tok",
        "num_attention_groups": "num_key_value_heads", "share_expert_dims": "share_expert_dim",
    },
}  # fmt: skip
"""By ``model_type``: the key that the family reads, by another name of it."""


def renamed(model_type: str, config: Mapping[str, object], source: str) -> Mapping[str, object]:
    """Return a file with every key under the name that its family reads.

    Args:
        model_type: whose names.
        config: the file.
        source: what messages call it.

    Raises:
        ConfigError: a key and another name of it, with different values.
    """
    given = dict(config)
    for other, key in OTHER_NAMES.get(model_type, {}).items():
        value = given.pop(other, None)
        if value is None:
            continue
        beside = given.get(key)
        if beside is not None and beside != value:
            raise ConfigError(
                f"{source}: {other} = {str(value)[:80]} and {key} = {str(beside)[:80]}: two names "
                f"of one key for model_type {model_type}, expected one of them"
            )
        given[key] = value
    return given
