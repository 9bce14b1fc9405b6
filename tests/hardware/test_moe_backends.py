"""Experts of one backend or another: by version, or as somebody says."""

from dataclasses import replace

import pytest

from hardware.calibration import DATASHEET, Calibration
from hardware.engines import engine_calibration
from hardware.gpu import load_gpu
from hardware.moe_backends import with_moe_backend
from model.precision import precision
from model.quantization.scheme import FP8_BLOCKS
from model.quantization.weights import EXPERTS, uniform
from model.spec import load_spec

BLOCKS = replace(precision(), weights=uniform(FP8_BLOCKS, "", None, EXPERTS))
MIXTURE = load_spec("minimax-m2.5")


def shares(told: str, version: str, gpu: str, calibration: Calibration | None = None) -> float:
    """Of the roofline, that experts of few rows reach."""
    chosen = load_gpu(gpu)
    base = calibration or engine_calibration("vllm-0.15", chosen)
    served = with_moe_backend(base, told, version, MIXTURE, chosen, BLOCKS)
    assert served.kernels is not None
    found = served.kernels.experts["fp8_block"](rows=0.25, width=384, experts=256)
    return float(found)


def test_versions_choose_other_kernels_on_hopper() -> None:
    """0.15 and 0.16 have FlashInfer's CUTLASS, which walks through all experts of a rank."""
    triton = shares("triton", "0.16", "h200-sxm")
    assert shares("auto", "0.14", "h200-sxm") == triton
    assert shares("auto", "0.16", "h200-sxm") == shares("flashinfer_cutlass", "0.18", "h200-sxm")
    assert shares("auto", "0.16", "h200-sxm") < 0.7 * triton
    assert shares("auto", "0.18", "h200-sxm") == triton


def test_blackwell_can_be_told_to_take_triton() -> None:
    assert shares("triton", "0.17", "b200-sxm") < 0.95 * shares("auto", "0.17", "b200-sxm")
    fastest = shares("flashinfer_trtllm", "0.17", "b200-sxm")
    assert shares("auto", "0.16", "b200-sxm") == fastest


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'flashinfer_trtllm': no measured .* in fp8_block by it"):
        shares("flashinfer_trtllm", "0.18", "h200-sxm")
    with pytest.raises(ValueError, match=r"on h200-sxm, expected one of auto$"):
        shares("triton", "0.18", "h200-sxm", DATASHEET)
    gpu, dense = load_gpu("h200-sxm"), load_spec("llama-3-8b")
    calibration = engine_calibration("vllm", gpu)
    with pytest.raises(ValueError, match="llama-3-8b, which has no experts"):
        with_moe_backend(calibration, "triton", "0.18", dense, gpu, precision())
