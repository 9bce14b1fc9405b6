"""Published names whose shape is that of a model of the catalogue, and what of its config differs.

A name that is not here, and is no catalogue name with variants left off, is not modelled. Lengths
are ``max_position_embeddings`` of the config.json on huggingface.co.
"""

from collections.abc import Mapping
from dataclasses import field

from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """A model of the catalogue under another name."""

    model: str
    changes: Mapping[str, object] = field(default_factory=dict)
    """Keys of its config.json that differ."""


RENAMED = {
    "mistral-7b-v0.1": "mistral-7b",
    "zephyr-7b-alpha": "mistral-7b",
    "zephyr-7b-beta": "mistral-7b",
    "mistral-nemo": "mistral-nemo-12b",
    "mistral-nemo-2407": "mistral-nemo-12b",
    "mistral-small-3": "mistral-small-24b",
    "mistral-large": "mistral-large-123b",
    "mistral-large-2407": "mistral-large-123b",
    "mistral-large-2411": "mistral-large-123b",
    "codestral-22b-v0.1": "codestral-22b",
    "llama-4-scout": "llama-4-scout-17b-16e",
    "llama-3.1-nemotron-70b": "llama-3.1-70b",
    "llama-3.1-nemotron-nano-8b-v1": "llama-3.1-8b",
    "llama-guard-2-8b": "llama-3-8b",
    "llama-guard-3-8b": "llama-3.1-8b",
    "llama-guard-3-1b": "llama-3.2-1b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
    "deepseek-7b": "deepseek-llm-7b",
    "deepseek-67b": "deepseek-llm-67b",
    "deepseek-math-7b": "deepseek-llm-7b",
    "yi-1.5-6b": "yi-6b",
    "yi-1.5-34b": "yi-34b",
    "vicuna-7b-v1.5": "llama-2-7b",
    "vicuna-13b-v1.5": "llama-2-13b",
    "phi-3-mini-4k": "phi-3-mini",
    "phi-3.5-mini": "phi-3-mini-128k",
    "phi-3-medium-4k": "phi-3-medium",
    "mixtral-8x7b-v0.1": "mixtral-8x7b",
    "mixtral-8x22b-v0.1": "mixtral-8x22b",
    "open-mixtral-8x22b": "mixtral-8x22b",
    "deepseek-r1": "deepseek-v3",
    "deepseek-r1-0528": "deepseek-v3",
    "deepseek-r1-zero": "deepseek-v3",
    "deepseek-v3-0324": "deepseek-v3",
    "deepseek-v3.1": "deepseek-v3",
    "deepseek-v3.1-terminus": "deepseek-v3",
    "deepseek-v3.2-exp": "deepseek-v3.2",
    "deepseek-v3.2-speciale": "deepseek-v3.2",
    "minimax-m2": "minimax-m2.5",
    "minimax-m2.1": "minimax-m2.5",
    "minimax-m2.7": "minimax-m2.5",
    "glm-4.7": "glm-4.6",
    "macaron-v1-coding-venti": "glm-5.2",
    "kimi-k2.6": "kimi-k2.5",
    "kimi-k2.7-code": "kimi-k2.5",
    "c4ai-command-r-v01": "command-r-35b",
    "qwen3-coder-next": "qwen3-next-80b-a3b",
    "gpt-oss-safeguard-20b": "gpt-oss-20b",
    "gpt-oss-safeguard-120b": "gpt-oss-120b",
    "hermes-4-70b": "llama-3.1-70b",
    "hermes-4-405b": "llama-3.1-405b",
    "llama-3.3-nemotron-super-49b-v1.5": "llama-3.3-nemotron-super-49b-v1",
    "medgemma-4b": "gemma-3-4b",
    "medgemma-27b": "gemma-3-27b",
    "qwen3.5-27b": "qwen3.6-27b",
    "qwen3.8-27b": "qwen3.6-27b",
    "qwen3.6-35b-a3b": "qwen3.5-35b-a3b",
    "intern-s2-preview": "qwen3.5-35b-a3b",
    "translategemma-27b": "gemma-3-27b",
    "command-a-03-2025": "command-a-111b",
    "granite-3.1-2b": "granite-3.2-2b",
    "granite-3.3-2b": "granite-3.2-2b",
    "granite-3.1-8b": "granite-3.2-8b",
    "granite-3.3-8b": "granite-3.2-8b",
    "stablelm-2-zephyr-1-6b": "stablelm-2-1.6b",
    "stablelm-2-1-6b": "stablelm-2-1.6b",
    "internlm2-5-7b": "internlm2.5-7b",
    "lfm2.5-1.2b-jp": "lfm2.5-1.2b",
    "lfm2.5-1.2b-jp-202606": "lfm2.5-1.2b",
    "lfm2-1.2b": "lfm2.5-1.2b",
    "hunyuanocr": "hunyuan-ocr",
    "hy3": "hy3-295b-a21b",
    "hy3-preview": "hy3-295b-a21b",
    "laguna-xs-2.1": "laguna-xs-33b-a3b",
    "laguna-xs.2": "laguna-xs-33b-a3b",
    "laguna-xs-2": "laguna-xs-33b-a3b",
    "laguna-s-2.1": "laguna-s-118b-a8b",
    "laguna-m.1": "laguna-m-225b-a23b",
    "laguna-m-1": "laguna-m-225b-a23b",
    "mimo-v2.5-pro": "mimo-v2.5-pro-1t-a42b",
    "ring-2.6-1t": "ling-2.6-1t",
    "ling-1t": "ring-1t",
    "kimi-vl-a3b-thinking": "kimi-vl-a3b",
    "kimi-vl-a3b-thinking-2506": "kimi-vl-a3b",
    "intellect-3": "glm-4.5-air",
    "mistral-large-3": "mistral-large-3-675b",
    "mistral-medium-3.5": "mistral-medium-3.5-128b",
    "mistral-large-3-675b-2512": "mistral-large-3-675b",
    "step-3.5-flash": "step-3.7-flash",
    "glyph": "glyph-10b",
    "glm-ga": "glyph-10b",
    "glm-4.1v-9b-thinking": "glm-4.1v-9b",
    "glm-asr-nano-2512": "glm-asr-nano",
    "paddleocr-vl-1.5": "paddleocr-vl",
    "paddleocr-vl-1.6": "paddleocr-vl",
    "mistral-small-4-119b-2603": "mistral-small-4-119b",
    "lfm2-350m": "lfm2.5-350m",
    "lfm2-8b-a1b": "lfm2.5-8b-a1b",
    "internvl3-5-8b": "internvl3.5-8b",
    "phi-4-mini-reasoning": "phi-4-mini",
    "nemotron-3-super-120b-a12b-base": "nemotron-3-super-120b-a12b",
    "mistral-small-3.2-24b": "mistral-small-3.1-24b",
    "magistral-small-2509": "mistral-small-3.1-24b",
    "llama-33b": "llama-30b",
    "tinyllama-1.1b-v1.0": "tinyllama-1.1b",
    "solar-10.7b-v1.0": "solar-10.7b",
    "hermes-3-llama-3.1-8b": "llama-3.1-8b",
    "hermes-3-llama-3.1-70b": "llama-3.1-70b",
    "hermes-3-llama-3.1-405b": "llama-3.1-405b",
    "command-r-plus": "command-r-plus-104b",
    "command-r-plus-08-2024": "command-r-plus-104b",
    "command-r7b-12-2024": "command-r7b",
    "aya-expanse-8b": "aya-23-8b",
    "deepseek-v2-0628": "deepseek-v2",
    "deepseek-v2.5": "deepseek-v2",
    "deepseek-v2.5-1210": "deepseek-v2",
    "deepseek-coder-v2": "deepseek-v2",
    "deepseek-coder-v2-0724": "deepseek-v2",
    "deepseek-coder-v2-lite": "deepseek-v2-lite",
    "deepseek-coder-7b-v1.5": "deepseek-llm-7b",
    "codegemma-7b": "gemma-7b",
    "codegemma-2b": "gemma-2b",
    "gemma-1.1-7b": "gemma-7b",
    "gemma-1.1-2b": "gemma-2b",
    "glm-z1-32b-0414": "glm-4-32b-0414",
    "olmo-3-7b-think": "olmo-3-7b",
    "olmo-3-32b": "olmo-3.1-32b",
    "olmo-3-32b-think": "olmo-3.1-32b",
    "olmo-3.1-32b-think": "olmo-3.1-32b",
    "bloom": "bloom-176b",
}
"""The same config under another name."""

