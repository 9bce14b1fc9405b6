"""What a GPU makes of quantized weights: its own arithmetic, 16 bits, or a refusal."""

from typing import Any

import pytest

from hardware.arithmetic import runnable
from hardware.gpu import UnsupportedPrecisionError, load_gpu
from hardware.group import Group
from model.from_config import spec_from_config
from model.ops import rank_weight_bytes, tensor_parallel_sizes
from model.precision import precision
from model.quantization.scheme import MXFP4_FP8, MXFP4_MARLIN, MXFP4_ONLY, Scheme
from model.sharding import cut_scales
from model.spec import DecoderSpec, load_spec
from sim.settings.engine_config import EngineConfig, precision_of

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 1536,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def spec_of(section: dict[str, Any] | None, **changes: Any) -> DecoderSpec:
    return spec_from_config(LLAMA | changes | {"quantization_config": section}, "tiny")


@pytest.mark.parametrize(
    ("quantization", "gpu", "compute"),
    [
        ("fp8", "h100", "fp8"),
        ("fp8", "l4", "fp8"),
        ("fp8", "a100", "bf16"),
        ("fp8", "t4", "fp16"),
        ("fp4", "b200", "fp4"),
        ("fp4", "h100", "bf16"),
        ("int8", "a100", "int8"),
        ("awq", "h100", "bf16"),
    ],
)
def test_weights_are_widened_where_a_gpu_cannot_multiply_them(
    quantization: str, gpu: str, compute: str
) -> None:
    """vLLM's Marlin kernel: as many bytes, products in 16 bits."""
    spec = spec_of(None)
    engine = EngineConfig.model_validate({"quantization": quantization})
    numbers = precision_of(engine, spec, load_gpu(gpu))
    assert numbers.main_compute == compute
    wanted = precision(quantization=quantization)
    assert rank_weight_bytes(spec, precision=numbers) == rank_weight_bytes(spec, precision=wanted)


def test_gpus_that_are_too_old() -> None:
    old = load_gpu("v100-32gb-sxm")
    for name in ("awq", "gptq", "fp8"):
        with pytest.raises(UnsupportedPrecisionError, match=r"compute capability 7, but .* 7\.5"):
            runnable(precision("float16", name), old)
    assert runnable(precision("float16", "bitsandbytes"), old).main_compute == "fp16"
    assert runnable(precision("float16"), old) == precision("float16")


@pytest.mark.parametrize(
    ("told", "setting", "method"),
    [
        (AWQ, "auto", "awq"),
        (AWQ, None, "awq"),
        (AWQ, "awq_marlin", "awq"),
        (GPTQ, "gptq_marlin", "gptq"),
        (GPTQ, "int4", "gptq"),
        ({"quantization": {"quant_algo": "NVFP4"}}, "modelopt", "modelopt_fp4"),
        (BLOCKS, "fp8", "fp8"),
        (BLOCKS, "w8a16", "fp8"),
        (None, "auto", None),
        (None, "none", None),
        (None, "awq", "awq"),
    ],
)
def test_a_setting_that_agrees_with_the_checkpoint(
    told: dict[str, Any] | None, setting: str | None, method: str | None
) -> None:
    engine = EngineConfig.model_validate({"quantization": setting})
    numbers = precision_of(engine, spec_of(told), load_gpu("h100"))
    assert numbers.weights.method == method
    assert (numbers.main_compute == "fp8") is (told == BLOCKS and setting == "fp8")


