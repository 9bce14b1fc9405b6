"""Models of several kinds of input: where their language model stands, what is loaded beside it.

The language model is counted and priced like any other. Its encoders take memory, and nothing else
here: prompts are text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model.config_keys import Config, flag, nested, whole
from model.encoders import images
from model.encoders.tower import layernorm, linear
from model.errors import UnknownArchitectureError, one_of

Beside = Callable[[Config, Config], int]
"""Counts the parameters beside the language model, from the whole file and the language model's."""

TEXT_KEYS = ("text_config", "llm_config", "language_config")
SHARED = ("quantization_config", "compression_config", "dtype", "torch_dtype")
"""Keys of a wrapper that hold for its language model, which may say otherwise."""
TIED = "tie_word_embeddings"
"""Key of a wrapper that goes before its language model's: transformers ties by it."""
CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
}  # fmt: skip
PIXTRAL = {"model_type": "pixtral", "image_size": 1540, "patch_size": 14}
_LLAMA = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip
TEXT_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "llama": _LLAMA,
    "mistral": {
        **_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    },
    "gemma3_text": {
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        "sliding_window": 4096,
    },
    "gemma": {"vocab_size": 257216, "max_position_embeddings": 8192},
}  # fmt: skip
"""Shapes that files of wrappers leave to the configuration class of their language model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """One ``model_type`` of several kinds of input."""

    class_names: tuple[str, ...]
    beside: Beside
    text_type: str
    """Of the language model, where the file does not say; also where its keys stand at the top."""
    text_defaults: str | None = None
    """Whose defaults hold; None: those of the language model's type."""


def _tower(vision: Config) -> int:
    kind = str(vision.get("model_type"))
    if kind not in images.TOWERS:
        known = one_of(kind, tuple(images.TOWERS))
        raise UnknownArchitectureError(
            f"vision_config.model_type = {kind!r} is not modelled, {known}"
        )
    return images.TOWERS[kind](vision)


def _hidden(config: Config) -> int:
    return whole(config, "hidden_size")


def _features(config: Config) -> int:
    """How many layers of the tower feed the projector."""
    layers = config.get("vision_feature_layer", -2)
    return len(layers) if isinstance(layers, list) else 1


def _llava(config: Config, text: Config) -> int:
    vision = {**CLIP_L, **nested(config, "vision_config")}
    if vision["model_type"] == "pixtral":
        vision = {"image_size": 1024, "patch_size": 16, **nested(config, "vision_config")}
    biased, hidden = flag(config, "multimodal_projector_bias", True), _hidden(text)
    wide = whole(vision, "hidden_size", 1024) * _features(config)
    projector = linear(wide, hidden, bias=biased) + linear(hidden, hidden, bias=biased)
    return _tower(vision) + projector


def _llava_next(config: Config, text: Config) -> int:
    """A row between the lines of an image, besides."""
    return _llava(config, text) + _hidden(text)


def _mistral3(config: Config, text: Config) -> int:
    vision = {**PIXTRAL, **nested(config, "vision_config")}
    wide, hidden = whole(vision, "hidden_size", 1024), _hidden(text)
    biased = flag(config, "multimodal_projector_bias", False)
    merged = whole(config, "spatial_merge_size", 2) ** 2
    merger = wide + wide * merged * wide
    projector = linear(wide * _one(config), hidden, bias=biased) + linear(
        hidden, hidden, bias=biased
    )
    return images.pixtral(vision) + merger + projector


def _one(config: Config) -> int:
    return _features({"vision_feature_layer": config.get("vision_feature_layer", -1)})


def _llama4(config: Config, text: Config) -> int:
    vision = nested(config, "vision_config")
    return images.llama4(vision) + whole(vision, "vision_output_dim", 7680) * _hidden(text)


def _gemma3(config: Config, text: Config) -> int:
    vision = {"vision_use_head": False, **nested(config, "vision_config")}
    wide = whole(vision, "hidden_size", 768)
    return images.siglip(vision) + wide * _hidden(text) + wide


def _gemma4(config: Config, text: Config) -> int:
    vision = nested(config, "vision_config")
    if config.get("audio_config"):
        raise UnknownArchitectureError(
            "audio_config: the encoder of sounds of gemma4 is not modelled, expected null"
        )
    return images.gemma4(vision) + whole(vision, "hidden_size", 768) * _hidden(text)


def _lfm2_vl(config: Config, text: Config) -> int:
    vision = {"model_type": "siglip2_vision_model", **nested(config, "vision_config")}
    wide = whole(vision, "hidden_size", 768) * whole(config, "downsample_factor", 2) ** 2
    inner, biased = (
        whole(config, "projector_hidden_size", 2560),
        flag(config, "projector_bias", True),
    )
    norm = layernorm(wide) if flag(config, "projector_use_layernorm", True) else 0
    projector = linear(wide, inner, bias=biased) + linear(inner, _hidden(text), bias=biased)
    return images.siglip(vision) + norm + projector


