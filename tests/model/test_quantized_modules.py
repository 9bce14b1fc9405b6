"""Which modules of a checkpoint are quantised, and how each."""

from typing import Any

import pytest

from model.ops import token_operators
from model.precision import precision
from model.quantization.scheme import FP8_TENSOR
from model.spec import ConfigError
from tests.model.quantized_configs import (
    FLOAT8,
    GROUP,
    LINEAR,
    MLP,
    MOE,
    REST,
    groups,
    spec_of,
    weight_bytes,
)


@pytest.mark.parametrize(
    "section",
    [
        {"quant_method": "fp8", "modules_to_not_convert": ["self_attn", "model.layers.3"]},
        {"quant_method": "fp8", "ignored_layers": ["model.layers.3.mlp", "self_attn"]},
        {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["*self_attn*", "*layers.3.*"]},
        {
            "quantization": {
                "quant_algo": "FP8",
                "exclude_modules": ["model.layers.*.self_attn", "model.layers.3*", "lm_head"],
            }
        },
        {
            "quantization": {
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {
                    f"model.layers.{i}.mlp.{name}_proj": {"quant_algo": "FP8"}
                    for i in range(3)
                    for name in ("gate", "up", "down")
                },
            }
        },
        {
            "quant_method": "quark",
            "global_quant_config": {
                "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
                "input_tensors": {"dtype": "fp8_e4m3"},
            },
            "exclude": ["re:.*self_attn.*", "model.layers.3.mlp.*"],
        },
        groups(
            FLOAT8 | {"strategy": "tensor"}, FLOAT8 | {"strategy": "tensor"}
        )
        | {"ignore": ["lm_head", "re:.*self_attn.*", r"re:.*layers\.3\.mlp\.(gate|up|down)_proj"]},
        groups(FLOAT8 | {"strategy": "tensor"}, FLOAT8 | {"strategy": "tensor"})
        | {"ignore": ["language_model.model.layers.3", "re:.*self_attn.*"]},
    ],
)  # fmt: skip
def test_lists_of_modules_are_honoured_in_bytes_and_prices(section: dict[str, Any]) -> None:
    """Attention, and all of the last of four layers, stay in 16 bits: three MLPs are quantized."""
    spec = spec_of(section)
    assert weight_bytes(spec) == 3 * (MLP + 3 * 4) + 2 * (LINEAR - 3 * MLP) + REST
    weights = spec.checkpoint.weights
    assert weights.of("qkv_proj", range(4)) == ((None, 4),)
    assert weights.of("mlp_down", range(4)) == ((FP8_TENSOR, 3), (None, 1))
    operators = token_operators(spec, 1, precision=precision("bfloat16", weights))
    found = [(one.layers, one.compute) for one in operators if one.name == "mlp_up"]
    assert found == [(3, "fp8"), (1, "bf16")]
    assert [one.compute for one in operators if one.name == "qkv_proj"] == ["bf16"]
    assert "in part of the layers" in str(weights)


def test_groups_of_different_numbers() -> None:
    """A target that names modules goes before the one that means all."""
    section = groups(FLOAT8, FLOAT8)
    section["config_groups"]["group_1"] = {
        "targets": ["re:.*down_proj"],
        "weights": GROUP | {"group_size": 64},
    }
    weights = spec_of(section).checkpoint.weights
    assert [str(scheme) for scheme, _ in weights.of("mlp_down", range(4))] == [
        "int4, groups of 64, weights only"
    ]
    assert [str(scheme) for scheme, _ in weights.of("mlp_up", range(4))] == ["fp8, channels"]


def test_per_module_rules_of_gptq() -> None:
    section = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "dynamic": {r"-:.*\.layers\.0\..*": {}, r"+:.*down_proj": {"bits": 8, "group_size": 32}},
    }
    weights = spec_of(section).checkpoint.weights
    assert [(str(s), n) for s, n in weights.of("qkv_proj", range(4))] == [
        ("None", 1),
        ("int4, groups of 128, weights only", 3),
    ]
    assert [(str(s), n) for s, n in weights.of("mlp_down", range(4))] == [
        ("None", 1),
        ("int8, groups of 32, weights only", 3),
    ]


def test_a_quantized_head_is_quantized_only_where_it_is_named() -> None:
    plain = {"quant_method": "gptq", "bits": 8, "group_size": -1}
    head = 1024 * 512
    assert weight_bytes(spec_of(plain)) - weight_bytes(spec_of(plain | {"lm_head": True})) == (
        2 * head - (head + 2 * 1024)
    )


def test_experts_are_quantized_together() -> None:
    gate = {"quant_method": "awq", "bits": 4, "group_size": 64, "modules_to_not_convert": ["gate"]}
    weights = spec_of(gate, MOE).checkpoint.weights
    assert [scheme is None for scheme, _ in weights.of("experts", range(4))] == [False]
    names = [f"model.layers.1.mlp.experts.{j}" for j in range(8)]
    whole = {"quant_method": "fp8", "modules_to_not_convert": names}
    parts = spec_of(whole, MOE).checkpoint.weights.of("experts", range(4))
    assert parts == (
        (FP8_TENSOR, 3),
        (None, 1),
    )
    with pytest.raises(ConfigError, match=r"experts.0.gate_proj is fp8 but .*experts.3.gate_proj"):
        spec_of({"quant_method": "fp8", "modules_to_not_convert": names[3:4]}, MOE)
    only = spec_of({"quant_method": "mxfp4"}, MOE).checkpoint.weights
    assert only.of("qkv_proj", range(4)) == ((None, 4),)
    assert [str(scheme) for scheme, _ in only.of("experts", range(4))] == [
        "fp4, groups of 32, weights only"
    ]


def test_parts_of_a_joined_matrix_must_agree() -> None:
    section = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.2.self_attn.k_proj"]}
    with pytest.raises(
        ConfigError,
        match=r"quantization_config of config.json: model.layers.2.self_attn.q_proj is fp8 but "
        r"model.layers.2.self_attn.k_proj is 16 bits",
    ):
        spec_of(section)
