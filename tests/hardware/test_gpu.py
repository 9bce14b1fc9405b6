import re
from pathlib import Path

import pytest

import hardware.servers as servers_module
from hardware.gpu import Gpu, UnknownGpuError, UnsupportedPrecisionError, gpu_names, load_gpu
from hardware.servers import servers
from hardware.yaml_file import read_bundled

NAMES = (
    "t4",
    "a10g",
    "l4",
    "l40s",
    "a100-40gb-pcie",
    "a100-80gb-pcie",
    "a100-40gb-sxm",
    "a100-80gb-sxm",
    "h100-pcie",
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "mi300x",
    "rtx-4090",
    "gb200",
    "gb300",
    "b300-sxm",
    "h100-nvl",
    "h20-sxm",
    "l20",
    "rtx-pro-6000",
    "rtx-5090",
    "rtx-3090",
    "rtx-6000-ada",
    "rtx-a6000",
    "a40",
    "a30",
    "a10",
    "v100-32gb-sxm",
    "v100-16gb-sxm",
    "mi325x",
    "mi355x",
    "mi350x",
    "h200-nvl",
    "h20-3e",
    "h800-sxm",
    "a800-80gb-sxm",
    "gh200-96gb",
    "l40",
)
UNPRICED = NAMES[NAMES.index("gb200") :]


def test_the_catalogue():
    assert gpu_names() == NAMES


@pytest.mark.parametrize(
    ("name", "compute", "tflops", "gb_per_s"),
    [
        # NVIDIA T4, A100, L40S, H200 datasheets; H100 and Ada white papers; AMD MI300X datasheet.
        ("t4", "fp16", 65, 320),
        ("a100-80gb-sxm", "bf16", 312, 2039),
        ("a100-80gb-pcie", "bf16", 312, 1935),
        ("a100-40gb-sxm", "bf16", 312, 1555),
        ("l40s", "bf16", 362.05, 864),
        ("h100-pcie", "bf16", 756, 2000),
        ("h100-sxm", "bf16", 989.4, 3350),
        ("h100-sxm", "fp8", 1978.9, 3350),
        ("h200-sxm", "bf16", 989.4, 4800),
        ("b200-sxm", "bf16", 2250, 8000),
        ("mi300x", "fp16", 1307.4, 5300),
        ("rtx-4090", "fp16", 165.2, 1008),
        # NVIDIA H20 and L20 as reprinted; RTX Blackwell white paper; HGX B300 through its eighth.
        ("h20-sxm", "bf16", 148, 4000),
        ("h20-sxm", "fp8", 296, 4000),
        ("l20", "bf16", 119.5, 864),
        ("rtx-5090", "bf16", 209.5, 1792),
        ("rtx-pro-6000", "bf16", 467.8, 1792),
        ("b300-sxm", "bf16", 2250, 7750),
        ("gb300", "fp4", 15_000, 8000),
        ("h100-nvl", "bf16", 835, 3938),
        ("h200-nvl", "fp8", 1670.5, 4800),
        ("mi350x", "fp4", 9227.5, 8000),
        ("l40", "bf16", 181.05, 864),
    ],
)
def test_peaks_are_the_vendors_dense_figures(name, compute, tflops, gb_per_s):
    gpu = load_gpu(name)
    assert gpu.peak(compute) == pytest.approx(tflops * 1e12)
    assert gpu.bandwidth_bytes_per_s == pytest.approx(gb_per_s * 1e9)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_source_with_date_and_address(name):
    gpu = load_gpu(name)
    figures = {"memory_bytes", "nominal_memory_bytes", "bandwidth_bytes_per_s"}
    figures |= {"link_bytes_per_s", "link_latency_s"} | (
        {"network_bytes_per_s"} if gpu.network_bytes_per_s else set()
    )
    figures |= set() if name in UNPRICED else {"usd_per_hour"}
    figures |= set() if name.startswith("mi") else {"compute_capability"}
    if gpu.link_peer_bytes_per_s is not None:
        figures.add("link_peer_bytes_per_s")
    figures |= {f"peak_flops_per_s.{compute}" for compute in gpu.peak_flops_per_s}
    assert set(gpu.sources) == figures
    for field, source in gpu.sources.items():
        assert "https://" in source
        assert ", 20" in source
        assert ("dense" in source) or not field.startswith("peak")