@pytest.mark.parametrize(
    ("told", "setting", "message"),
    [
        (AWQ, "gptq", "'gptq' contradicts the checkpoint: tiny is int4.*'awq'"),
        (GPTQ, "awq_marlin", "contradicts the checkpoint"),
        (AWQ, "none", "'none' contradicts"),
        (AWQ, "fp8", "contradicts"),
        (BLOCKS, "int8", "contradicts"),
        (None, "compressed-tensors", "expected a path to a checkpoint whose config.json"),
        (None, "modelopt", "hf_quant_config.json"),
        (None, "mxfp4", "quantizes experts only, but tiny has none"),
    ],
)
def test_contradictions(told: dict[str, Any] | None, setting: str, message: str) -> None:
    engine = EngineConfig.model_validate({"quantization": setting})
    with pytest.raises(ValueError, match=message):
        precision_of(engine, spec_of(told), load_gpu("h100"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization": "gguf"}, "not modelled, expected one of fp8"),
        ({"quantization": "aqw"}, r"did you mean awq\? Expected one of"),
        ({"kv_cache_dtype": "nvfp4"}, "not modelled, expected one of auto"),
        ({"kv_cache_dtype": "fp9"}, r"did you mean fp8\? Expected one of auto, "),
    ],
)
def test_names_that_are_not_modelled(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineConfig.model_validate(changes)


FP8 = {"num_bits": 8, "type": "float", "dynamic": False}
CHANNELS = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
TENSORS = {"quant_method": "compressed-tensors", "config_groups": {"group_0": CHANNELS}}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8"}
STATIC = {"quant_method": "fp8", "activation_scheme": "static"}


@pytest.mark.parametrize(
    ("section", "since"),
    [(MODELOPT, "0.14"), (TENSORS, "0.15"), (STATIC, None)],
)
def test_a_checkpoints_kv_type_counts_where_the_engine_reads_it(
    section: dict[str, Any], since: str | None
) -> None:
    """Of AutoFP8's files, which ask for it too, vLLM says to set it (``--kv-cache-dtype fp8``)."""
    spec = spec_of(section | {"kv_cache_scheme": FP8})
    assert spec.checkpoint.kv_fp8
    for version in ("0.13.0", "0.14.1", "0.15.1", "0.33"):
        engine = EngineConfig.model_validate({"version": version})
        taken = since is not None and float(version[:4]) >= float(since)
        assert precision_of(engine, spec, load_gpu("h100")).kv_bytes == (1.0 if taken else 2.0)


@pytest.mark.parametrize("name", ["fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "bfloat16", "float16"])
def test_names_of_kv_types(name: str) -> None:
    engine = EngineConfig.model_validate({"kv_cache_dtype": name})
    kept = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    numbers = precision_of(engine, spec_of(kept), load_gpu("h100"))
    assert numbers.kv_bytes == (1.0 if name.startswith("fp8") else 2.0)
    assert precision_of(EngineConfig(), spec_of(kept), load_gpu("h100")).kv_bytes == 1.0


@pytest.mark.parametrize(
    ("dtype", "gpu", "compute"),
    [
        ("float16", "h100", "fp16"),
        ("bfloat16", "h100", "bf16"),
        ("float32", "h100", "bf16"),
        ("bfloat16", "t4", "fp16"),
    ],
)
def test_dtype_auto(dtype: str, gpu: str, compute: str) -> None:
    spec = spec_of(None, torch_dtype=dtype)
    assert precision_of(EngineConfig(), spec, load_gpu(gpu)).compute == compute


def test_ranks_may_not_cut_blocks_or_groups() -> None:
    """Width 1536: 384 at four ranks are three blocks of 128, 192 at eight are none.

    Experts of 768 divide by 2, with 384; at four ranks, 192, they do not.
    """
    block = spec_of(BLOCKS)
    numbers = precision(quantization=block.checkpoint.weights)
    assert tensor_parallel_sizes(block, 16) == (1, 2, 4, 8, 16)
    assert tensor_parallel_sizes(block, 16, numbers) == (1, 2, 4)
    with pytest.raises(ValueError, match=r"does not divide the scales of tiny .* one of 1, 2, 4$"):
        rank_weight_bytes(block, precision=numbers, tp=8)
    experts = spec_of(BLOCKS, **MOE)
    numbers = precision(quantization=experts.checkpoint.weights)
    assert tensor_parallel_sizes(experts, 16, numbers) == (1, 2)
    group = spec_of(GPTQ)
    numbers = precision(quantization=group.checkpoint.weights)
    assert tensor_parallel_sizes(group, 16, numbers) == (1, 2, 4)
    channel = spec_of(GPTQ | {"group_size": -1})
    numbers = precision(quantization=channel.checkpoint.weights)
    assert tensor_parallel_sizes(channel, 16, numbers) == (1, 2, 4, 8, 16)


def test_matrices_that_every_rank_has_are_no_cut_of_blocks() -> None:
    """576 outputs of the latent stay whole: they end within a block of 128 on any rank."""
    spec = load_spec("deepseek-v3")
    numbers = precision("bfloat16", spec.checkpoint.weights)
    assert cut_scales(spec, numbers, 8) == ""
    assert "blocks of 128" in cut_scales(spec, numbers, 128)


@pytest.mark.parametrize(
    ("gpu", "tp", "width", "inputs"),
    [
        ("a100", 1, 2944, 3072),  # Marlin: 128 and 256
        ("rtx-pro-6000", 2, 1536, 3072),
        ("h100", 4, 768, 2880),  # Triton: 64
        ("b200", 1, 3072, 3072),  # TensorRT-LLM: 256 and 256
        ("b200", 8, 512, 3072),
    ],
)
def test_experts_in_mxfp4_are_filled_up_as_their_kernel_needs_it(
    gpu: str, tp: int, width: int, inputs: int
) -> None:
    """gpt-oss has 2,880 of both; a weight takes 4 bits and 8 more every 32."""
    spec, chosen = load_spec("gpt-oss-120b"), load_gpu(gpu)
    numbers = precision_of(EngineConfig(), spec, chosen)
    # As stored with groups of 32 filled up alone: 90 of them, cut among ranks.
    part = -(-2880 // tp // 32) * 32
    plain = precision(quantization=spec.checkpoint.weights)
    more = rank_weight_bytes(spec, precision=numbers, tp=tp) - rank_weight_bytes(
        spec, precision=plain, tp=tp
    )
    assert more == 36 * 128 * 3 * (width * inputs - part * 2880) * 4.25 / 8


@pytest.mark.parametrize(
    ("gpu", "scheme", "expected"),
    [
        ("h100", MXFP4_MARLIN, (1536, 3072)),
        ("h100", MXFP4_ONLY, (1440, 2880)),
        ("b200", MXFP4_FP8, (1536, 3072)),
        ("b200", MXFP4_ONLY, (1440, 2880)),
    ],
)
def test_prices_of_other_experts_are_those_of_whole_tiles(
    gpu: str, scheme: Scheme, expected: tuple[int, int]
) -> None:
    """Marlin's, and those with inputs in fp8; tables of gpt-oss hold what is filled up."""
    spec, card = load_spec("gpt-oss-120b"), load_gpu(gpu)
    weights = spec.checkpoint.weights.map({MXFP4_ONLY: scheme})
    numbers = runnable(precision(quantization=weights), card)
    group = Group(spec=spec, gpu=card, tp=2, precision=numbers)
    experts = {one.gemm for one in group.token_operators(1.0) if one.name == "experts"}
    assert experts == {(4.0, 3 * expected[0], expected[1])}
