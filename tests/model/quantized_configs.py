"""Small configs with sections on quantisation, and what their weights take."""

from typing import Any

from model.from_config import spec_from_config
from model.ops import rank_weight_bytes
from model.precision import precision
from model.spec import DecoderSpec

LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


ATTENTION = 512 * (512 + 2 * 256) + 512 * 512
MLP = 3 * 512 * 1024


LINEAR = 4 * (ATTENTION + MLP)
ROWS = 512 + 2 * 256 + 512 + 2 * 1024 + 512
"""Outputs of the matrices of a layer."""
REST = 2 * (2 * 1024 * 512 + 9 * 512)
"""Bytes of embedding, LM head and norms."""
PARTS = ("gate", "up", "down")


MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 256,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "head_dim": 64,
}


GROUP = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}


FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
FP8_NUMBERS = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}


def quark_fp8(**keys: Any) -> dict[str, Any]:
    layer = {"weight": FP8_NUMBERS, "input_tensors": FP8_NUMBERS}
    told = layer | {"output_tensors": FP8_NUMBERS}
    layers = {"*k_proj": told, "*v_proj": told}
    section = {"quant_method": "quark", "exclude": ["lm_head"], "global_quant_config": layer}
    return section | {"layer_quant_config": layers} | keys


def spec_of(section: dict[str, Any] | None, base: dict[str, Any] = LLAMA) -> DecoderSpec:
    config = base if section is None else base | {"quantization_config": section}
    return spec_from_config(config, "tiny")


def weight_bytes(spec: DecoderSpec, tp: int = 1) -> float:
    numbers = precision("bfloat16", spec.checkpoint.weights)
    return rank_weight_bytes(spec, precision=numbers, tp=tp)


def groups(weights: dict[str, Any] | None, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