def test_links_of_a_full_mesh_add_up():
    """AMD MI300X datasheet: 7 links of 128 GB/s in both directions, one to each peer."""
    gpu = load_gpu("mi300x")
    assert gpu.link_peer_bytes_per_s == 64e9
    assert gpu.link_bytes_per_s == (gpu.gpus_per_server - 1) * gpu.link_peer_bytes_per_s


@pytest.mark.parametrize("name", NAMES)
def test_the_driver_offers_a_little_less_than_the_vendor_sells(name):
    gpu = load_gpu(name)
    assert gpu.nominal_memory_bytes is not None
    assert 0.9 < gpu.memory_bytes / gpu.nominal_memory_bytes < 1


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("A100", "a100-80gb-sxm"),
        ("a100-sxm", "a100-80gb-sxm"),
        ("H100_SXM", "h100-sxm"),
        ("h200", "h200-sxm"),
        ("b200", "b200-sxm"),
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA A100", "a100-80gb-sxm"),
        ("nvidia-tesla-a100", "a100-40gb-sxm"),
        ("nvidia-h100-mega-80gb", "h100-sxm"),
    ],
)
def test_aliases(alias, name):
    assert load_gpu(alias).name == name


def test_an_unknown_gpu_names_the_nearest():
    with pytest.raises(UnknownGpuError, match=r"gpu = 'h100-smx'.*did you mean 'h100-sxm'"):
        load_gpu("h100-smx")


def test_a_missing_precision_names_the_alternatives():
    with pytest.raises(
        UnsupportedPrecisionError,
        match="gpu t4 has no bf16 arithmetic, expected one of fp32, fp16, int8: set dtype: float16",
    ):
        load_gpu("t4").peak("bf16")
    with pytest.raises(UnsupportedPrecisionError, match="a100-80gb-sxm has no fp8"):
        load_gpu("a100").peak("fp8")


def test_a_mapping_describes_a_gpu():
    gpu = load_gpu(
        {"name": "mine", "memory_bytes": 2**30, "bandwidth_bytes_per_s": 1e12}
        | {"peak_flops_per_s": {"bf16": 1e14}}
    )
    assert gpu == Gpu(
        name="mine",
        memory_bytes=2**30,
        bandwidth_bytes_per_s=1e12,
        peak_flops_per_s={"bf16": 1e14},
    )
    assert gpu.usd_per_hour is None


def test_a_mapping_may_override_a_gpu_of_the_catalogue():
    gpu = load_gpu({"like": "h100", "bandwidth_bytes_per_s": 4.8e12})
    assert gpu.name == "h100-sxm-modified"
    assert gpu.bandwidth_bytes_per_s == 4.8e12
    assert gpu.peak("bf16") == load_gpu("h100").peak("bf16")
    assert "bandwidth_bytes_per_s" not in gpu.sources
    assert "memory_bytes" in gpu.sources


def test_a_wrong_mapping_lists_every_mistake():
    with pytest.raises(
        ValueError, match=r"gpu: memory_byte: unknown key; did you mean 'memory_"
    ) as e:
        load_gpu({"memory_byte": 1, "bandwidth_bytes_per_s": -1, "peak_flops_per_s": {"bf61": 1}})
    assert "bandwidth_bytes_per_s = -1: Input should be greater than 0" in str(e.value)
    assert "gpu: memory_bytes: missing" in str(e.value)
    assert "bf61" in str(e.value)


