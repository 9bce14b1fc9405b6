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
from model.lengths import positions_of
from model.unmodelled import missing_part

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


OLD_CLASSES = {"LLaMAForCausalLM": "LlamaForCausalLM"}
"""Spellings of the first checkpoints."""


def architecture_of(config: Mapping[str, object], source: str) -> str:
    """Return the ``model_type`` that a config stands for, from that key or ``architectures``.

    Raises:
        UnknownArchitectureError: neither is given, either is not known, or the two disagree.
    """
    classes = {class_name: model_type for model_type, (class_name, _) in ARCHITECTURES.items()}
    model_type, named = config.get("model_type"), config.get("architectures") or [None]
    class_name = named[0] if isinstance(named, list | tuple) and named else named
    class_name = OLD_CLASSES.get(str(class_name), class_name)
    if model_type is not None and str(model_type) not in ARCHITECTURES:
        raise UnknownArchitectureError(
            f"{source}: model_type = {str(model_type)[:80]!r} is not modelled"
            f"{missing_part(str(model_type), config)}, expected one of {', '.join(ARCHITECTURES)}"
        )
    if class_name is not None and str(class_name) not in classes:
        raise UnknownArchitectureError(
            f"{source}: architectures = [{str(class_name)[:80]!r}] is not modelled, expected one "
            f"of {', '.join(classes)}"
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
    keys = ARCHITECTURES[architecture][1]
    own = "n_positions" if keys is Gpt2Config else "max_position_embeddings"
    given = dict(config)
    if given.get(own) is None and positions_of(config) is not None:
        given[own] = positions_of(config)
    try:
        return architecture, keys.model_validate(given)
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
    return f"{key} = {show(detail['input'])}: {message.replace('Input should be', 'expected', 1)}"


def show(value: object) -> str:
    """Return a value as a message has it: in Python's notation, cut where it gets long."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "an integer of more than 30 digits"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
