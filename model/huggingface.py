"""Reads a Hugging Face ``config.json``: finds its architecture and checks its keys."""

from collections.abc import Callable, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from model.errors import ConfigError, UnknownArchitectureError, nearest
from model.families.keys import Keys
from model.families.registry import FAMILIES, MODULES
from model.lengths import positions_of
from model.unmodelled import missing_part

EXPECTED = f"expected one of the {len(FAMILIES)} types that docs/study_reference.md lists"
OLD_CLASSES = {"LLaMAForCausalLM": "LlamaForCausalLM"}
"""Spellings of the first checkpoints."""


def architecture_of(config: Mapping[str, object], source: str) -> str:
    """Return the ``model_type`` that a config stands for, from that key or ``architectures``.

    Raises:
        UnknownArchitectureError: neither is given, either is not known, or the two disagree.
    """
    model_type, named = config.get("model_type"), config.get("architectures") or [None]
    class_name = named[0] if isinstance(named, list | tuple) and named else named
    class_name = OLD_CLASSES.get(str(class_name), class_name)
    known = FAMILIES.get(str(model_type))
    if known is not None and class_name in (known.class_name, *known.also):
        return str(model_type)
    classes = {
        name: each
        for each in reversed(MODULES)
        for name in (FAMILIES[each].class_name, *FAMILIES[each].also)
    }
    if model_type is not None and str(model_type) not in FAMILIES:
        raise UnknownArchitectureError(
            f"{source}: model_type = {str(model_type)[:80]!r} is not modelled"
            f"{missing_part(str(model_type), config)}, {EXPECTED}"
        )
    if class_name is not None and str(class_name) not in classes:
        raise UnknownArchitectureError(
            f"{source}: architectures = [{str(class_name)[:80]!r}] is not modelled, {EXPECTED}"
        )
    if model_type is None and class_name is None and "peft_type" in config:
        raise UnknownArchitectureError(
            f"{source}: peft_type = {show(config['peft_type'])}: an adapter, expected the config "
            f"of the model that it adapts ({show(config.get('base_model_name_or_path'))})"
        )
    if model_type is None and class_name is None:
        raise UnknownArchitectureError(
            f"{source}: model_type and architectures are missing, {EXPECTED}"
        )
    if model_type is None:
        return classes[str(class_name)]
    family, by_class = FAMILIES[str(model_type)], classes.get(str(class_name))
    if by_class is not None and str(model_type) in FAMILIES[by_class].under:
        return by_class
    if class_name is not None and class_name not in (family.class_name, *family.also):
        expected = family.class_name
        raise UnknownArchitectureError(
            f"{source}: model_type = {model_type!r} but architectures = [{class_name!r}], "
            f"expected [{expected!r}]"
        )
    return str(model_type)


def read_config(config: Mapping[str, object], architecture: str, source: str) -> Keys:
    """Check a config and return the keys that are read.

    Args:
        config: the contents of a ``config.json``.
        architecture: its ``model_type`` (``architecture_of``).
        source: what messages call it, such as its path.

    Raises:
        ConfigError: every missing, ill-typed or inconsistent key, one per line.
    """
    keys = FAMILIES[architecture].keys
    own = keys.told(keys.positions_key)
    given = dict(config)
    if given.get(own) is None and positions_of(config) is not None:
        given[own] = positions_of(config)
    try:
        return keys.model_validate(given)
    except ConfigError as error:
        lines = str(error).splitlines()
    except ValidationError as error:
        lines = [_explain(detail, config, keys.told) for detail in error.errors()]
    raise ConfigError("\n".join(f"{source}: {line}" for line in lines))


def _explain(detail: ErrorDetails, config: Mapping[str, object], told: Callable[[str], str]) -> str:
    key = ".".join(told(str(part)) for part in detail["loc"])
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
