"""What quantization sections of checkpoints mean: bytes of every format, and lists of modules."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.alike import dense_of
from model.ops import rank_weight_bytes, tensor_parallel_sizes, token_operators
from model.precision import precision
from model.quantization.methods import READERS
from model.quantization.scheme import FP8_TENSOR
from model.spec import ConfigError, DecoderSpec, load_spec, spec_from_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
ATTENTION = 512 * (512 + 2 * 256) + 512 * 512
MLP = 3 * 512 * 1024
LINEAR = 4 * (ATTENTION + MLP)
ROWS = 512 + 2 * 256 + 512 + 2 * 1024 + 512
"""Outputs of the matrices of a layer."""
REST = 2 * (2 * 1024 * 512 + 9 * 512)
"""Bytes of embedding, LM head and norms."""
PARTS = ("gate", "up", "down")
MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 256,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "head_dim": 64,
}
GROUP = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}


FP8_NUMBERS = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}


def quark_fp8(**keys: Any) -> dict[str, Any]:
    layer = {"weight": FP8_NUMBERS, "input_tensors": FP8_NUMBERS}
    told = layer | {"output_tensors": FP8_NUMBERS}
    layers = {"*k_proj": told, "*v_proj": told}
    section = {"quant_method": "quark", "exclude": ["lm_head"], "global_quant_config": layer}
    return section | {"layer_quant_config": layers} | keys


def spec_of(section: dict[str, Any] | None, base: dict[str, Any] = LLAMA) -> DecoderSpec:
    config = base if section is None else base | {"quantization_config": section}
    return spec_from_config(config, "tiny")


def weight_bytes(spec: DecoderSpec, tp: int = 1) -> float:
    numbers = precision("bfloat16", spec.checkpoint.weights)
    return rank_weight_bytes(spec, precision=numbers, tp=tp)


def groups(weights: dict[str, Any] | None, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


@pytest.mark.parametrize(
    ("section", "bits", "numbers"),
    [
        # 4 bits, a 16-bit scale (and a 4-bit zero) per group along the inputs.
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4 + 16 / 128, "int4"),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": False},
            4 + 20 / 128,
            "int4",
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 8 + 16 / 32, "int8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, 4 + 16 / 32, "int4"),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            4 + 20 / 128,
            "int4",
        ),
        ({"w_bit": 4, "q_group_size": 64, "zero_point": True}, 4 + 20 / 64, "int4"),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
            4 + 16 / 128,
            "int4",
        ),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4}}},
            4 + 32 / 64,
            "int4",
        ),
        (groups(GROUP), 4 + 16 / 128, "int4"),
        (groups(GROUP | {"symmetric": False, "group_size": 64}), 4 + 20 / 64, "int4"),
        # 8 bits, one fp32 scale per 128 x 128 block.
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2, "fp8"),
        # A 4-bit number, an 8-bit scale per 16 (NVFP4) or 32 (MXFP4).
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5, "fp4"),
        ({"quantization": {"quant_algo": "NVFP4", "group_size": 16}}, 4.5, "fp4"),
        (
            groups(FLOAT8 | {"num_bits": 4, "strategy": "group", "group_size": 16}),
            4.5,
            "fp4",
        ),
        (
            groups(FLOAT8 | {"num_bits": 4, "strategy": "group", "group_size": 32}),
            4.25,
            "fp4",
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {
                    "weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32},
                    "input_tensors": {"dtype": "fp4"},
                },
            },
            4.25,
            "fp4",
        ),
        # bitsandbytes: fp32 scales per 64 weights.
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5, "nf4"),
    ],
)
def test_bits_of_a_weight(section: dict[str, Any], bits: float, numbers: str) -> None:
    spec = spec_of(section)
    assert weight_bytes(spec) == LINEAR * bits / 8 + REST
    main = spec.checkpoint.weights.main
    assert main is not None
    assert main.numbers == numbers


@pytest.mark.parametrize(
    ("section", "scales", "compute"),
    [
        # One fp32 scale per output channel, or per matrix (7 in a layer).
        (groups(INT8, INT8 | {"strategy": "token", "dynamic": True}), ROWS, "int8"),
        (groups(INT8), ROWS, None),
        (groups(FLOAT8, FLOAT8 | {"strategy": "token", "dynamic": True}), ROWS, "fp8"),
        (groups(FLOAT8), ROWS, None),
        ({"quant_method": "fbgemm_fp8"}, ROWS, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ROWS, None),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 7, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}, 7, "fp8"),
    ],
)
def test_eight_bits(section: dict[str, Any], scales: int, compute: str | None) -> None:
    spec = spec_of(section)
    assert weight_bytes(spec) == LINEAR + 4 * 4 * scales + REST
    assert {scheme.compute for scheme in spec.checkpoint.weights.schemes()} == {compute}


def test_activation_order_keeps_an_index_and_every_ranks_scales() -> None:
    section = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}
    spec = spec_of(section)
    inputs = 3 * 512 + 512 + 2 * 512 + 1024  # of query, key, value, output, gate, up and down
    assert weight_bytes(spec) == LINEAR * 4.125 / 8 + 4 * 8 * inputs + REST
    # At two ranks output and down have half the inputs, but the scales of all of them.
    halves = 4 * (512 * 512 + 512 * 1024)
    rank = (LINEAR / 2) * 4.125 / 8 + halves / 2 / 128 * 2
    rank += 4 * 8 * (3 * 512 + 256 + 2 * 512 + 512)
    assert weight_bytes(spec, 2) == rank + 1024 * 512 * 2 + 9 * 512 * 2


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


@pytest.mark.parametrize(
    ("section", "fp8"),
    [
        ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, True),
        (groups(GROUP) | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, True),
        (groups(GROUP) | {"kv_cache_scheme": None}, False),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}, True),
        ({"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}, True),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, False),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, False),
        # As AutoFP8 and AMD's Quark write it.
        ({"quant_method": "fp8", "activation_scheme": "static", "kv_cache_scheme": "static"}, True),
        (quark_fp8(export={"kv_cache_group": ["*k_proj", "*v_proj"]}), True),
        (quark_fp8(export={"kv_cache_group": []}), False),
        (quark_fp8(kv_cache_quant_config={"*k_proj": {"output_tensors": FP8_NUMBERS}}), True),
    ],
)
def test_a_kv_cache_in_fp8(section: dict[str, Any], fp8: bool) -> None:
    assert spec_of(section).checkpoint.kv_fp8 is fp8


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"quant_method": "aqlm"}, "quant_method = 'aqlm' is not modelled, expected one of gptq"),
        ({"quant_method": "torchao"}, "quant_method = 'torchao' is not modelled"),
        ({"quant_method": "gptqq"}, r"quant_method = 'gptqq': did you mean gptq\? Expected one of"),
        ({"bits": 4}, "quant_method is missing"),
        ({"quant_method": "gptq", "bits": 5}, "bits = 5: expected one of 2, 3, 4, 8"),
        ({"quant_method": "gptq", "bits": "many"}, "bits = 'many': expected a valid integer"),
        ({"quant_method": "awq", "group_size": 0}, "group_size = 0: expected -1 or a positive"),
        ({"quant_method": "modelopt", "quant_algo": "W3"}, "quant_algo = 'W3' is not modelled"),
        (
            {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}},
            "kv_cache_quant_algo = 'NVFP4' is not modelled",
        ),
        (groups(INT8 | {"num_bits": 4, "type": "int"}, INT8), "int4 weights with int8 inputs"),
        (groups(GROUP | {"num_bits": 3}), "int3 weights by group is not modelled"),
        (groups(GROUP) | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity"),
        (groups(GROUP) | {"ignore": ["re:["]}, "is no regular expression"),
        ({"quant_method": "bitsandbytes"}, "expected load_in_4bit or load_in_8bit"),
        ([1], "expected a mapping or null"),
    ],
)
def test_sections_that_have_no_price(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"tiny: quantization_config of config.json.*{message}"):
        spec_of(section)


VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["fp8", "int", "float", "re:(", "*", "model.layers.0", "NVFP4", "lm_head"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = (
    "bits", "group_size", "desc_act", "sym", "zero_point", "dynamic", "weight_block_size",
    "modules_to_not_convert", "ignore", "config_groups", "kv_cache_scheme", "quant_algo",
    "quantization", "quantized_layers", "exclude_modules", "load_in_4bit", "extra_config",
    "global_quant_config", "quant_config", "format", "sparsity_config", "lm_head",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from([*READERS, "aqlm", "nonsense"]) | VALUES,
    section=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
)
def test_any_section_is_read_or_refused(method: object, section: dict[str, Any]) -> None:
    """Bytes between those of 2 bits and of 32, or one error of this project's own."""
    try:
        spec = spec_of({"quant_method": method, **section})
    except ConfigError:
        return
    assert LINEAR / 4 < weight_bytes(spec) < 5 * LINEAR + REST


