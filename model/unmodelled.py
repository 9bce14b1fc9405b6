"""Model types that exist and are not modelled, and what of them is missing."""

from collections.abc import Mapping

MISSING: dict[str, tuple[str, ...]] = {
    "latent attention in another arrangement (MLA)": ("longcat_flash",),
    "sparse attention": ("dots3_note",),
    "linear attention or layers with a state": (
        "zamba2",
        "rwkv", "plamo2", "recurrent_gemma",
    ),
    "layers of different attention windows": (
        "inkling", "plamo3",
    ),
    "experts beside a dense MLP, or unlike others": ("grok-1", "jetmoe"),
    "encoders beside the language model": (
        "qwen2_audio", "mllama", "whisper", "phi3_v",
        "phi4mm", "minicpmv", "molmo",
    ),
    "layers of different widths": ("openelm",),
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
