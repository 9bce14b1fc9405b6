"""Models of several kinds of input: where their language model stands, what is loaded beside it.

The language model is counted and priced like any other. Its encoders take memory, and nothing else
here: prompts are text.
"""

from collections.abc import Mapping

from model.config_keys import Config, nested
from model.errors import UnknownArchitectureError
from model.families.wrapper import Wrapper
from model.families.wrapper_rows import WRAPPERS

TEXT_KEYS = ("text_config", "llm_config", "language_config")
THINKER = "thinker_config"
SHARED = ("quantization_config", "compression_config", "dtype", "torch_dtype")
"""Keys of a wrapper that hold for its language model, which may say otherwise."""
TIED = "tie_word_embeddings"
"""Key of a wrapper that goes before its language model's: transformers ties by it."""
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


def thinking(config: Config) -> Config:
    """Return what an engine serves of a file of several models: the one that thinks.

    Of Qwen's omni models and Qwen3-ASR the others speak, in an engine of their own or nowhere.
    What the whole file says of itself and of its numbers holds for it.
    """
    if not isinstance(config.get(THINKER), Mapping):
        return config
    inner = nested(config, THINKER)
    own = (key for key in ("model_type", "architectures", *SHARED) if config.get(key) is not None)
    return {**inner, **{key: config[key] for key in own}}


def wrapper_of(config: Config) -> Wrapper | None:
    """Return the wrapper that a file is one of, by its ``model_type`` or, where it is that of the
    language model, by its class; None for a language model alone.

    Raises:
        UnknownArchitectureError: a wrapper's type, and a class that has other encoders.
    """
    kind, named = str(config.get("model_type")), config.get("architectures") or [None]
    name = named[0] if isinstance(named, list) and named else None
    found = WRAPPERS.get(kind)
    if found is not None and name not in (None, *found.class_names):
        raise UnknownArchitectureError(
            f"model_type = {kind!r} but architectures = [{str(name)[:80]!r}], expected one of "
            f"{', '.join(found.class_names)}"
        )
    if found is not None:
        return found
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
    if inner["model_type"] == "deepseek_v2" and inner.get("use_mla") is False:
        inner["model_type"] = "deepseek"  # the same layers behind plain attention
    inner.pop("architectures", None)
    given = {**TEXT_DEFAULTS.get(str(inner["model_type"]), {}), **inner} if key else inner
    for key in SHARED:
        if given.get(key) is None and config.get(key) is not None:
            given[key] = config[key]
    if config.get(TIED) is not None:
        given[TIED] = config[TIED]
    return given
