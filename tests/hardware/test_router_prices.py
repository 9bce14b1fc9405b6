"""Routers: narrow products, and those that are computed in float32."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.engines.constants import engine_calibration
from hardware.gpu import Gpu, load_gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from model.operators import Operator
from model.precision import precision
from model.spec import load_spec

GPU = load_gpu("h200-sxm")


def product_of(group: Group, tokens: float) -> Operator:
    """The router of the first kind of layers."""
    named = (one for one in group.token_operators(tokens) if one.name == "router")
    return next(one for one in named if one.gemm is not None)


def router_s(model: str, tokens: float, gpu: Gpu = GPU) -> float:
    group = Group(spec=load_spec(model), gpu=gpu, tp=4, precision=precision())
    prices = prices_of(gpu, engine_calibration("vllm", gpu), fused=True)
    router = product_of(group, tokens)
    return float(prices.operators_s([router], 0)) / router.layers


def test_prompts_wait_for_the_arithmetic_of_float32() -> None:
    """3,072 x 256, at what long computing leaves of the peak, and the way along the inputs."""
    flops = 2 * 8192 * 3072 * 256
    expected = flops / (0.87 * GPU.peak("fp32")) + 3072 * 3.3e-9
    assert router_s("minimax-m2.5", 8192.0) == pytest.approx(expected)
    assert router_s("deepseek-v3", 8192.0) < 0.5 * router_s("minimax-m2.5", 8192.0)


@pytest.mark.parametrize(
    ("rows", "measured_us"),
    [
        (4, 20.2),
        (16, 22.3),
        (64, 63.3),
        (128, 69.3),
        (256, 77.8),
        (512, 96.8),
        (1024, 111),
    ],
)
def test_float32_on_blackwell_is_as_it_was_published(rows: int, measured_us: float) -> None:
    """Of 6,144 inputs and 256 experts (vLLM's pull request 47973); of 3,072 here, half."""
    gpu = load_gpu("gb200")
    found_us = 1e6 * router_s("minimax-m2.5", float(rows), gpu)
    assert found_us == pytest.approx(measured_us / 2, rel=0.2)


def test_few_rows_in_float32_take_longer_than_in_16_bits() -> None:
    """On Hopper, where inputs are always split: 10 us of 3,072."""
    assert 1e6 * router_s("minimax-m2.5", 64.0) == pytest.approx(10.1, rel=0.2)
    assert router_s("minimax-m2.5", 64.0) > 1.4 * router_s("deepseek-v3", 64.0) * 3072 / 7168


@pytest.mark.parametrize("model", ["gpt-oss-120b", "gpt-oss-20b", "llama-4-scout"])
@pytest.mark.parametrize("rows", [1.0, 64.0])
def test_few_experts_take_as_long_to_choose_from_as_256(model: str, rows: float) -> None:
    """32 and 128 outputs of 2,880 inputs take 5.9 us on H100 (vLLM's pull request 37205)."""
    assert 1e6 * router_s(model, rows, load_gpu("h100-sxm")) == pytest.approx(5.9, rel=0.2)


def test_other_narrow_products_follow_the_roofline() -> None:
    """Those of whole layers are part of their tables."""
    prices = prices_of(GPU, engine_calibration("vllm", GPU), fused=True)
    group = Group(spec=load_spec("gpt-oss-120b"), gpu=GPU, tp=4, precision=precision())
    router = product_of(group, 1.0)
    other = replace(router, name="index")
    assert np.all(prices.operators_s([other], 0) < 0.6 * prices.operators_s([router], 0))


@pytest.mark.parametrize("model", ["minimax-m2.5", "glm-4.5-air", "glm-4.6"])
def test_inputs_are_widened_before(model: str) -> None:
    group = Group(spec=load_spec(model), gpu=GPU, tp=4, precision=precision())
    operators = {one.name: one for one in group.token_operators(64.0)}
    hidden = group.spec.hidden_size
    assert operators["router_inputs"].activation_bytes == 64 * hidden * 6
    assert operators["router"].compute == "fp32"