def _internvl(config: Config, text: Config) -> int:
    vision, hidden = nested(config, "vision_config"), _hidden(text)
    wide = whole(vision, "hidden_size", 1024) * 4
    return (
        images.internvit(vision) + layernorm(wide) + linear(wide, hidden) + linear(hidden, hidden)
    )


def _kimi(config: Config, text: Config) -> int:
    vision = nested(config, "vision_config")
    wide = whole(vision, "vt_hidden_size", whole(vision, "hidden_size", 1152))
    joined = wide * 4
    projector = layernorm(wide) + linear(joined, joined) + linear(joined, _hidden(text))
    return images.moonvit(vision) + projector


def _vision(count: Callable[[Config], int]) -> Beside:
    """What stands in ``vision_config`` is all."""
    return lambda config, text: count(nested(config, "vision_config"))


WRAPPERS: dict[str, Wrapper] = {
    "llava": Wrapper(
        class_names=("LlavaForConditionalGeneration",), beside=_llava, text_type="llama"
    ),
    "llava_next": Wrapper(
        class_names=("LlavaNextForConditionalGeneration",), beside=_llava_next, text_type="llama"
    ),
    "mistral3": Wrapper(
        class_names=("Mistral3ForConditionalGeneration",), beside=_mistral3, text_type="mistral"
    ),
    "llama4": Wrapper(
        class_names=("Llama4ForConditionalGeneration",), beside=_llama4, text_type="llama4_text"
    ),
    "gemma3": Wrapper(
        class_names=("Gemma3ForConditionalGeneration",), beside=_gemma3, text_type="gemma3_text"
    ),
    "gemma4": Wrapper(
        class_names=("Gemma4ForConditionalGeneration",), beside=_gemma4, text_type="gemma4_text"
    ),
    "lfm2_vl": Wrapper(
        class_names=("Lfm2VlForConditionalGeneration",), beside=_lfm2_vl, text_type="lfm2"
    ),
    "internvl": Wrapper(
        class_names=("InternVLForConditionalGeneration",), beside=_internvl, text_type="qwen2"
    ),
    "internvl_chat": Wrapper(
        class_names=("InternVLChatModel",), beside=_internvl, text_type="qwen2"
    ),
    "kimi_k25": Wrapper(
        class_names=("KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"),
        beside=_kimi,
        text_type="deepseek_v3",
    ),
    "qwen2_vl": Wrapper(
        class_names=("Qwen2VLForConditionalGeneration",),
        beside=_vision(images.qwen2_vl),
        text_type="qwen2_vl_text",
    ),
    "qwen2_5_vl": Wrapper(
        class_names=("Qwen2_5_VLForConditionalGeneration",),
        beside=_vision(images.qwen2_5_vl),
        text_type="qwen2_5_vl_text",
    ),
    "qwen3_vl": Wrapper(
        class_names=("Qwen3VLForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        text_type="qwen3_vl_text",
    ),
    "qwen3_vl_moe": Wrapper(
        class_names=("Qwen3VLMoeForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        text_type="qwen3_vl_moe_text",
    ),
    "qwen3_5": Wrapper(
        class_names=("Qwen3_5ForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        text_type="qwen3_5_text",
    ),
    "qwen3_5_moe": Wrapper(
        class_names=("Qwen3_5MoeForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        text_type="qwen3_5_moe_text",
    ),
    "glm4v": Wrapper(
        class_names=("Glm4vForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_text",
    ),
    "glm4v_moe": Wrapper(
        class_names=("Glm4vMoeForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_moe_text",
    ),
}  # fmt: skip


def wrapper_of(config: Config) -> Wrapper | None:
    """Return the wrapper that a file is one of, by its ``model_type`` or, where it is that of the
    language model, by its class; None for a language model alone."""
    found = WRAPPERS.get(str(config.get("model_type")))
    if found is not None:
        return found
    named = config.get("architectures") or [None]
    name = named[0] if isinstance(named, list) and named else None
    inside = any(isinstance(config.get(key), Mapping) for key in TEXT_KEYS)
    classes = {one: wrapper for wrapper in WRAPPERS.values() for one in wrapper.class_names}
    return classes.get(str(name)) if inside else None


def language_model(config: Config, wrapper: Wrapper) -> dict[str, object]:
    """Return the language model's keys as a file of its own.

    What the wrapper says of all holds for it: how weights are stored, numbers, and whether the head
    is the embedding.
    """
    key = next((key for key in TEXT_KEYS if isinstance(config.get(key), Mapping)), None)
    inner = dict(nested(config, key)) if key else dict(config)
    if key is None or inner.get("model_type") is None:
        inner["model_type"] = wrapper.text_type
    inner.pop("architectures", None)
    given = {**TEXT_DEFAULTS.get(str(inner["model_type"]), {}), **inner} if key else inner
    for key in SHARED:
        if given.get(key) is None and config.get(key) is not None:
            given[key] = config[key]
    if config.get(TIED) is not None:
        given[TIED] = config[TIED]
    return given
