"""Decodes beside a prompt's chunk in one call of FlashAttention 2."""

import numpy as np
import pytest

from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from hardware.prices.beside import BLOCK_TILES, IDLE_TILES
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.alike import attention_of
from model.precision import precision
from model.spec import load_spec

MEASURED_US = [
    # GPU, model, chunk, decodes, context of each: the attention of one layer, in vLLM 0.19.
    # Source: LLMServingSim (MIT), profiler, attention of mixed batches, 2026-08.
    ("rtx-pro-6000", "llama-3.1-8b", 64, 64, 512, 182.2),
    ("rtx-pro-6000", "llama-3.1-8b", 256, 64, 1024, 325.1),
    ("rtx-pro-6000", "llama-3.1-8b", 1024, 64, 512, 278.4),
    ("rtx-pro-6000", "qwen3-32b", 64, 64, 512, 340.2),
    ("rtx-pro-6000", "qwen3-32b", 512, 64, 1024, 658.1),
    ("rtx-pro-6000", "qwen3-32b", 2048, 64, 512, 855.9),
    ("rtx-4090", "llama-3.1-8b", 64, 64, 512, 365.8),
    ("rtx-4090", "llama-3.1-8b", 512, 64, 1024, 707.6),
]


def cost_of(
    gpu: str, model: str, version: str = "vllm-0.15", *, cache: str = "auto", tp: int = 1
) -> StepCost:
    spec, one = load_spec(model), load_gpu(gpu)
    numbers = precision(kv_cache_dtype=cache)
    return step_cost(
        StepSetup(
            spec=spec, gpu=one, tp=tp, precision=numbers, max_tokens=4096, max_seqs=128,
            calibration=engine_calibration(version, one),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "model", "chunk", "decodes", "context", "measured_us"), MEASURED_US
)
def test_attention_of_mixed_steps_is_as_measured(
    gpu: str, model: str, chunk: int, decodes: int, context: int, measured_us: float
) -> None:
    prices, layers = cost_of(gpu, model).prices, load_spec(model).num_layers
    together_s = prices.attention_s(decodes, [decodes * context], [(chunk, 0)])
    found_us = together_s / layers * 1e6
    assert found_us == pytest.approx(measured_us, rel=0.25)
    chunk_s = prices.attention_s(0, [0], [(chunk, 0)])
    apart_s = prices.attention_s(decodes, [decodes * context], []) + chunk_s
    assert apart_s < 0.85 * together_s


def test_the_law_is_that_of_tiles() -> None:
    """Long contexts, few enough heads share a key that reading is not what counts."""
    cost, spec, gpu = cost_of("a100-80gb-sxm", "qwen3-32b"), load_spec("qwen3-32b"), "a100-80gb-sxm"
    heads, size = attention_of(spec).num_heads, attention_of(spec).head_dim
    share = engine_calibration("vllm-0.15", load_gpu(gpu)).attention_beside_flops
    tile_s = spec.num_layers * heads * 4 * 64 * 128 * size / (load_gpu(gpu).peak("bf16") * share)
    decodes, context, chunk = 100, 1280, 640
    both_s = cost.prices.attention_s(decodes, [decodes * context], [(chunk, 0)])
    chunk_s = cost.prices.attention_s(0, [0], [(chunk, 0)]) - cost.chunk_cost.launch_s
    tiles = decodes * (context / 128 + BLOCK_TILES + IDLE_TILES * chunk / 64)
    np.testing.assert_allclose(both_s - chunk_s, tiles * tile_s, rtol=0.01)  # softmax apart
    # The longest chunk decides how many tiles are launched for each decode.
    more_s = cost.prices.attention_s(decodes, [decodes * context], [(chunk, 0), (64, 0)])
    other_s = cost.prices.attention_s(0, [0], [(64, 0)]) - cost.chunk_cost.launch_s
    np.testing.assert_allclose(more_s - both_s, other_s, rtol=1e-9)


@pytest.mark.parametrize(
    ("gpu", "version", "cache"),
    [
        ("h100-sxm", "vllm-0.15", "auto"),  # FlashAttention 3
        ("b200-sxm", "vllm-0.15", "auto"),  # FlashInfer
        ("l40s", "vllm-0.15", "fp8"),  # FlashInfer, for the cache's sake
        ("a100-80gb-sxm", "vllm-0.6", "auto"),  # two kernels
    ],
)
def test_kernels_of_their_own_add_up(gpu: str, version: str, cache: str) -> None:
    cost = cost_of(gpu, "llama-3.1-8b", version, cache=cache)
    assert cost.beside is None
    prices, chunks = cost.prices, [(256, 0)]
    chunk_s = prices.attention_s(0, [0], chunks) - cost.chunk_cost.launch_s
    apart_s = prices.attention_s(64, [64_000], []) + chunk_s
    np.testing.assert_allclose(prices.attention_s(64, [64_000], chunks), apart_s, rtol=1e-12)


def test_a_step_of_decodes_alone_is_as_before() -> None:
    cost = cost_of("a100-80gb-sxm", "llama-3.1-8b")
    apart = cost_of("a100-80gb-sxm", "llama-3.1-8b", "vllm-0.6")
    assert cost.beside is not None
    alone = [each.prices.attention_s(32, [32_000], []) for each in (cost, apart)]
    assert alone[0] == alone[1]
