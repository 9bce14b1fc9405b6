"""Parameters of small configs of families with other mixers, against transformers' own code."""

from typing import Any

import pytest

from model.families.registry import FAMILIES
from model.from_config import spec_from_config

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 50,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
QK = {"head_dim": 16}
ROUTED = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
LATENT = {
    "num_key_value_heads": 8,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "q_lora_rank": 32,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
INDEX = {"index_n_heads": 4, "index_head_dim": 16, "index_topk": 8}
DELTA = {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
}
SHARED = {**ROUTED, "shared_expert_intermediate_size": 32}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_state": 16, "mamba_n_groups": 2, "mamba_d_head": 16}
KINDS = ["mamba", "attention", "mamba", "mamba", "attention", "mamba"]
GRANITE = {
    **MAMBA2,
    "layer_types": ["linear_attention", "full_attention"] * 3,
    "shared_intermediate_size": 96,
}
NEMOTRON = {
    "head_dim": 16,
    "mamba_num_heads": 8,
    "mamba_head_dim": 12,
    "ssm_state_size": 16,
    "n_groups": 2,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "moe_shared_expert_intermediate_size": 40,
    "layers_block_type": ["mamba", "moe", "mamba", "attention", "mlp", "moe"],
}
V4 = {
    "intermediate_size": 48,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "qk_rope_head_dim": 8,
    "q_lora_rank": 32,
    "o_lora_rank": 12,
    "o_groups": 4,
    "index_n_heads": 4,
    "index_head_dim": 8,
    "index_topk": 4,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "compress_ratios": [0, 0, 4, 128, 4, 128, 0],
    "num_hash_layers": 1,
}
LFM2 = {"layer_types": ["conv", "full_attention"] * 3}

DENSE = {
    "num_key_value_heads": 8,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "q_lora_rank": None,
}
STATE = {"state_size": 16, "expand": 2}
KDA = {
    **{key: value for key, value in LATENT.items() if key != "q_lora_rank"},
    "linear_head_dim": 8,
    "linear_num_heads": 8,
    "num_experts": 6,
}
INPUTS = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 101}
WINDOWS = ["sliding_attention", "sliding_attention", "full_attention"] * 2

CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "deepseek_v2": (LATENT, {**LATENT, "q_lora_rank": None, "n_shared_experts": 2}),
    "deepseek_v3": (LATENT, {**LATENT, "attention_bias": True, "first_k_dense_replace": 3}),
    "glm4_moe_lite": (LATENT, {**LATENT, "mlp_layer_types": ["dense", "dense"] + ["sparse"] * 4}),
    "deepseek_v32": ({**LATENT, **INDEX},),
    "glm_moe_dsa": (
        {**LATENT, **INDEX},
        {**LATENT, **INDEX, "indexer_types": ["full", "shared", "shared"] * 2},
    ),
    "deepseek_v4": (V4, {**V4, "compress_ratios": None, "hc_mult": 2}),
    "gpt_oss": ({**QK, "num_local_experts": 6, "num_experts_per_tok": 2},),
    "gemma2": (QK,),
    "gemma3_text": (QK, {**QK, "tie_word_embeddings": False}),
    "cohere2": ({}, {"tie_word_embeddings": False, "attention_bias": True}),
    "cohere2_moe": (
        {**QK, "num_experts": 6, "num_experts_per_tok": 2},
        {
            **QK,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "num_shared_experts": 2,
            "first_k_dense_replace": 2,
            "prefix_dense_intermediate_size": 96,
            "rms_norm_eps": 1e-6,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "granite_swa": ({}, {"attention_bias": True, "mlp_bias": True}),
    "granitemoe_swa": (
        {"num_local_experts": 6},
        {"num_local_experts": 6, "shared_intermediate_size": 96, "attention_bias": True},
    ),
    "olmo3": ({}, {"attention_bias": True}),
    "exaone4": ({}, {"sliding_window": None, "layer_types": ["full_attention"] * 6}),
    "qwen3_next": ({**DELTA, **SHARED}, {**DELTA, **SHARED, "mlp_only_layers": [1]}),
    "qwen3_5_text": (DELTA,),
    "qwen3_5_moe_text": ({**DELTA, **SHARED},),
    "nemotron_h": (
        NEMOTRON,
        {**NEMOTRON, "moe_latent_size": 24, "use_bias": True},
        {**NEMOTRON, "attention_bias": True, "tie_word_embeddings": True},
    ),
    "bamba": ({**MAMBA2, "attn_layer_indices": [1, 4]},),
    "granitemoehybrid": (
        {**GRANITE, "num_local_experts": 6, "num_experts_per_tok": 2},
        {**GRANITE, "num_local_experts": 0, "tie_word_embeddings": True},
    ),
    "falcon_h1": (
        {**MAMBA2, "mamba_d_ssm": 128},
        {**MAMBA2, "mamba_d_ssm": 128, "mamba_rms_norm": True, "projectors_bias": True},
    ),
    "jamba": ({"attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 4},),
    "lfm2": (LFM2, {**LFM2, "conv_bias": True, "block_auto_adjust_ff_dim": False}),
    "lfm2_moe": ({**LFM2, **ROUTED},),
    "minicpm3": (DENSE, {**DENSE, "v_head_dim": None, "mlp_bias": True}),
    "youtu": ({**DENSE, "q_lora_rank": 24},),
    "axk1": ({**LATENT, "first_k_dense_replace": 2},),
    "mistral4": ({**LATENT, "first_k_dense_replace": 0},),
    "olmo_hybrid": ({}, {"linear_key_head_dim": 8, "linear_num_value_heads": 16}),
    "mamba": (STATE, {**STATE, "use_bias": True, "time_step_rank": 6}),
    "falcon_mamba": ({**STATE, "tie_word_embeddings": False},),
    "mamba2": ({**STATE, "num_heads": 8, "head_dim": 16, "n_groups": 2},),
    "kimi_linear": (
        {**KDA, "layer_types": ["linear_attention", "full_attention"] * 3},
        {**KDA, "q_lora_rank": 32, "mlp_layer_types": ["dense", "dense"] + ["sparse"] * 4},
        {**KDA, "tie_word_embeddings": True},
    ),
    "bailing_hybrid": (
        {**KDA, "first_k_dense_replace": 2, "layer_group_size": 3, "head_dim": 16},
        {**KDA, "head_dim": 16, "short_conv_kernel_size": 3, "tie_word_embeddings": True},
    ),
    "minimax_m3_vl_text": (
        {
            **QK,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "dense_intermediate_size": 96,
            "shared_intermediate_size": 48,
            "index_n_heads": 2,
            "index_head_dim": 8,
            "layer_types": ["full_attention", "full_attention"] + ["minimax_m3_sparse"] * 4,
            "mlp_layer_types": ["dense", "dense"] + ["sparse"] * 4,
        },
    ),
    "gemma3n_text": (
        {**QK, **INPUTS, "num_kv_shared_layers": 1, "layer_types": WINDOWS, "laurel_rank": 4},
        {**QK, **INPUTS, "num_kv_shared_layers": 0, "intermediate_size": [96, 160] * 3},
    ),
    "gemma4_text": (
        {**QK, **INPUTS, "num_kv_shared_layers": 2, "layer_types": WINDOWS, "global_head_dim": 32},
        {
            **QK,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "enable_moe_block": True,
            "num_experts": 6,
            "top_k_experts": 2,
            "moe_intermediate_size": 48,
        },
        {
            **QK,
            **INPUTS,
            "num_kv_shared_layers": 2,
            "layer_types": WINDOWS,
            "use_double_wide_mlp": True,
        },
        {**QK, **INPUTS, "num_kv_shared_layers": 2, "layer_types": WINDOWS, "global_head_dim": 16},
    ),
    "laguna": (
        {**QK, **SHARED, "num_attention_heads_per_layer": [8, 4, 4] * 2, "layer_types": WINDOWS},
        {**QK, **SHARED, "gating": "per-element", "mlp_layer_types": ["sparse"] * 6},
        {**QK, **SHARED, "attention_bias": True},
    ),
    "mellum": ({**QK, **ROUTED, "layer_types": WINDOWS},),
    "afmoe": (
        {**QK, **ROUTED, "num_shared_experts": 1, "num_dense_layers": 2},
        {**QK, **ROUTED, "attention_bias": True},
    ),
    "exaone_moe": ({**QK, **ROUTED, "num_shared_experts": 1},),
    "mimo_v2_flash": (
        {**QK, **ROUTED, "v_head_dim": 12, "n_routed_experts": 6},
        {**QK, **ROUTED, "v_head_dim": 12, "n_routed_experts": 6, "layer_types": WINDOWS},
    ),
    "minimax": ({"num_local_experts": 6, "num_experts_per_tok": 2, **QK},),
}
EACH = [(name, i) for name, settings in CASES.items() for i in range(len(settings))]


@pytest.mark.parametrize(("name", "which"), EACH)
def test_parameters_equal_those_of_transformers(name: str, which: int) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    told = {**SMALL, **CASES[name][which]}
    config = transformers.AutoConfig.for_model(name, **told)
    own = getattr(transformers, FAMILIES[name].class_name, None)
    with torch.device("meta"):
        model = own(config) if own else transformers.AutoModelForCausalLM.from_config(config)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert spec_from_config({"model_type": name, **told}, "tiny").parameters() == expected
    # The file that transformers itself would write says the same.
    saved = {**config.to_dict(), "architectures": [FAMILIES[name].class_name]}
    assert spec_from_config(saved, "tiny").parameters() == expected