def test_like_must_be_a_name():
    with pytest.raises(ValueError, match="gpu: like = 3, expected a name of the catalogue"):
        load_gpu({"like": 3})


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H100-80GB-SXM", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("h200_sxm", "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("A100-80GB-PCIe", "a100-80gb-pcie"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H20", "h20-sxm"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("Tesla V100-SXM2-32GB", "v100-32gb-sxm"),
        ("B200-180GB-SXM", "b200-sxm"),
        ("NVIDIA H100 80GB HBM2e", "h100-pcie"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm"),
        ("NVIDIA H20-3e", "h20-3e"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("HGX B200", "b200-sxm"),
        ("DGX H100", "h100-sxm"),
        ("h100 sxm 80 GB", "h100-sxm"),
        ("H100 (80G)", "h100-sxm"),
        ("RTX 5090 32GB", "rtx-5090"),
        ("L40S PCIe", "l40s"),
        ("AMD Instinct MI300X OAM", "mi300x"),
    ],
)
def test_spellings_of_drivers_and_of_people(spelling: str, name: str) -> None:
    assert load_gpu(spelling).name == name


@pytest.mark.parametrize(
    "name",
    ["a100-60gb", "h900", "rtx-4070", "l2", "rtx-4090-48gb", "dgx spark", "b100", "R200", "trn2"],
)
def test_an_unknown_gpu_is_told_what_to_write(name):
    """No other GPU is offered instead: a figure in the name makes it another one."""
    with pytest.raises(UnknownGpuError) as caught:
        load_gpu(name)
    message = str(caught.value)
    assert "did you mean" not in message
    for part in ("like: NAME", "memory_bytes", "bandwidth_bytes_per_s", "peak_flops_per_s"):
        assert part in message


@pytest.mark.parametrize(
    ("name", "count", "gpu"),
    [
        ("p5.48xlarge", 8, "h100-sxm"),
        ("ml.g6e.12xlarge", 4, "l40s"),
        ("a3-highgpu-8g", 8, "h100-sxm"),
        ("Standard_ND96isr_H200_v5", 8, "h200-sxm"),
        ("ND H100 v5", 8, "h100-sxm"),
        ("BM.GPU.GB200.4", 4, "gb200"),
    ],
)
def test_a_server_of_a_cloud_is_no_gpu(name: str, count: int, gpu: str) -> None:
    told = f"gpu = {name!r} is a server with {count} of {gpu}: expected gpu: {gpu}; how many there"
    with pytest.raises(UnknownGpuError, match=re.escape(told)):
        load_gpu(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "is a part of h100-sxm, and parts .*like: NAME"),
        ("a100-sxm4-40gb-mig-3g.20gb", "is a part of a100-40gb-sxm,"),
        ("h100-1c.3g.40gb", "is a part of h100-sxm,"),
        ("A40-24Q", "is a part of a40,"),
        ("GRID A100-10C", "is a part of a100-80gb-sxm,"),
        ("RTX 4090 48GB", "where rtx-4090 has 24 GB, expected what differs: .* memory_bytes"),
        ("NVIDIA GH200 144G HBM3e", "where gh200-96gb has 96 GB"),
        ("A100-SXM-64GB", "where a100-80gb-sxm has 80 GB"),
        ("h100:8", "expected the name of one, h100-sxm; how many"),
        ("gpu:a100-80gb:4", "expected the name of one, a100-80gb-sxm; how many"),
        *[
            (name, "expected the name of one, h100-sxm; how many")
            for name in (
                "8 H100",
                "8H100",
                "2x8xH100",
                "HGX H100 8-GPU",
                "H100 SXM5 8x",
                "8-way H100",
            )
        ],
        ("rtx4090x2", "expected the name of one, rtx-4090; how many"),
        ("A100 40", "is not in the catalogue, expected one of"),
    ],
)
def test_parts_other_memories_and_counts_are_named(name: str, told: str) -> None:
    with pytest.raises(UnknownGpuError, match=told):
        load_gpu(name)


def test_servers_have_gpus_of_the_catalogue() -> None:
    """And each of one kind."""
    assert {gpu for _, gpu in servers().values()} <= {*gpu_names()}
    kinds = read_bundled(Path(servers_module.__file__).parent / "servers.yaml").values()
    named = [name for by_count in kinds for names in by_count.values() for name in names]
    assert len(named) == len(servers())


def test_a_slip_in_a_word_is_recognised():
    with pytest.raises(UnknownGpuError, match="did you mean 'rtx-4090'"):
        load_gpu("rtz-4090")


def test_a_spelling_with_another_memory_is_another_gpu() -> None:
    assert load_gpu("NVIDIA A100-SXM4-40GB").name == "a100-40gb-sxm"
    with pytest.raises(UnknownGpuError, match="not in the catalogue"):
        load_gpu("A100-60GB")
