"""Model types that exist and are not modelled, and what of them is missing."""

from collections.abc import Mapping

MISSING: dict[str, tuple[str, ...]] = {
    "latent attention (MLA)": (
        "deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "minicpm3", "longcat_flash",
        "glm4_moe_lite",
    ),
    "sparse attention": (
        "deepseek_v32", "deepseek_v4", "glm_moe_dsa", "minimax_m3", "deepseek_ref",
    ),
    "linear attention or layers with a state": (
        "qwen3_next", "qwen3_5", "qwen3_5_moe", "kimi_k3", "kimi_linear", "minimax",
        "minimax_text_01", "bailing_hybrid", "mamba", "mamba2", "jamba", "bamba", "zamba2",
        "nemotron_h", "falcon_h1", "granitemoehybrid", "lfm2", "lfm2_moe", "rwkv", "plamo2",
    ),
    "layers of different attention windows": (
        "gemma2", "gemma3_text", "gemma3", "gemma4", "gemma4_text", "gpt_oss", "cohere2", "olmo3",
        "exaone4", "step3p7", "mimo_v2_flash",
    ),
    "experts beside a dense MLP, or unlike others": ("arctic", "grok-1", "jetmoe"),
    "encoders beside the language model": (
        "qwen2_vl", "qwen2_5_vl", "qwen2_audio", "mllama", "whisper", "internvl_chat", "phi3_v",
        "phi4mm", "minicpmv", "molmo",
    ),
    "layers of different widths": ("decilm", "nemotron-nas", "openelm"),
}  # fmt: skip
"""By what is missing."""

_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")


def missing_part(model_type: str, config: Mapping[str, object]) -> str:
    """Return ``": what is missing"`` of a type, or an empty text where that is not known."""
    for key in _PARTS:
        inside = config.get(key)
        if isinstance(inside, Mapping):
            inner = str(inside.get("model_type", "no model_type"))[:80]
            return (
                f": a language model ({inner}) inside a wrapper, in {key}; the encoders beside it "
                f"have no price. To price the language model alone, give {key} as a config.json of "
                "its own"
            )
    return next((f": {what}" for what, types in MISSING.items() if model_type in types), "")
