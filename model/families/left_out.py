"""What a file means that leaves a key out, where no family's own default says it.

Values are those of the configuration classes in ``transformers`` 5.23, which engines read the file
with. They stand here where a missing key would otherwise read as another model, such as a mixture
without its experts; a shape that is not here and is missing is an error.
"""

from collections.abc import Mapping

_ROUTED = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
_ALSO = {key: names for names in (_ROUTED, _SHARED) for key in names}
"""Names of one thing: a file that has one of them leaves none out."""

_LATENT = {"n_shared_experts": 1, "q_lora_rank": 1536}
LEFT_OUT: Mapping[str, Mapping[str, object]] = {
    "afmoe": {"num_shared_experts": 2},
    "axk1": {"n_routed_experts": 192, **_LATENT},
    "bailing_hybrid": {"num_experts": 512, "num_shared_experts": 1},
    "deepseek_v2": {"n_routed_experts": 64, "n_shared_experts": 2, "q_lora_rank": 1536},
    "deepseek_v3": {"n_routed_experts": 256, "first_k_dense_replace": 3, **_LATENT},
    "deepseek_v32": {"n_routed_experts": 256, "n_shared_experts": 1},
    "dots1": {"num_key_value_heads": 32, "moe_intermediate_size": 1408},
    "ernie4_5": {"num_key_value_heads": 2},
    "ernie4_5_moe": {
        "num_key_value_heads": 4, "moe_num_experts": 64, "moe_intermediate_size": 1536,
    },
    "exaone_moe": {"num_shared_experts": 1},
    "gemma": {"num_key_value_heads": 16},
    "gemma2": {"num_key_value_heads": 4},
    "gemma4_unified_text": {"hidden_size_per_layer_input": 0, "sliding_window": 1024},
    "glm": {"num_key_value_heads": 2},
    "glm4": {"num_key_value_heads": 2},
    "glm4_moe": {"n_routed_experts": 128, "n_shared_experts": 1, "moe_intermediate_size": 1408},
    "glm4_moe_lite": {"n_routed_experts": 64, "n_shared_experts": 1, "q_lora_rank": 768},
    "glm4v_moe_text": {
        "num_key_value_heads": 8, "n_routed_experts": 128, "n_shared_experts": 1,
        "moe_intermediate_size": 1408,
    },
    "glm_moe_dsa": {"n_routed_experts": 256, "n_shared_experts": 1},
    "granitemoehybrid": {"num_local_experts": 8},
    "hunyuan_v1_moe": {"num_experts": 1},
    "hy_v3": {"num_experts": 192, "moe_intermediate_size": 1536},
    "internlm3": {"num_key_value_heads": 2},
    "kimi_linear": {"num_experts": 256, "num_shared_experts": 1},
    "laguna": {"shared_expert_intermediate_size": 512},
    "minicpm3": {"q_lora_rank": 768},
    "minimax_m2": {"num_local_experts": 256, "head_dim": 128},
    "minimax_m3_vl_text": {"head_dim": 128},
    "mistral4": {"n_routed_experts": 128, "n_shared_experts": 1, "q_lora_rank": 1024},
    "muse_glimmer_text": {"num_key_value_heads": 2},
    "nemotron_h": {"moe_shared_expert_intermediate_size": 7688},
    "qwen3_5_moe_text": {"num_key_value_heads": 2},
    "qwen3_5_text": {"num_key_value_heads": 4},
    "qwen3_next": {"num_key_value_heads": 2},
    "smollm3": {"num_key_value_heads": 4},
    "solar_open": {"n_routed_experts": 128, "n_shared_experts": 1},
    "stablelm": {"num_key_value_heads": 32},
    "youtu": {"q_lora_rank": 1536},
}  # fmt: skip
"""By ``model_type``."""


def filled(model_type: str, config: Mapping[str, object]) -> Mapping[str, object]:
    """Return a file with what its type means by the keys that it leaves out.

    A key that is there says what it says, also null.
    """
    usual = LEFT_OUT.get(model_type, {})
    absent = {
        key: value
        for key, value in usual.items()
        if not any(name in config for name in _ALSO.get(key, (key,)))
    }
    return {**absent, **config} if absent else config
