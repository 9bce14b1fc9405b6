"""Reads a Hugging Face ``config.json``: finds its architecture and checks its keys."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from model.config_files import (
    AnyConfig,
    Gpt2Config,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OptConfig,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)
from model.errors import ConfigError, UnknownArchitectureError, nearest

ARCHITECTURES: dict[str, tuple[str, type[AnyConfig]]] = {
    "llama": ("LlamaForCausalLM", LlamaConfig),
    "mistral": ("MistralForCausalLM", MistralConfig),
    "phi3": ("Phi3ForCausalLM", Phi3Config),
    "llama4_text": ("Llama4ForCausalLM", Llama4TextConfig),
    "qwen2": ("Qwen2ForCausalLM", Qwen2Config),
    "qwen3": ("Qwen3ForCausalLM", Qwen3Config),
    "gpt2": ("GPT2LMHeadModel", Gpt2Config),
    "opt": ("OPTForCausalLM", OptConfig),
    "mixtral": ("MixtralForCausalLM", MixtralConfig),
    "qwen2_moe": ("Qwen2MoeForCausalLM", Qwen2MoeConfig),
    "qwen3_moe": ("Qwen3MoeForCausalLM", Qwen3MoeConfig),
}
"""``model_type`` to the class name in ``architectures`` and the keys that are read."""


def architecture_of(config: Mapping[str, object], source: str) -> str:
    """Return the ``model_type`` that a config stands for, from that key or ``architectures``.

    Raises:
        UnknownArchitectureError: neither is given, either is not known, or the two disagree.
    """
    classes = {class_name: model_type for model_type, (class_name, _) in ARCHITECTURES.items()}
    model_type, named = config.get("model_type"), config.get("architectures") or [None]
    class_name = named[0] if isinstance(named, list | tuple) else named
    if model_type is not None and str(model_type) not in ARCHITECTURES:
        known = tuple(ARCHITECTURES)
        raise UnknownArchitectureError(
            f"{source}: model_type = {model_type!r} is not modelled, expected one of "
            f"{', '.join(known)}{nearest(str(model_type).lower(), known)}"
        )
    if class_name is not None and str(class_name) not in classes:
        raise UnknownArchitectureError(
            f"{source}: architectures = [{class_name!r}] is not modelled, expected one of "
            f"{', '.join(classes)}{nearest(str(class_name), tuple(classes))}"
        )
    if model_type is None and class_name is None:
        raise UnknownArchitectureError(
            f"{source}: model_type and architectures are missing, expected model_type to be one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    if model_type is None:
        return classes[str(class_name)]
    expected = ARCHITECTURES[str(model_type)][0]
    if class_name not in (None, expected):
        raise UnknownArchitectureError(
            f"{source}: model_type = {model_type!r} but architectures = [{class_name!r}], "
            f"expected [{expected!r}]"
        )
    return str(model_type)


def read_config(config: Mapping[str, object], source: str) -> tuple[str, AnyConfig]:
    """Check a config and return its ``model_type`` with the keys that are read.

    Args:
        config: the contents of a ``config.json``.
        source: what messages call it, such as its path.

    Raises:
        UnknownArchitectureError: see ``architecture_of``.
        ConfigError: every missing, ill-typed or inconsistent key, one per line.
    """
    architecture = architecture_of(config, source)
    try:
        return architecture, ARCHITECTURES[architecture][1].model_validate(dict(config))
    except ValidationError as error:
        lines = [_explain(detail, config) for detail in error.errors()]
    raise ConfigError("\n".join(f"{source}: {line}" for line in lines))


def _explain(detail: ErrorDetails, config: Mapping[str, object]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return message
    if detail["type"] == "missing":
        return f"{key} is missing{nearest(key, tuple(map(str, config)), cutoff=0.85)}"
    return f"{key} = {detail['input']!r}: {message.replace('Input should be', 'expected', 1)}"