_QWEN25 = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")
_QWEN3 = ("0.6b", "1.7b", "4b", "8b", "14b", "30b-a3b")

LENGTHS: Mapping[int, Mapping[str, str]] = {
    4096: {f"qwen2.5-math-{size}": f"qwen2.5-{size}" for size in ("1.5b", "7b", "72b")},
    16_384: {"yi-1.5-34b-16k": "yi-34b"},
    32_768: {
        "yi-1.5-34b-32k": "yi-34b",
        "phi-4-reasoning": "phi-4",
        "phi-4-reasoning-plus": "phi-4",
        "qwq-32b-preview": "qwen2.5-32b",
        **{f"qwen3guard-gen-{size}": f"qwen3-{size}" for size in ("0.6b", "4b", "8b")},
        **{f"qwen2.5-{size}-instruct": f"qwen2.5-{size}" for size in _QWEN25},
        **{f"qwen2.5-coder-{size}": f"qwen2.5-{size}" for size in _QWEN25[:-1]},
        **{f"qwen2-{size}-instruct": f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "7b", "72b")},
        **{f"qwen3-{size}-base": f"qwen3-{size}" for size in _QWEN3},
    },
    40_960: {"qwq-32b": "qwen2.5-32b"},
    2048: {"llama-7b": "llama-2-7b", "llama-13b": "llama-2-13b"},
    131_072: {
        "devstral-small-2505": "mistral-small-24b",
        "devstral-small-2507": "mistral-small-24b",
        "kimi-dev-72b": "qwen2.5-72b",
        "glm-4-9b-chat": "glm-4-9b",
        "glm-4-9b-chat-hf": "glm-4-9b",
        "deepseek-r1-distill-qwen-7b": "qwen2.5-7b",
        "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
        "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
        **{f"qwen2-{size}": f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "7b", "72b")},
    },
    200_000: {"yi-6b-200k": "yi-6b", "yi-34b-200k": "yi-34b"},
    262_144: {
        **{f"ai21-jamba-{name}": "jamba-v0.1" for name in ("1.5-mini", "mini-1.6", "mini-1.7")},
        "qwen3-4b-2507": "qwen3-4b",
        "qwen3-30b-a3b-2507": "qwen3-30b-a3b",
        "qwen3-235b-a22b-2507": "qwen3-235b-a22b",
        "qwen3-coder-30b-a3b": "qwen3-30b-a3b",
    },
    1_010_000: {"qwen2.5-7b-1m": "qwen2.5-7b", "qwen2.5-14b-1m": "qwen2.5-14b"},
}
"""The same shape with other positions."""

