"""Small shapes that config files of models with encoders are made of."""

from typing import Any

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 101,
    "max_position_embeddings": 50,
    "pad_token_id": 0,
}


TOWER = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}


DEEP = {
    "depth": 3,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_heads": 4,
    "patch_size": 7,
    "out_hidden_size": 64,
}


QWEN3 = {**DEEP, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}


ROUTED = {**MOE, "n_routed_experts": 6, "n_shared_experts": 1, "first_k_dense_replace": 1}
MLA = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 8,
}


LLAMA = {"model_type": "llama", **TEXT}
