"""Experts of one backend or another: by version, or as somebody says."""

from dataclasses import replace

import pytest

from hardware.calibration import DATASHEET, Calibration
from hardware.engines.constants import engine_calibration
from hardware.engines.moe_backends import with_moe_backend
from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from hardware.prices.deep_gemm import around_bytes, tiled_s
from hardware.prices.kernels import Kernels
from model.precision import precision
from model.quantization.scheme import FP8_BLOCKS
from model.quantization.weights import EXPERTS, uniform
from model.spec import load_spec

BLOCKS = replace(precision(), weights=uniform(FP8_BLOCKS, "", None, EXPERTS))
MIXTURE = load_spec("minimax-m2.5")


def served(
    told: str, version: str, gpu: str, calibration: Calibration | None = None, tp: int = 4
) -> Kernels:
    chosen = load_gpu(gpu)
    group = Group(spec=MIXTURE, gpu=chosen, tp=tp, precision=BLOCKS)
    base = calibration or engine_calibration("vllm-0.15", chosen)
    found = with_moe_backend(base, told, version, group, parts=tp).kernels
    assert found is not None
    return found


def shares(told: str, version: str, gpu: str) -> float:
    """Of the roofline, that experts of few rows reach."""
    found = served(told, version, gpu).experts["fp8_block"]
    return float(found(rows=0.25, width=384, experts=256))


def test_versions_choose_other_kernels_on_hopper() -> None:
    """0.15 and 0.16 have FlashInfer's CUTLASS, which walks through all experts of a rank."""
    triton = shares("triton", "0.16", "h200-sxm")
    assert shares("auto", "0.10", "h200-sxm") == triton
    assert shares("auto", "0.16", "h200-sxm") == shares("flashinfer_cutlass", "0.18", "h200-sxm")
    assert shares("auto", "0.16", "h200-sxm") < 0.7 * triton
    assert shares("auto", "0.18", "h200-sxm") == triton


def test_deep_gemm_is_hoppers_before_unless_many_ranks_cut_the_experts() -> None:
    assert served("auto", "0.12", "h200-sxm").tiled_experts == "all"
    assert served("auto", "0.13", "h200-sxm").tiled_experts == "touched"
    assert served("auto", "0.11", "h100-sxm", tp=8).tiled_experts
    assert not served("auto", "0.12", "h100-sxm", tp=8).tiled_experts
    assert not served("auto", "0.12", "b200-sxm").tiled_experts
    assert served("deep_gemm", "0.18", "h200-sxm", tp=8).tiled_experts


def test_deep_gemm_computes_whole_tiles_of_every_expert_that_is_touched() -> None:
    """H800, DeepSeek-V3's experts on one GPU: 3,533 + 1,707 us with a tile each (InferSim)."""
    gpu = load_gpu("h100-sxm")
    spec = load_spec("deepseek-v3")
    group = Group(spec=spec, gpu=gpu, precision=BLOCKS)
    (experts,) = [one for one in group.token_operators(4096.0) if one.name == "experts"]
    all_weights = 256 * 3 * 7168 * 2048
    exact = replace(experts, layers=1, weight_bytes=all_weights, gemm=(256 * 64.0, 3 * 2048, 7168))
    measured = float(tiled_s(exact, gpu, whole_room=False))
    assert measured == pytest.approx(5.24e-3, rel=0.15)
    # Half as many rows cost the same tiles; rooms for the activation hold a tile of every expert.
    fewer = replace(exact, gemm=(256 * 16.0, 3 * 2048, 7168))
    assert float(tiled_s(fewer, gpu, whole_room=False)) == measured
    room = 256 * 16 + 256 * 127
    assert float(around_bytes(fewer)) == room * 9 * 2048 + 256 * 16 * 4 * 7168
    # More than a tile each: half a tile is left empty on average.
    more = replace(exact, gemm=(256 * 512.0, 3 * 2048, 7168))
    assert float(tiled_s(more, gpu, whole_room=False)) == pytest.approx(
        (7.486e-3 + 3.76e-3) * 4.5 / 4, rel=0.1
    )


def test_until_0_12_tiles_of_experts_that_nobody_chose_are_computed_too() -> None:
    """A quarter of the experts has a tile each, and room for the others is three times as much."""
    gpu = load_gpu("h200-sxm")
    group = Group(spec=load_spec("deepseek-v3"), gpu=gpu, precision=BLOCKS)
    (experts,) = [one for one in group.token_operators(64.0) if one.name == "experts"]
    few = replace(experts, layers=1, weight_bytes=64 * 3 * 7168 * 2048, gemm=(64.0, 6144, 7168))
    of_all = replace(few, weight_bytes=256 * 3 * 7168 * 2048, gemm=(256.0 * 128, 6144, 7168))
    whole, touched = (float(tiled_s(few, gpu, whole_room=each)) for each in (True, False))
    computed = float(tiled_s(of_all, gpu, whole_room=False))
    assert touched < whole < computed
    more = replace(few, gemm=(512.0, 6144, 7168))
    assert float(tiled_s(more, gpu, whole_room=True)) == pytest.approx(whole, rel=0.02)


def test_its_steps_are_longer_with_few_tokens_and_shorter_with_many() -> None:
    gpu = load_gpu("h200-sxm")
    base = engine_calibration("vllm-0.8", gpu)
    group = Group(spec=MIXTURE, gpu=gpu, tp=4, precision=BLOCKS)

    def experts_s(told: str, tokens: float) -> float:
        served = with_moe_backend(base, told, "0.12", group, parts=4)
        operators = [one for one in group.token_operators(tokens) if one.name == "experts"]
        return float(prices_of(gpu, served, fused=True).operators_s(operators, 0))

    assert experts_s("deep_gemm", 32.0) > 1.2 * experts_s("triton", 32.0)
    assert experts_s("deep_gemm", 8192.0) < experts_s("triton", 8192.0)


def test_blackwell_can_be_told_to_take_triton() -> None:
    assert shares("triton", "0.17", "b200-sxm") < 0.95 * shares("auto", "0.17", "b200-sxm")
    fastest = shares("flashinfer_trtllm", "0.17", "b200-sxm")
    assert shares("auto", "0.16", "b200-sxm") == fastest


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'flashinfer_trtllm': no prices .* in fp8_block by it"):
        served("flashinfer_trtllm", "0.18", "h200-sxm")
    with pytest.raises(ValueError, match=r"on b200-sxm are known, expected one of auto, flash"):
        served("deep_gemm", "0.18", "b200-sxm")
    with pytest.raises(ValueError, match=r"on h200-sxm are known, expected one of auto$"):
        served("triton", "0.18", "h200-sxm", DATASHEET)
    gpu, dense = load_gpu("h200-sxm"), load_spec("llama-3-8b")
    group = Group(spec=dense, gpu=gpu, precision=precision())
    with pytest.raises(ValueError, match="llama-3-8b, which has no experts"):
        with_moe_backend(engine_calibration("vllm", gpu), "triton", "0.18", group, parts=1)
