"""Checkpoints of torchao: what its configurations store, and which have no price."""

from typing import Any

import pytest

from model.errors import ConfigError
from model.quantization.scheme import (
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_ONLY,
    FP8_TENSOR,
    INT8_CHANNEL,
    INT8_ONLY,
    Scheme,
)
from tests.model.quantized_configs import LINEAR, MOE, REST, spec_of, weight_bytes

FLOAT8 = "Float8DynamicActivationFloat8WeightConfig"
PER_ROW = {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}
PER_BLOCK = {"_type": "PerBlock", "_version": 1, "_data": {"block_size": [128, 128]}}


def torchao(name: str, **data: object) -> dict[str, Any]:
    """A section with one configuration."""
    told = {"_type": name, "_version": 1, "_data": data}
    return {"quant_method": "torchao", "quant_type": {"default": told}}


@pytest.mark.parametrize("group", [None, 64])
def test_groups_of_four_bits_have_a_scale_and_a_zero_in_16(group: int | None) -> None:
    spec = spec_of(torchao("Int4WeightOnlyConfig", **({"group_size": group} if group else {})))
    assert weight_bytes(spec) == LINEAR * (4 + 32 / (group or 128)) / 8 + REST


@pytest.mark.parametrize(
    ("section", "scheme"),
    [
        (torchao("Int8WeightOnlyConfig", group_size=None), INT8_ONLY),
        (torchao("Int8DynamicActivationInt8WeightConfig"), INT8_CHANNEL),
        (torchao("Float8WeightOnlyConfig"), FP8_ONLY),
        (torchao(FLOAT8), FP8_TENSOR),
        (torchao(FLOAT8, granularity={"_type": "PerTensor"}), FP8_TENSOR),
        (torchao(FLOAT8, granularity=[PER_ROW, PER_ROW]), FP8_CHANNEL),
        (torchao(FLOAT8, granularity=[PER_ROW, PER_BLOCK]), FP8_BLOCKS),
        (
            torchao("ModuleFqnToConfig", module_fqn_to_config={
                "_default": {"_type": "Int8WeightOnlyConfig"}, "lm_head": None,
            }),
            INT8_ONLY,
        ),
    ],
)  # fmt: skip
def test_eight_bits(section: dict[str, Any], scheme: Scheme) -> None:
    weights = spec_of(section).checkpoint.weights
    assert (weights.method, weights.schemes()) == ("torchao", (scheme,))


def test_what_lists_leave_out_and_experts_stay_in_16_bits() -> None:
    section = torchao("Float8WeightOnlyConfig") | {"modules_to_not_convert": ["self_attn"]}
    weights = spec_of(section).checkpoint.weights
    assert weights.of("qkv_proj", range(4)) == ((None, 4),)
    assert weights.of("mlp_down", range(4)) == ((FP8_ONLY, 4),)
    experts = spec_of(torchao("Float8WeightOnlyConfig"), MOE).checkpoint.weights
    assert experts.of("experts", range(4)) == ((None, 4),)
    assert experts.of("qkv_proj", range(4)) == ((FP8_ONLY, 4),)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"quant_method": "torchao"}, "quant_type is missing"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "expected a valid dict"),
        ({"quant_method": "torchao", "quant_type": {}}, "expected default alone"),
        ({"quant_method": "torchao", "quant_type": {"default": 8}}, "expected a mapping with"),
        (torchao("Int8DynamicActivationInt4WeightConfig"), "Int4WeightConfig of torchao is not"),
        (torchao("Int8WeightOnlyConfig", group_size=32), "with group_size = 32 is not modelled"),
        (torchao(FLOAT8, granularity={"_type": "PerGroup"}), "granularity = PerGroup of Float8"),
        (torchao("FqnToConfig", fqn_to_config={"re:.*": None}), "FqnToConfig without _default"),
        (
            torchao("FqnToConfig", fqn_to_config={
                "_default": {"_type": "Float8WeightOnlyConfig"},
                "model.embed_tokens": {"_type": "IntxWeightOnlyConfig"},
            }),
            "a configuration of its own for model.embed_tokens is not modelled",
        ),
        (
            torchao("Int8WeightOnlyConfig") | {"include_input_output_embeddings": True},
            "include_input_output_embeddings of torchao",
        ),
    ],
)  # fmt: skip
def test_configurations_without_a_price(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"quantization_config of config.json.*{message}"):
        spec_of(section)
