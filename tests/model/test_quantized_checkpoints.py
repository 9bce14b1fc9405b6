"""What quantization sections of checkpoints mean: bytes of every format, and lists of modules."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.alike import dense_of
from model.from_config import spec_from_config
from model.ops import rank_weight_bytes, tensor_parallel_sizes
from model.precision import precision
from model.quantization.methods import READERS
from model.spec import ConfigError, load_spec
from tests.model.quantized_configs import (
    FLOAT8,
    FP8_NUMBERS,
    GROUP,
    INT8,
    LINEAR,
    LLAMA,
    REST,
    ROWS,
    groups,
    quark_fp8,
    spec_of,
    weight_bytes,
)
from tests.tries import tries


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


MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8"}


@pytest.mark.parametrize(
    ("section", "fp8"),
    [
        ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, True),
        (groups(GROUP) | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, True),
        (groups(GROUP) | {"kv_cache_scheme": None}, False),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}, True),
        ({"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}, True),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, False),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "fp8"}}, True),
        # A scheme goes before the name of an algorithm; older files have one in its place.
        (MODELOPT | {"kv_cache_scheme": "FP8"}, True),
        (MODELOPT | {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}, True),
        (MODELOPT | {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": True}}, False),
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
        ({"quant_method": "gptqq"}, r"quant_method = 'gptqq': did you mean gptq\? Expected one of"),
        ({"bits": 4}, "quant_method is missing"),
        (
            {"quant_method": "gptq", "bits": 5, "group_size": 128},
            "bits = 5: expected one of 2, 3, 4, 8",
        ),
        ({"quant_method": "gptq", "group_size": 128}, "bits is missing"),
        ({"quant_method": "awq", "w_bit": 4}, "group_size is missing"),
        ({"quant_method": "hqq"}, "nbits is missing"),
        ({"quant_method": "modelopt"}, "quant_algo is missing: how the weights are stored is said"),
        ({"quant_method": "gptq", "bits": "many"}, "bits = 'many': expected a valid integer"),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 0},
            "group_size = 0: expected -1 or a positive",
        ),
        ({"quant_method": "modelopt", "quant_algo": "W3"}, "quant_algo = 'W3' is not modelled"),
        (
            {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}},
            "kv_cache_quant_algo = 'NVFP4' is not modelled",
        ),
        (groups(INT8 | {"num_bits": 4, "type": "int"}, INT8), "int4 weights with int8 inputs"),
        (groups(GROUP | {"num_bits": 3}), "int3 weights by group is not modelled"),
        (groups(GROUP) | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity"),
        (groups(GROUP) | {"ignore": ["re:["]}, "is no regular expression"),
        (groups(GROUP) | {"transform_config": {"config_groups": {"R1": {}}}}, "transform_config"),
        (groups(FLOAT8 | {"strategy": "group", "group_size": 128}), "float8 weights by group"),
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


@tries(200)
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
    gptq = {"bits": 4, "group_size": 128, "desc_act": False}
    (folder / "quantize_config.json").write_text(json.dumps(gptq))
    assert load_spec(folder).checkpoint.weights.method == "gptq"
    modelopt = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(modelopt))
    found = load_spec(folder).checkpoint
    assert (found.weights.method, found.kv_fp8) == ("modelopt", True)
    assert str(found.weights) == "fp8, from hf_quant_config.json"
    named = LLAMA | {"quantization_config": {"quant_method": "modelopt"}}
    (folder / "config.json").write_text(json.dumps(named))
    assert load_spec(folder).checkpoint == found
    awq = LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
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
