"""Model types that exist and are not modelled, and what of them is missing."""

from collections.abc import Mapping

MISSING: dict[str, tuple[str, ...]] = {
    "latent attention in another arrangement (MLA)": ("longcat_flash", "axk2", "mistral_large4"),
    "sparse attention": ("dots3_note", "dots3_note_text", "glm5_next", "hy_v4", "qwen4_exp"),
    "linear attention or layers with a state": (
        "zamba", "zamba2", "rwkv", "plamo2", "recurrent_gemma", "xlstm", "lfm3",
    ),
    "layers of different attention windows": ("plamo3", "vaultgemma"),
    "layers of different attention windows, with convolutions and relative positions": (
        "inkling", "inkling_text", "inkling_mm_model", "inkling2", "inkling2_text",
    ),
    "windows that every token of the prompt stays in": ("unlimited_ocr",),
    "text in blocks by diffusion, not token by token": ("diffusion_gemma", "llada", "dream"),
    "experts beside a dense MLP, or unlike others": ("grok-1", "jetmoe"),
    "encoders beside the language model": (
        "mllama", "phi3_v", "minicpmv", "molmo", "molmo2", "gemma3n", "ovis2",
        "voxtral_realtime", "granite_speech", "granite4_vision", "aria", "hyperclovax_vision_v2",
    ),
    "a decoder that attends an encoder, which it cannot do without": (
        "whisper", "t5", "t5gemma", "t5gemma2", "bart", "mbart", "m2m_100", "pegasus", "nllb-moe",
        "florence2",
    ),
    "an encoder, which generates nothing": (
        "bert", "roberta", "xlm-roberta", "modernbert", "deberta-v2", "nomic_bert", "new",
        "distilbert", "electra", "eurobert", "jina_embeddings_v3",
    ),
    "layers of different widths": ("openelm",),
}  # fmt: skip
"""By what is missing."""

NAMED = {
    "inkling": "inkling", "dots3-note": "dots3_note", "whisper": "whisper", "plamo-2": "plamo2",
    "plamo-3": "plamo3", "diffusiongemma": "diffusion_gemma", "unlimited-ocr": "unlimited_ocr",
    "voxtral-mini-4b-realtime": "voxtral_realtime", "longcat-flash": "longcat_flash",
    "gemma-3n": "gemma3n", "zamba2": "zamba2", "recurrentgemma": "recurrent_gemma",
    "molmo": "molmo", "ovis2": "ovis2", "minicpm-v-2": "minicpmv", "llama-3.2-11b-vision": "mllama",
    "llama-3.2-90b-vision": "mllama", "t5gemma": "t5gemma", "roberta": "roberta", "bert": "bert",
}  # fmt: skip
"""Types of published models, by how their names begin."""

_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")


def missing_by_name(name: str) -> str:
    """Return what is missing of a published name, without its organisation and in lower case; an
    empty text where that is not known."""
    found = next((kind for begins, kind in NAMED.items() if name.startswith(begins)), None)
    if found is None:
        return ""
    return f" (its type, {found}, is not modelled{missing_part(found, {})})"


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
