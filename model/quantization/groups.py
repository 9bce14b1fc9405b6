"""Formats that say per group of modules what they are: compressed-tensors and Quark."""

import re
from typing import Any, Literal

from pydantic import Field, PositiveInt

from model.quantization.floats import stores_fp8
from model.quantization.modules import LM_HEAD, Matches, any_of
from model.quantization.said import Said, Section, SectionKeys, read, refused
from model.quantization.scheme import (
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_ONLY,
    FP8_TENSOR,
    INT8_CHANNEL,
    INT8_ONLY,
    MXFP4,
    MXFP4_ONLY,
    MXFP8,
    NVFP4,
    NVFP4_ONLY,
    Scheme,
    grouped,
)

LINEAR = "Linear"
"""Target that means every matrix of the layers; others are names."""


class _Arguments(SectionKeys):
    num_bits: int = 8
    type: Literal["int", "float"] = "int"
    strategy: str | None = None
    group_size: int | None = None
    block_structure: list[PositiveInt] | str | None = None
    symmetric: bool = True
    dynamic: bool | Literal["local"] = False
    actorder: str | bool | None = None


class _Group(SectionKeys):
    targets: list[str] = Field(default_factory=lambda: [LINEAR])
    weights: _Arguments | None = None
    input_activations: _Arguments | None = None
    format: str | None = None


class _CompressedTensors(SectionKeys):
    config_groups: dict[str, _Group] = Field(default_factory=dict)
    ignore: list[str] | None = None
    kv_cache_scheme: dict[str, Any] | None = None
    format: str | None = None
    sparsity_config: dict[str, Any] | None = None
    transform_config: dict[str, Any] | None = None


def compressed_tensors(section: Section) -> Said:
    """compressed-tensors (LLM Compressor): groups of targets, each with its own numbers.

    A target that names a module goes before ``Linear``, which means all that ``ignore`` leaves.

    Raises:
        ConfigError: keys contradict each other, or ask for what is not modelled.
    """
    keys = read(_CompressedTensors, section)
    sparse = (keys.sparsity_config or {}).get("format", "dense")
    if sparse != "dense" or "24" in (keys.format or ""):
        raise refused(f"sparsity ({sparse if sparse != 'dense' else keys.format})")
    if (keys.transform_config or {}).get("config_groups"):
        raise refused("transform_config (rotations while the engine runs)")
    ignored = any_of(keys.ignore or ())
    by_name: list[tuple[Matches, Scheme | None]] = []
    by_class: list[Scheme | None] = []
    for name, group in keys.config_groups.items():
        scheme = _group(group, group.format or keys.format or "", name)
        names = [target for target in group.targets if target != LINEAR]
        by_name += [(any_of(names), scheme)] if names else []
        by_class += [scheme] if LINEAR in group.targets else []

    def choose(name: str) -> Scheme | None:
        """Return how a module is stored; None in the precision of the model."""
        if ignored(name):
            return None
        for matches, scheme in by_name:
            if matches(name):
                return scheme
        return by_class[0] if by_class and name != LM_HEAD else None

    listed = [*(keys.ignore or ()), *(t for g in keys.config_groups.values() for t in g.targets)]
    return Said(
        method="compressed-tensors",
        choose=choose,
        listed=tuple(listed),
        kv_fp8=stores_fp8(keys.kv_cache_scheme),
    )


def _group(group: _Group, format_: str, name: str) -> Scheme | None:
    """The scheme of one group's weights and inputs; None for weights that are not quantized."""
    weights, inputs = group.weights, group.input_activations
    if weights is None:
        return None
    kind = f"{weights.type}{weights.num_bits}"
    if inputs is not None and (inputs.type, inputs.num_bits) != (weights.type, weights.num_bits):
        told = f"{kind} weights with {inputs.type}{inputs.num_bits} inputs"
        raise refused(f"config_groups.{name}: {told}")
    scheme = _float(weights, inputs is not None, format_) if weights.type == "float" else None
    if kind == "int8" and weights.strategy in ("tensor", "channel", None):
        scheme = INT8_CHANNEL if inputs is not None else INT8_ONLY
    elif weights.type == "int" and weights.num_bits in (4, 8) and inputs is None:
        ordered = weights.actorder in (True, "group", "dynamic")
        group_size = weights.group_size if weights.strategy != "channel" else None
        scheme = grouped(
            weights.num_bits, group_size or -1, zeros=not weights.symmetric, act_order=ordered
        )
    if scheme is None:
        raise refused(f"config_groups.{name}: {kind} weights by {weights.strategy}")
    return scheme


