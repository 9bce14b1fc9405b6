"""torchao: its configuration classes by name, as vLLM's linear layers read them.

Only those layers are quantized: vLLM leaves the embedding, the LM head and experts alone
(vllm/model_executor/layers/quantization/torchao.py, ``get_quant_method``).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, PositiveInt

from model.errors import ConfigError
from model.quantization.modules import EXPERT, LM_HEAD, any_of
from model.quantization.said import Said, Section, SectionKeys, read, refused
from model.quantization.scheme import (
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_ONLY,
    FP8_TENSOR,
    INT8_CHANNEL,
    INT8_ONLY,
    Scheme,
    grouped,
)

BY_MODULE = ("ModuleFqnToConfig", "FqnToConfig")
"""Classes that have one of the others for each module, and for all others."""
DEFAULT = "_default"
_EIGHT_BITS = {
    "Int8WeightOnlyConfig": INT8_ONLY,
    "Int8DynamicActivationInt8WeightConfig": INT8_CHANNEL,
    "Float8WeightOnlyConfig": FP8_ONLY,
}
_FLOAT8 = ("Float8DynamicActivationFloat8WeightConfig", "Float8StaticActivationFloat8WeightConfig")


class _Torchao(SectionKeys):
    quant_type: dict[str, Any]
    modules_to_not_convert: list[str] | None = None
    include_input_output_embeddings: bool = False


class _Configuration(SectionKeys):
    name: str = Field(validation_alias="_type")
    data: dict[str, Any] = Field(default_factory=dict, validation_alias="_data")


class _Integers(SectionKeys):
    group_size: PositiveInt | None = None


def torchao(section: Section) -> Said:
    """One configuration for all linear layers, but for those that lists leave out.

    Raises:
        ConfigError: keys contradict each other, or ask for what is not modelled.
    """
    keys = read(_Torchao, section)
    if list(keys.quant_type) != ["default"]:
        raise ConfigError(f"quant_type has {', '.join(keys.quant_type)}, expected default alone")
    if keys.include_input_output_embeddings:
        raise refused("include_input_output_embeddings of torchao")
    left_out = [*(keys.modules_to_not_convert or ())]
    told = _configuration(keys.quant_type["default"], "quant_type.default")
    if told.name in BY_MODULE:
        told = _by_module(told, left_out)
    scheme, skipped = _scheme(told), any_of(left_out)

    def choose(name: str) -> Scheme | None:
        return None if name == LM_HEAD or EXPERT.search(name) or skipped(name) else scheme

    return Said(method="torchao", choose=choose, listed=tuple(left_out))


def _configuration(told: object, key: str) -> _Configuration:
    if not isinstance(told, Mapping):
        raise ConfigError(f"{key} = {told!r}, expected a mapping with _type and _data")
    return read(_Configuration, told)


def _by_module(told: _Configuration, left_out: list[str]) -> _Configuration:
    """Return the configuration of all modules that are not named; ``left_out`` takes those that
    have none."""
    modules = told.data.get("module_fqn_to_config") or told.data.get("fqn_to_config")
    if not isinstance(modules, Mapping) or modules.get(DEFAULT) is None:
        raise ConfigError(f"{told.name} without {DEFAULT}, expected a configuration there")
    for name, one in modules.items():
        if one is None:
            left_out.append(name)
        elif name != DEFAULT and one != modules[DEFAULT]:
            raise refused(f"{told.name} with a configuration of its own for {name}")
    return _configuration(modules[DEFAULT], f"{told.name}.{DEFAULT}")


def _scheme(told: _Configuration) -> Scheme:
    if told.name in _FLOAT8:
        return _float8(told)
    group = read(_Integers, told.data).group_size
    if told.name == "Int4WeightOnlyConfig":  # of each group a scale and a zero in 16 bits
        return replace(grouped(4, group or 128), zero_bits=16)
    if told.name not in _EIGHT_BITS:
        known = ", ".join(("Int4WeightOnlyConfig", *_EIGHT_BITS, *_FLOAT8, *BY_MODULE))
        raise ConfigError(f"{told.name} of torchao is not modelled, expected one of {known}")
    if group is not None:
        raise refused(f"{told.name} of torchao with group_size = {group}")
    return _EIGHT_BITS[told.name]


def _float8(told: _Configuration) -> Scheme:
    """Scales by matrix, where nothing is said, by row, or by blocks of 128 x 128."""
    kinds = told.data.get("granularity")
    of_weights = kinds[-1] if isinstance(kinds, list) and kinds else kinds
    if of_weights is None:
        return FP8_TENSOR
    one = _configuration(of_weights, f"granularity of {told.name}")
    if one.name == "PerBlock" and [*one.data.get("block_size", [])] == [128, 128]:
        return FP8_BLOCKS
    by_name = {"PerTensor": FP8_TENSOR, "PerRow": FP8_CHANNEL}
    if one.name not in by_name:
        raise refused(f"granularity = {one.name} of {told.name}")
    return by_name[one.name]
