"""Routers that are computed in float32: fast in small steps, slow in prompts."""

import pytest

from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from model.precision import precision
from model.spec import load_spec

GPU = load_gpu("h200-sxm")


def router_s(model: str, tokens: float) -> float:
    group = Group(spec=load_spec(model), gpu=GPU, tp=4, precision=precision())
    prices = prices_of(GPU, engine_calibration("vllm", GPU), fused=True)
    (router,) = (one for one in group.token_operators(tokens) if one.name == "router")
    return float(prices.operators_s([router], 0))


def test_prompts_wait_for_the_arithmetic_of_float32() -> None:
    """62 layers of 3,072 x 256, at what long computing leaves of the peak."""
    flops = 62 * 2 * 8192 * 3072 * 256
    assert router_s("minimax-m2.5", 8192.0) == pytest.approx(flops / (0.87 * GPU.peak("fp32")))


def test_few_rows_take_what_16_bits_take() -> None:
    """Qwen3-235B-A22B has 94 layers of 4,096 x 128, DeepSeek-V3 58 of 7,168 x 256."""
    of_layer = router_s("minimax-m2.5", 8.0) / 62
    assert of_layer < 1.1 * router_s("deepseek-v3", 8.0) / 58
    assert router_s("deepseek-v3", 8192.0) / 58 < 0.5 * router_s("minimax-m2.5", 8192.0) / 62


@pytest.mark.parametrize("model", ["minimax-m2.5", "glm-4.5-air", "glm-4.6"])
def test_inputs_are_widened_before(model: str) -> None:
    group = Group(spec=load_spec(model), gpu=GPU, tp=4, precision=precision())
    operators = {one.name: one for one in group.token_operators(64.0)}
    hidden = group.spec.hidden_size
    assert operators["router_inputs"].activation_bytes == 64 * hidden * 6
    assert operators["router"].compute == "fp32"