_KIMI_SCALING = {
    "type": "yarn",
    "factor": 64.0,
    "original_max_position_embeddings": 4096,
}
_KIMI_INT4 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
        }
    },
    "ignore": [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ],
}
"""Routed experts only, as in Kimi K2.5."""

OTHERWISE = {
    "deepseek-r1-distill-qwen-1.5b": Alias(
        "qwen2.5-1.5b", {"tie_word_embeddings": False, "max_position_embeddings": 131_072}
    ),
    "deepseek-r1-0528-qwen3-8b": Alias(
        "qwen3-8b",
        {
            "max_position_embeddings": 131_072,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32_768,
            },
        },
    ),
    "phi-3-medium-128k": Alias(
        "phi-3-medium", {"max_position_embeddings": 131_072, "sliding_window": 131_072}
    ),
    "kimi-k2-0905": Alias(
        "kimi-k2", {"max_position_embeddings": 262_144, "rope_scaling": _KIMI_SCALING}
    ),
    "kimi-k2-thinking": Alias(
        "kimi-k2",
        {
            "max_position_embeddings": 262_144,
            "rope_scaling": _KIMI_SCALING,
            "quantization_config": _KIMI_INT4,
        },
    ),
    **{
        f"vicuna-{size}-v1.5-16k": Alias(
            f"llama-2-{size}", {"rope_scaling": {"type": "linear", "factor": 4.0}}
        )
        for size in ("7b", "13b")
    },
}
"""Other differences."""

ALIASES: Mapping[str, Alias] = {
    **{name: Alias(model) for name, model in RENAMED.items()},
    **{
        name: Alias(model, {"max_position_embeddings": positions})
        for positions, models in LENGTHS.items()
        for name, model in models.items()
    },
    **OTHERWISE,
}