def _float(weights: _Arguments, with_inputs: bool, format_: str) -> Scheme | None:
    if weights.num_bits == 4:
        if "mxfp4" in format_ or weights.group_size == 32:
            return MXFP4 if with_inputs else MXFP4_ONLY
        return NVFP4 if with_inputs else NVFP4_ONLY
    if weights.num_bits != 8:
        return None
    if "mxfp8" in format_ or weights.group_size == 32:
        return MXFP8
    if weights.strategy not in (None, "tensor", "channel", "block"):
        return None
    if not with_inputs:
        return FP8_ONLY
    if weights.strategy == "block":
        shape = weights.block_structure
        rows, columns = [*map(int, re.findall(r"\d+", str(shape)))][:2] if shape else (128, 128)
        if (rows, columns) == (128, 128):
            return FP8_BLOCKS
        return Scheme(numbers="fp8", bits=8, compute="fp8", block=(rows, columns))
    return FP8_TENSOR if weights.strategy == "tensor" else FP8_CHANNEL


class _QuarkNumbers(SectionKeys):
    dtype: str
    qscheme: str | None = None
    group_size: int | None = None
    symmetric: bool | None = None


class _QuarkLayer(SectionKeys):
    weight: _QuarkNumbers | None = None
    input_tensors: _QuarkNumbers | None = None
    output_tensors: _QuarkNumbers | None = None


class _QuarkExport(SectionKeys):
    kv_cache_group: list[str] | None = None


class _Quark(SectionKeys):
    global_quant_config: _QuarkLayer | None = None
    layer_quant_config: dict[str, _QuarkLayer] = Field(default_factory=dict)
    exclude: list[str] | None = None
    kv_cache_quant_config: dict[str, _QuarkLayer] | None = None
    export: _QuarkExport = Field(default_factory=_QuarkExport)


def quark(section: Section) -> Said:
    """AMD's Quark: one global configuration, exceptions by glob, and a list of what is left out."""
    keys = read(_Quark, section)
    left_out = tuple(keys.exclude or ())
    skipped = any_of(left_out)
    special = [
        (any_of([name]), _quark_scheme(layer)) for name, layer in keys.layer_quant_config.items()
    ]
    usual = _quark_scheme(keys.global_quant_config) if keys.global_quant_config else None

    def choose(name: str) -> Scheme | None:
        """Return how a module is stored; None in the precision of the model."""
        if name == LM_HEAD or skipped(name):
            return None
        return next((scheme for matches, scheme in special if matches(name)), usual)

    return Said(method="quark", choose=choose, listed=left_out, kv_fp8=_quark_kv_fp8(keys))


def _quark_kv_fp8(keys: _Quark) -> bool:
    """Tell whether the outputs of the key and value projections, so the cache, are fp8.

    Newer files say it in ``kv_cache_quant_config``; older ones among the layers, for the
    projections that ``export.kv_cache_group`` names.
    """
    group = keys.export.kv_cache_group or ()
    layers = [layer for name, layer in keys.layer_quant_config.items() if name in group]
    layers += (keys.kv_cache_quant_config or {}).values()
    outputs = [layer.output_tensors for layer in layers if layer.output_tensors]
    for output in outputs:
        if not output.dtype.startswith("fp8"):
            raise refused(f"{output.dtype} KV cache of quark", "is not modelled, expected fp8")
    return bool(outputs)


def _quark_scheme(layer: _QuarkLayer) -> Scheme | None:
    weight, inputs = layer.weight, layer.input_tensors
    if weight is None:
        return None
    kind = weight.dtype.removesuffix("_e4m3").removeprefix("u")
    if inputs is not None and inputs.dtype != weight.dtype:
        raise refused(f"{weight.dtype} weights with {inputs.dtype} inputs of quark")
    found: dict[tuple[str, bool], Scheme] = {
        ("fp8", True): FP8_TENSOR if weight.qscheme == "per_tensor" else FP8_CHANNEL,
        ("fp8", False): FP8_ONLY,
        ("int8", True): INT8_CHANNEL,
        ("int8", False): INT8_ONLY,
        ("fp4", True): MXFP4,
        ("fp4", False): MXFP4_ONLY,
        ("int4", False): grouped(4, weight.group_size or -1, zeros=weight.symmetric is False),
    }
    if (kind, inputs is not None) not in found:
        raise refused(f"{weight.dtype} weights of quark")
    return found[kind, inputs is not None]
