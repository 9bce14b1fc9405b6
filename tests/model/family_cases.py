"""Config files of the families, with what is known of their parameters."""

from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 50,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


GPT = {"n_embd": 64, "n_head": 8, "n_layer": 3, "n_positions": 50, "vocab_size": 101}
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 48}


DEEPSEEK = {**ROUTED, "n_routed_experts": 6, "n_shared_experts": 2, "first_k_dense_replace": 1}
QK = {"head_dim": 16}


CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "seed_oss": ({}, {"attention_out_bias": True, "mlp_bias": True}, {"head_dim": 16}),
    "cohere": ({}, {"use_qk_norm": True, "attention_bias": True}),
    "smollm3": ({}, {"no_rope_layer_interval": 2}, {"attention_bias": True, "mlp_bias": True}),
    "granite": ({}, {"attention_bias": True, "mlp_bias": True}),
    "ministral3": ({}, {"head_dim": 16, "tie_word_embeddings": True}),
    "ernie4_5": ({}, {"use_bias": True, "head_dim": 16}),
    "hunyuan_v1_dense": (QK, {"attention_bias": True, "head_dim": 16}),
    "gemma": ({}, {"head_dim": 16, "attention_bias": True}),
    "glm": ({}, {"attention_bias": False, "head_dim": 16}),
    "glm4": ({}, {"attention_bias": True, "head_dim": 16}),
    "olmo": ({}, {"attention_bias": True, "clip_qkv": 8.0}),
    "olmo2": ({}, {"attention_bias": True}),
    "stablelm": (
        {},
        {"use_qkv_bias": True, "use_parallel_residual": True, "qk_layernorm": True},
    ),
    "starcoder2": ({}, {"use_bias": False, "tie_word_embeddings": False}),
    "nemotron": ({}, {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "arcee": ({}, {"mlp_bias": True, "attention_bias": True}),
    "apertus": ({}, {"attention_bias": True}),
    "phi": ({}, {"qk_layernorm": True}),
    "persimmon": ({}, {"qk_layernorm": False}),
    "gpt_neox": ({}, {"attention_bias": False, "use_parallel_residual": False}),
    "internlm3": ({}, {"qkv_bias": True, "bias": True, "head_dim": 16}),
    "falcon": (
        {},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
        {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "num_kv_heads": 2},
        {"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
        {"multi_query": True, "ffn_hidden_size": 96, "tie_word_embeddings": False},
    ),
    "gptj": ({**GPT, "rotary_dim": 4}, {**GPT, "n_inner": 96, "num_key_value_heads": 2}),
    "codegen": ({**GPT, "rotary_dim": 4},),
    "gpt_bigcode": (GPT, {**GPT, "multi_query": False, "n_inner": 96}),
    "bloom": ({"hidden_size": 64, "n_head": 8, "n_layer": 3, "vocab_size": 101},),
    "mpt": ({"d_model": 64, "n_heads": 8, "n_layers": 3, "max_seq_len": 50, "vocab_size": 101},),
    "dbrx": (
        {
            "d_model": 64,
            "n_heads": 8,
            "n_layers": 3,
            "max_seq_len": 50,
            "vocab_size": 101,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 5e5},
            "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 2},
        },
    ),
    "dots1": ({**DEEPSEEK, **QK}, {**DEEPSEEK, "attention_bias": True}),
    "glm4_moe": ({**DEEPSEEK, **QK}, {**DEEPSEEK, "use_qk_norm": True, "attention_bias": True}),
    "ernie4_5_moe": (
        {"moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 48},
        {
            "moe_num_experts": 6,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 2,
            "moe_layer_interval": 2,
            "use_bias": True,
            "moe_intermediate_size": 48,
        },
    ),
    "hunyuan_v1_moe": (
        {"num_experts": 6, "moe_topk": 2, "head_dim": 16},
        {"num_experts": 6, "moe_topk": 2, "attention_bias": True, **QK},
    ),
    "hy_v3": (
        {**ROUTED, "num_experts": 6, "num_shared_experts": 2, **QK},
        {**ROUTED, "num_experts": 6, "mlp_layer_types": ["sparse"] * 3 + ["dense"], **QK},
    ),
    "solar_open": (
        {**ROUTED, "n_routed_experts": 6, "n_shared_experts": 1, **QK},
        {**ROUTED, "n_routed_experts": 6, "n_shared_experts": 1, **QK, "attention_bias": True},
    ),
    "jais2": ({**QK}, {"attention_bias": False, "mlp_bias": False, **QK}),
    "cwm": (
        {**QK, "layer_types": ["full_attention"] + ["sliding_attention"] * 3},
        {**QK, "layer_types": ["full_attention"] * 4, "mlp_bias": True},
    ),
    "helium": ({"head_dim": 8}, {"head_dim": 8, "tie_word_embeddings": True}),
    "iquestcoder": (QK, {**QK, "attention_bias": True, "mlp_bias": True}),
    "hyperclovax": ({}, {"use_post_norm": False, "attention_bias": True}),
    "ministral": ({**QK, "layer_types": ["sliding_attention"] * 4, "rope_theta": 10_000.0},),
    "minimax_m2": ({"num_local_experts": 6, "num_experts_per_tok": 2, **QK},),
    "olmoe": ({"num_experts": 6, "num_experts_per_tok": 2}, {"attention_bias": True}),
    "flex_olmo": ({"num_experts": 6, "num_experts_per_tok": 2},),
    "phimoe": ({"num_local_experts": 6}, {"attention_bias": True, "lm_head_bias": True}),
    "granitemoe": ({"num_local_experts": 6, "num_experts_per_tok": 2},),
    "granitemoeshared": (
        {"num_local_experts": 6, "num_experts_per_tok": 2, "shared_intermediate_size": 96},
        {"num_local_experts": 6, "num_experts_per_tok": 2, "attention_bias": True},
    ),
}


ALIKE = {
    "exaone4_5_text",
    "Yi",
    "aquila",
    "xverse",
    "RefinedWeb",
    "RefinedWebModel",
    "stablelm_epoch",
}
PUBLISHED = {
    "phi-1_5": (
        1_418_270_720,
        {
            "model_type": "phi-msft",
            "n_embd": 2048,
            "n_head": 32,
            "n_head_kv": None,
            "n_inner": None,
            "n_layer": 24,
            "n_positions": 2048,
            "rotary_dim": 32,
            "tie_word_embeddings": False,
            "vocab_size": 51200,
        },
    ),
    # Elements of the published files, of types whose code is not in transformers.
    "qwen-1.8b": (
        1_836_828_672,
        {
            "model_type": "qwen",
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "kv_channels": 128,
            "vocab_size": 151936,
            "seq_length": 8192,
        },
    ),
    "chatglm3-6b": (
        6_243_584_000,
        {
            "model_type": "chatglm",
            "hidden_size": 4096,
            "ffn_hidden_size": 13696,
            "num_layers": 28,
            "num_attention_heads": 32,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "add_qkv_bias": True,
            "padded_vocab_size": 65024,
            "seq_length": 8192,
        },
    ),
    "baichuan-7b": (
        7_000_559_616,
        {
            "model_type": "baichuan",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 64000,
            "max_position_embeddings": 4096,
        },
    ),
    "internlm-7b": (
        7_321_948_160,
        {
            "model_type": "internlm",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 103168,
            "max_position_embeddings": 2048,
            "bias": True,
        },
    ),
    "internlm2-7b": (
        7_737_708_544,
        {
            "model_type": "internlm2",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 92544,
            "max_position_embeddings": 32768,
            "bias": False,
        },
    ),
    "exaone-3.5-7.8b": (
        7_818_448_896,
        {
            "model_type": "exaone",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 102400,
            "max_position_embeddings": 32768,
        },
    ),
    "deepseek-moe-16b": (
        16_375_728_128,
        {
            "model_type": "deepseek",
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "vocab_size": 102400,
            "max_position_embeddings": 4096,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
        },
    ),
    "minicpm-2b": (
        2_724_880_896,
        {
            "model_type": "minicpm",
            "hidden_size": 2304,
            "intermediate_size": 5760,
            "num_hidden_layers": 40,
            "num_attention_heads": 36,
            "num_key_value_heads": 36,
            "vocab_size": 122753,
            "max_position_embeddings": 4096,
        },
    ),
    "ling-lite": (
        16_801_974_272,
        {
            "model_type": "bailing_moe",
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "vocab_size": 126464,
            "max_position_embeddings": 16384,
            "num_experts": 64,
            "num_experts_per_tok": 6,
            "num_shared_experts": 2,
            "use_qkv_bias": False,
            "use_bias": False,
        },
    ),
    "mimo-7b": (
        7_622_619_136,  # without the layer that predicts a second token
        {
            "model_type": "mimo",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "attention_bias": True,
            "vocab_size": 151680,
            "max_position_embeddings": 32768,
        },
    ),
}


SHAPES = {
    "arctic": (
        # Three norms; beside 6 experts a dense MLP as wide as the model.
        4 * (64 * 8 * (8 + 2 + 2 + 8) + 6 * 3 * 64 * 160 + 6 * 64 + 3 * 64 * 64 + 3 * 64)
        + 2 * 101 * 64
        + 64,
        {**SMALL, "num_local_experts": 6, "num_experts_per_tok": 2, "moe_layer_frequency": 1},
    ),
    "orion": (
        # Four attention matrices, three of the MLP; two norms with weight and bias.
        4 * (4 * 64 * 64 + 3 * 64 * 160 + 4 * 64) + 2 * 101 * 64 + 2 * 64,
        {**SMALL, "num_key_value_heads": 8},
    ),
    "jais": (
        # 12 h^2 of attention and three matrices of an MLP of width 4 h, biases, norms; tied.
        3 * (4 * 64 * 64 + 3 * 64 * 256 + 4 * 64 + 2 * 256 + 64 + 4 * 64) + 101 * 64 + 2 * 64,
        {**GPT, "position_embedding_type": "alibi", "activation_function": "swiglu"},
    ),
    "bailing_moe_v2": (
        # Queries and keys have norms; the first layer is dense, three have 6 experts and one more.
        4 * (64 * 16 * (8 + 4 + 8) + 2 * 16 + 2 * 64)
        + 3 * 64 * 160
        + 3 * (7 * 3 * 64 * 48 + 6 * 64)
        + 2 * 101 * 64
        + 64,
        {
            **SMALL,
            **ROUTED,
            **QK,
            "num_experts": 6,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
        },
    ),
}
