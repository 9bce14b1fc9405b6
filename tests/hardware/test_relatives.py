"""Whose kernels price GPUs without tables, and what share of their own peaks those tell."""

import numpy as np
import pytest

from hardware.calibration import load_calibration
from hardware.engines.constants import engine_calibration
from hardware.gpu import Gpu, gpu_names, load_gpu
from hardware.links.interconnect import all_reduce_s
from hardware.prices.choose import prices_of
from hardware.prices.kernels import Kernels
from hardware.relatives import (
    UNHINDERED,
    as_priced,
    links_of,
    relative_of,
    relatives,
    told_of_links,
)
from model.operators import Operator


def kernels_of(gpu: Gpu) -> Kernels:
    relative = relative_of(gpu)
    assert relative is not None
    kernels = load_calibration(relative).kernels
    assert kernels is not None
    return kernels


def product_flops_per_s(gpu: Gpu, compute: str, n: float = 8192.0) -> float:
    """What the largest products reach on a GPU as it is priced."""
    kernels = kernels_of(gpu)
    rates = []
    for rows in (2048.0, 4096.0, 8192.0):
        flops = 2 * rows * n * n
        operator = Operator(
            "product",
            "gemm",
            1,
            flops,
            2 * n * n,
            0.0,
            0.0,
            gemm=(rows, int(n), int(n)),
            compute=compute,
        )
        rates.append(flops / float(kernels.gemm_s(operator, as_priced(gpu, kernels))))
    return max(rates)


def test_every_gpu_that_borrows_is_in_the_catalogue_and_borrows_from_a_measured_one():
    for name, row in relatives().items():
        assert name in gpu_names()
        assert load_calibration(row.kernels).kernels is not None
        assert relative_of(load_gpu(name)) == row.kernels


@pytest.mark.parametrize(
    ("name", "compute", "reached"),
    [
        ("l20", "fp16", 114.7e12), ("rtx-4090", "bf16", 179.2e12), ("rtx-4090", "fp8", 354.3e12),
        ("mi300x", "bf16", 588e12), ("mi300x", "fp8", 1177e12), ("rtx-a6000", "bf16", 95e12),
        ("rtx-5090", "bf16", 254e12),
    ],
)  # fmt: skip
def test_large_products_take_what_they_were_measured_to_take(name, compute, reached):
    assert product_flops_per_s(load_gpu(name), compute) == pytest.approx(reached, rel=1e-6)


def test_a_gpu_with_tables_and_one_without_figures_keep_their_peaks():
    for name in ("l40s", "h100-sxm", "l4", "h100-pcie", "t4", "rtx-3090"):
        gpu = load_gpu(name)
        priced = as_priced(gpu, kernels_of(gpu))
        assert priced.peak_flops_per_s == gpu.peak_flops_per_s
        assert priced.bandwidth_bytes_per_s == gpu.bandwidth_bytes_per_s


def test_memory_is_read_at_the_rate_that_was_measured():
    gpu = load_gpu("mi300x")
    assert as_priced(gpu, kernels_of(gpu)).bandwidth_bytes_per_s == pytest.approx(0.9 * 5.3e12)


def test_arithmetic_that_was_cut_is_not_limited_by_power():
    h20 = load_gpu("h20-sxm")
    assert product_flops_per_s(h20, "bf16") == pytest.approx(UNHINDERED * 148e12, rel=1e-6)
    described = load_gpu({"like": "l40s", "peak_flops_per_s": {"bf16": 100e12, "fp32": 50e12}})
    assert product_flops_per_s(described, "bf16") == pytest.approx(UNHINDERED * 100e12, rel=1e-6)
    more_memory = load_gpu({"like": "l40s", "memory_bytes": 90 * 2**30})
    assert product_flops_per_s(more_memory, "bf16") < 0.8 * 362e12


def test_a_described_gpu_reaches_the_share_of_the_one_that_it_is_like():
    like = load_gpu({"like": "rtx-4090", "peak_flops_per_s": {"bf16": 200e12, "fp32": 100e12}})
    assert product_flops_per_s(like, "bf16") == pytest.approx(200e12 * 179.2 / 165.2, rel=1e-6)


def test_products_of_minutes_are_slower_than_those_of_tables_unless_they_were_measured():
    def share(name: str, compute: str = "bf16") -> float:
        gpu = load_gpu(name)
        priced, kernels = as_priced(gpu, kernels_of(gpu), 0.85), kernels_of(gpu)
        return priced.peak(compute) / as_priced(gpu, kernels).peak(compute)

    assert [share(name) for name in ("h100-sxm", "l4", "h100-pcie")] == pytest.approx([0.85] * 3)
    assert [share(name) for name in ("l20", "mi300x", "h20-sxm")] == pytest.approx([1.0] * 3)


def reduce_s(gpu: Gpu, bytes_: float, ranks: int) -> float:
    prices = prices_of(gpu, engine_calibration("vllm-0.23", gpu), fused=True)
    return float(prices.all_reduce_s(np.array(bytes_), ranks))


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("h100-pcie", "rtx-pro-6000"), ("h100-nvl", "rtx-pro-6000"), ("a10g", "l40s"),
        ("a100-80gb-pcie", "l40s"), ("t4", "l40s"), ("h20-sxm", "h100-sxm"), ("l4", "l40s"),
        ("a100-40gb-sxm", "a100-80gb-sxm"), ("mi300x", "h100-sxm"),
    ],
)  # fmt: skip
def test_all_reduces_are_those_of_links_of_the_same_kind(name: str, measured: str) -> None:
    """A card of PCIe computes as its relative does, and does not reduce over NVLink."""
    gpu, other = load_gpu(name), load_gpu(measured)
    assert links_of(gpu) == measured
    own = reduce_s(gpu, 64 * 2**20, 4)
    ratio = all_reduce_s(64 * 2**20, 4, gpu) / all_reduce_s(64 * 2**20, 4, other)
    # But for what hosts of the two wait, which is the same constant.
    calibration = engine_calibration("vllm-0.23", gpu)
    waits = 2 * calibration.collective_overhead_s
    assert own - waits == pytest.approx((reduce_s(other, 64 * 2**20, 4) - waits) * ratio)


def test_slower_links_of_one_kind_take_longer_in_proportion() -> None:
    h100, h800 = load_gpu("h100"), load_gpu("h800")
    assert reduce_s(h800, 2**27, 8) == pytest.approx(450 / 200 * reduce_s(h100, 2**27, 8), rel=0.03)
    slower = load_gpu({"like": "h100", "link_bytes_per_s": 200e9})
    assert reduce_s(slower, 2**27, 8) == reduce_s(h800, 2**27, 8)
    same = load_gpu({"like": "h100", "memory_bytes": 2**36})
    assert reduce_s(same, 2**20, 8) == reduce_s(h100, 2**20, 8)


def test_whose_links_they_are_is_told() -> None:
    def told(name: str) -> str:
        gpu = load_gpu(name)
        kernels = engine_calibration("vllm-0.23", gpu).kernels
        assert kernels is not None
        return told_of_links(gpu, kernels)

    assert not told("h100-sxm")
    assert not told("h20-sxm")
    assert told("a10g") == (
        "all-reduces of a10g (PCIe 4.0 x16) are those measured on l40s (PCIe 4.0 x16)"
    )
    assert "in the ratio of what a model of both links says" in told("h800-sxm")