def test_files_beside_the_config(tmp_path: Path) -> None:
    """config.json goes before hf_quant_config.json, and that before the files of GPTQ and AWQ."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert load_spec(folder).checkpoint.weights.method is None
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4, "desc_act": False}))
    assert load_spec(folder).checkpoint.weights.method == "gptq"
    modelopt = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(modelopt))
    found = load_spec(folder).checkpoint
    assert (found.weights.method, found.kv_fp8) == ("modelopt", True)
    assert str(found.weights) == "fp8, from hf_quant_config.json"
    awq = LLAMA | {"quantization_config": {"quant_method": "awq"}}
    (folder / "config.json").write_text(json.dumps(awq))
    found = load_spec(folder).checkpoint
    assert (found.weights.method, found.kv_fp8) == ("awq", False)
    assert str(found.weights) == (
        "int4, groups of 128 with zeros, weights only, from quantization_config of config.json"
    )


def test_llama_405b_fp8_as_meta_published_it_first() -> None:
    """57.75 GiB of weights a rank at TP 8 (vllm-project/vllm issue 6746, 2024-07-24).

    The MLPs of all layers but the first and the last are in fp8; attention is in bf16, and has 16
    KV heads in that upload.
    """
    spec = load_spec("llama-3.1-405b")
    config = {
        "model_type": "llama",
        "hidden_size": spec.hidden_size,
        "intermediate_size": dense_of(spec).width,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
        "num_key_value_heads": 16,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "quantization_config": {
            "quant_method": "fbgemm_fp8",
            "modules_to_not_convert": [
                "lm_head",
                *(f"model.layers.{i}.self_attn.{p}_proj" for i in range(126) for p in "qkvo"),
                *(
                    f"model.layers.{i}.mlp.{p}_proj"
                    for i in (0, 125)
                    for p in ("gate", "up", "down")
                ),
            ],
        },
    }
    found = weight_bytes(spec_from_config(config, "405b"), 8)
    assert found / 2**30 == pytest.approx(57.75, rel=0.001)


def test_experts_in_mxfp4_are_filled_up_to_whole_groups() -> None:
    """gpt-oss-120b: 2,880 inner numbers are 90 groups of 32, of which 4 ranks hold 23 each."""
    spec = load_spec("gpt-oss-120b")
    numbers = precision("bfloat16", spec.checkpoint.weights)
    assert tensor_parallel_sizes(spec, 8, numbers) == (1, 2, 4, 8)
    one, four = (rank_weight_bytes(spec, precision=numbers, tp=tp) for tp in (1, 4))
    of_group = 36 * 128 * 3 * 2880 * 32 * 4.25 / 8
    experts = 90 * of_group
    rest = one - experts
    assert four > 23 * of_group + rest / 4
    assert four < 23 * of_group + rest / 4 + 0.1e9
