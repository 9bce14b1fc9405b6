"""Shapes of experts that Triton was not tuned for, before 0.17."""

import numpy as np
import pytest

from hardware.engines.constants import engine_calibration
from hardware.engines.moe_backends import with_moe_backend
from hardware.engines.moe_configs import takes_small_tiles
from hardware.gpu import load_gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from model.precision import precision
from model.spec import load_spec


@pytest.mark.parametrize(
    ("gpu", "stored", "experts", "width", "version", "small"),
    [
        ("a100-80gb-sxm", "bf16", 128, 192, "0.11.0", False),
        ("a100-80gb-sxm", "bf16", 128, 352, "0.11.0", True),
        ("a100-80gb-sxm", "bf16", 128, 352, "0.17", False),
        ("a100-80gb-sxm", "bf16", 512, 128, "0.10.2", True),
        ("a100-80gb-sxm", "bf16", 512, 128, "0.11", False),
        ("h200-sxm", "bf16", 160, 192, "0.16.0", True),
        ("h200-sxm", "fp8", 160, 192, "0.12", False),
        ("t4", "bf16", 8, 1792, "0.11", True),
        ("h20-3e", "bf16", 128, 192, "0.12", False),
        ("a800-80gb-sxm", "bf16", 64, 640, "0.12", False),
        ("h800-sxm", "bf16", 64, 640, "0.12", True),
    ],
)
def test_files_of_configurations_name_what_is_tuned(
    gpu: str, stored: str, experts: int, width: int, version: str, small: bool
) -> None:
    assert takes_small_tiles(load_gpu(gpu), stored, experts, width, version) is small


def test_a_gpu_like_another_has_its_configurations() -> None:
    changed = load_gpu({"like": "a100-80gb-sxm", "memory_bytes": 40 * 2**30})
    assert not takes_small_tiles(changed, "bf16", 128, 192, "0.11")


def experts_s(model: str, tp: int, version: str, tokens: float) -> float:
    gpu = load_gpu("h100-sxm")
    group = Group(spec=load_spec(model), gpu=gpu, tp=tp, precision=precision())
    base = engine_calibration("vllm-0.8", gpu)
    served = with_moe_backend(base, "auto", version, group, parts=tp)
    operators = [one for one in group.token_operators(tokens) if one.name == "experts"]
    return float(np.sum(prices_of(gpu, served, fused=True).operators_s(operators, 0)))


def test_long_prompts_of_an_untuned_shape_take_twice_as_long() -> None:
    """GLM-4.5-Air over four H100 has 352 columns of each expert, which no file names."""
    assert experts_s("glm-4.5-air", 4, "0.11", 8192.0) > 1.6 * experts_s(
        "glm-4.5-air", 4, "0.17", 8192.0
    )
    few = experts_s("glm-4.5-air", 4, "0.11", 1.0) / experts_s("glm-4.5-air", 4, "0.17", 1.0)
    assert 0.9 < few < 1.1


def test_a_tuned_shape_is_the_same_in_every_version() -> None:
    """Qwen3-235B-A22B over eight has 192."""
    tuned = experts_s("qwen3-235b-a22b", 8, "0.11", 8192.0)
    assert tuned == experts_s("qwen3-235b-a22b", 8, "0.17", 8192.0)
