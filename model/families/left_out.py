"""What a file means that leaves a key out, where no family's own default says it.

Values are those of the configuration classes in ``transformers`` 5.23, which engines read the file
with. They stand here where a missing key would otherwise read as another model, such as a mixture
without its experts; a shape that is not here and is missing is an error.
"""

from collections.abc import Mapping

_LATENT = {"n_shared_experts": 1, "q_lora_rank": 1536}
LEFT_OUT: Mapping[str, Mapping[str, object]] = {
    "afmoe": {"num_shared_experts": 2},
    "axk1": {"n_routed_experts": 192, **_LATENT},
    "bailing_hybrid": {"num_experts": 512, "num_shared_experts": 1},
    "bamba": {"num_key_value_heads": 8},
    "cwm": {"num_key_value_heads": 8},
    "deepseek_v2": {"n_routed_experts": 64, "n_shared_experts": 2, "q_lora_rank": 1536},
    "deepseek_v3": {"n_routed_experts": 256, "first_k_dense_replace": 3, **_LATENT},
    "deepseek_v32": {"n_routed_experts": 256, "n_shared_experts": 1},
    "dots1": {"num_key_value_heads": 32, "moe_intermediate_size": 1408},
    "ernie4_5": {"num_key_value_heads": 2},
    "ernie4_5_moe": {
        "num_key_value_heads": 4, "moe_num_experts": 64, "moe_intermediate_size": 1536,
    },
    "ernie4_5_vl_moe_text": {"num_key_value_heads": 4},
    "exaone_moe": {"num_key_value_heads": 32, "num_shared_experts": 1},
    "falcon_h1": {"num_key_value_heads": 8},
    "gemma": {"num_key_value_heads": 16},
    "gemma2": {"num_key_value_heads": 4},
    "gemma4_text": {"vocab_size": 262144},
    "gemma4_unified_text": {
        "vocab_size": 262144, "hidden_size_per_layer_input": 0, "sliding_window": 1024,
    },
    "glm": {"num_key_value_heads": 2},
    "glm4": {"num_key_value_heads": 2},
    "glm4_moe": {
        "num_key_value_heads": 8, "n_routed_experts": 128, "n_shared_experts": 1,
        "moe_intermediate_size": 1408,
    },
    "glm4_moe_lite": {"n_routed_experts": 64, "n_shared_experts": 1, "q_lora_rank": 768},
    "glm4v_moe_text": {
        "num_key_value_heads": 8, "n_routed_experts": 128, "n_shared_experts": 1,
        "moe_intermediate_size": 1408,
    },
    "glm4v_text": {"num_key_value_heads": 2},
    "glm_moe_dsa": {"n_routed_experts": 256, "n_shared_experts": 1},
    "glm_ocr_text": {"num_key_value_heads": 8},
    "gpt_oss": {"num_key_value_heads": 8},
    "granite_swa": {"num_key_value_heads": 4},
    "granitemoehybrid": {"num_local_experts": 8},
    "helium": {"num_key_value_heads": 20},
    "hunyuan_v1_moe": {"num_experts": 1},
    "hy_v3": {"num_key_value_heads": 8, "num_experts": 192, "moe_intermediate_size": 1536},
    "iquestcoder": {"num_key_value_heads": 8},
    "internlm3": {"num_key_value_heads": 2},
    "jamba": {"num_key_value_heads": 8},
    "kimi_linear": {"num_experts": 256, "num_shared_experts": 1, "linear_num_heads": 32},
    "laguna": {"num_key_value_heads": 8, "shared_expert_intermediate_size": 512},
    "lfm2": {"num_key_value_heads": 8},
    "lfm2_moe": {"num_key_value_heads": 8},
    "mellum": {"num_key_value_heads": 4},
    "mimo_v2_flash": {"num_key_value_heads": 4, "n_routed_experts": 256},
    "minicpm3": {"q_lora_rank": 768},
    "minimax": {"num_key_value_heads": 8},
    "minimax_m2": {"num_key_value_heads": 8, "num_local_experts": 256, "head_dim": 128},
    "minimax_m3_vl_text": {"num_key_value_heads": 4, "head_dim": 128},
    "ministral3": {"num_key_value_heads": 8},
    "mistral4": {"n_routed_experts": 128, "n_shared_experts": 1, "q_lora_rank": 1024},
    "muse_glimmer_text": {"num_key_value_heads": 2},
    "nemotron_h": {"num_key_value_heads": 8, "moe_shared_expert_intermediate_size": 7688},
    "paddleocr_vl_text": {"num_key_value_heads": 2},
    "phimoe": {"num_key_value_heads": 8},
    "qwen3_5_moe_text": {
        "num_key_value_heads": 2, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    },
    "qwen3_5_text": {"num_key_value_heads": 4},
    "qwen3_next": {
        "num_key_value_heads": 2, "intermediate_size": 5632, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    },
    "seed_oss": {"num_key_value_heads": 8},
    "smollm3": {"num_key_value_heads": 4},
    "solar_open": {"num_key_value_heads": 8, "n_routed_experts": 128, "n_shared_experts": 1},
    "stablelm": {"num_key_value_heads": 32},
    "starcoder2": {"num_key_value_heads": 2},
    "youtu": {"q_lora_rank": 1536},
}  # fmt: skip
"""By ``model_type``."""


def filled(model_type: str, config: Mapping[str, object]) -> Mapping[str, object]:
    """Return a file with what its type means by the keys that it leaves out.

    A key that is there says what it says, also null.
    """
    usual = LEFT_OUT.get(model_type)
    return {**usual, **config} if usual else config
