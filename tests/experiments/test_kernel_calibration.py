"""Tables of kernel times become a calibration: laws that were put in come out again."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.calibrating.expert_calibration import as_chosen
from experiments.calibrating.expert_fit import expert_surface, other_backends
from experiments.calibrating.kernel_calibration import kernels_from_tables
from experiments.calibrating.kernel_fit import rising
from experiments.calibrating.kernel_tables import read_all, read_table
from experiments.calibrating.surface_fit import fit_surface
from experiments.cli.calibrate import main
from experiments.running.folder import signed_file
from experiments.running.work_folder import held
from hardware.calibration import load_calibration
from hardware.gpu import load_gpu
from hardware.prices.kernels import product_bound_s
from hardware.prices.surface import Surface
from model.mlps.experts import Experts
from model.precision import precision
from model.quantization.scheme import MXFP4_ONLY
from model.quantization.weights import EXPERTS, uniform
from model.share import Share
from tests.experiments.kernel_rows import (
    BANDWIDTH,
    GPU,
    PEAK,
    collective_rows,
    gemm_rows,
    prefill_rows,
    usual_tables,
    write,
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return usual_tables(tmp_path / "tables")


def test_tables_become_a_calibration(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.yaml"
    arguments = ["--from-kernels", str(tables), "--gpu", "a100", "--engine-version", "0.15"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert out.with_suffix(".png").stat().st_size > 10_000
    kernels = load_calibration(out).kernels
    assert kernels is not None
    # The fastest time of any version counts.
    np.testing.assert_allclose(kernels.gemm["bf16"](m=[3, 700], n=5000, k=3000), 0.6, rtol=1e-3)
    rows = {"rows": 32_768, "positions": 512, "group": 4}
    np.testing.assert_allclose(kernels.prefill_attention["bf16"](**rows), 0.5, rtol=1e-3)
    base_s, share = kernels.decode_attention["bf16"].of_batches(np.array([8]), 8, 4)[1:]
    np.testing.assert_allclose([base_s[0], share[0]], [1e-5, 0.8], rtol=0.02)
    np.testing.assert_allclose(
        kernels.all_reduce_s(np.array([2.0**20]), 4), 1e-5 + 2**20 / 2e11, 1e-3
    )
    assert all(check.median < 0.03 for check in kernels.held_out.values())
    shown = capsys.readouterr().out
    assert "gemm bf16" in shown
    assert not kernels.experts


def test_all_reduces_of_prompts_are_launched_and_smaller_ones_replayed(tables: Path) -> None:
    rows = collective_rows()[["num_gpus", "message_size"]]
    parts = [
        rows.assign(kernel_source=f"vLLM_custom_{how}", latency=latency_ms)
        for how, latency_ms in (("graph", 5e-3), ("eager", 4e-2))
    ]
    write(tables, "comm/vllm/custom_allreduce_perf", "0.14.0", pd.concat(parts))
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    reduced_s = kernels.all_reduce_s(np.array([2.0**10, 2.0**23, 2.0**24, 2.0**26]), 4)
    np.testing.assert_allclose(reduced_s, [5e-6, 5e-6, 4e-5, 4e-5], 1e-3)


def test_all_reduces_with_a_norm_are_timed_by_another_engine(tables: Path) -> None:
    """Up to the size that an engine takes them for, and only where a norm stands behind."""
    rows = collective_rows()[["num_gpus", "message_size"]]
    assert kernels_from_tables(str(tables), GPU, "0.15").fused_all_reduce is None
    timed = rows.assign(kernel_source="TRTLLM", latency=3e-3)
    write(tables, "comm/trtllm/custom_allreduce_perf", "1.3.0rc20", timed)
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    assert "all-reduce with norm" in kernels.held_out
    sizes = np.array([2.0**12, 2.0**20])
    bare_s = kernels.all_reduce_s(sizes, 4)
    np.testing.assert_array_equal(kernels.all_reduce_s(sizes, 4, fused=True), bare_s)
    served = kernels.model_copy(update={"fused_up_to_bytes": {4: 2.0**12}})
    fused_s = served.all_reduce_s(sizes, 4, fused=True)
    np.testing.assert_allclose(fused_s, [3e-6, bare_s[1]], 1e-6)
    np.testing.assert_array_equal(served.all_reduce_s(sizes, 4), bare_s)


def test_a_calibration_replaces_none_but_its_own(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "mine.yaml", tmp_path / "mine.png"
    arguments = ["--from-kernels", str(tables), "--gpu", "a100", "--out", str(out)]
    for mine in (out, picture):
        mine.write_text("precious")
        assert main([*arguments, "--overwrite"]) == 2
        assert f"holds {mine.name}, not from headroom" in capsys.readouterr().err
        assert mine.read_text() == "precious"
        mine.unlink()
    place = signed_file(out)
    with held(place.work, place.out):
        assert main(arguments) == 2
    assert "is being written by another run" in capsys.readouterr().err
    assert main(arguments) == 0
    first = out.read_bytes()
    assert main(arguments) == 2
    assert "holds earlier results" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert out.read_bytes() == first
    out.write_text(out.read_text().replace("0.8", "0.7"))
    edited = out.read_bytes()
    assert main([*arguments, "--overwrite"]) == 2
    assert out.read_bytes() == edited
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.png", "mine.yaml", "tables"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "t4"], "--gpu t4: no tables, expected one of a100-80gb-sxm"),
        (["--gpu", "h100"], "no tables of gemm, which a calibration needs"),
        ([], "--gpu is missing"),
        (["--gpu", "a100", "--engine", "tgi"], "--engine 'tgi': expected one of vllm"),
        (["--gpu", "a100", "--engine-version", "new"], "--engine-version 'new': expected numbers"),
        (["--gpu", "a100", "--model", "gpt2"], "expected either --model, to measure"),
    ],
)
def test_mistakes_are_named(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    out = tmp_path / "mine.yaml"
    assert main(["--from-kernels", str(tables), "--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_neither_folder_nor_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--from-kernels", "no_such_package", "--gpu", "a100"]
    assert main([*arguments, "--out", str(tmp_path / "x.yaml")]) == 2
    assert "neither a folder nor an installed package" in capsys.readouterr().err


def test_versions_at_or_below_are_preferred(tables: Path) -> None:
    folder = tables / "a100_sxm"
    for wanted, found in (("0.13", "0.14.0"), ("0.15.1", "0.14.0"), ("0.30", "0.24.0")):
        table = read_table(folder, "gemm", "vllm", "gemm_perf", wanted)
        assert table is not None
        assert table.version == found
    assert read_table(folder, "moe", "vllm", "moe_perf", "0.15") is None
    every = read_all(folder, "gemm", "vllm", "gemm_perf")
    assert every is not None
    assert every.version == "0.14.0 to 0.24.0"
    assert len(every.rows) == 2 * len(gemm_rows(1.0))


def expert_rows(share: float, *, untuned: float | None = None) -> pd.DataFrame:
    grid = product([1, 8, 64, 512, 4096, 16384], [8], [1024, 2048, 4096], [2048, 4096, 8192, 16384])
    names = ["num_tokens", "num_experts", "hidden_size", "inter_size"]
    rows = pd.DataFrame(grid, columns=names).astype(float)
    pairs, touched = 2 * rows.num_tokens, 8 * (1 - 0.75**rows.num_tokens)
    moved = 2 * touched * 3 * rows.inter_size * rows.hidden_size
    moved += 2 * pairs * (2 * rows.hidden_size + 3 * rows.inter_size)
    bound_s = np.maximum(6 * pairs * rows.inter_size * rows.hidden_size / PEAK, moved / BANDWIDTH)
    shares = np.where(rows.inter_size > 10_000, untuned or share, share)
    rows["latency"] = bound_s / shares * 1e3
    rows["distribution"] = "power_law_1.01"
    return rows.assign(moe_dtype="bfloat16", topk=2, moe_tp_size=1, moe_ep_size=1)


def experts_of(tables: Path) -> Surface:
    return kernels_from_tables(str(tables), GPU, "0.15").experts["bf16"]


def test_wide_experts_without_a_tuned_kernel_take_what_two_halves_take(tables: Path) -> None:
    write(tables, "moe/vllm/moe_perf", "0.14.0", expert_rows(0.5, untuned=0.2))
    found = experts_of(tables)(rows=[256, 1024], width=16384, experts=8)
    np.testing.assert_allclose(found, 0.5, rtol=0.05)


def test_shapes_that_were_not_tuned_are_kept_apart(tables: Path) -> None:
    """Of 8 experts vLLM 0.14 has a file for 4,096 columns on an A100, none for 8,192 and 16,384."""
    old = expert_rows(0.5).assign(kernel_source="vllm_fused_moe")
    old.loc[old.inter_size > 5000, "latency"] *= 2
    new = expert_rows(0.4).assign(kernel_source="vllm_tritonexperts")
    write(tables, "moe/vllm/moe_perf", "0.14.0", old)
    write(tables, "moe/vllm/moe_perf", "0.19.0", new)
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    at = {"rows": [256, 1024], "width": 8192, "experts": 8}
    np.testing.assert_allclose(kernels.small_tiles["bf16"](**at), 0.25, rtol=0.02)
    np.testing.assert_allclose(kernels.experts["bf16"](**at), 0.4, rtol=0.05)
    assert "experts small tiles bf16" in kernels.held_out
    faster = kernels.with_small_tiles("bf16").experts["bf16"]
    np.testing.assert_allclose(faster(**at), 0.25, rtol=0.02)
    assert kernels.with_small_tiles("fp8") == kernels


def test_experts_of_another_kernel_do_not_count(tables: Path) -> None:
    write(tables, "moe/vllm/moe_perf", "0.14.0", expert_rows(0.5))
    slower = expert_rows(0.2)
    only = slower.assign(hidden_size=8192.0, latency=slower.latency * 4)
    write(tables, "moe/vllm/moe_perf", "0.24.0", pd.concat([slower, only]))
    found = experts_of(tables)
    np.testing.assert_allclose(found(rows=[4, 1024], width=8192, experts=8), 0.5, rtol=0.02)


def test_few_experts_take_what_evenly_chosen_ones_take() -> None:
    """In turn, one token of top 2 touches two of eight and four touch all; a draw touches 5.5."""
    uneven = expert_rows(0.3).assign(version="0.24.0", kernel_source="triton")
    drawn = 8 * (1 - 0.75**uneven.num_tokens)
    in_turn = np.minimum(2 * uneven.num_tokens, 8) / drawn
    even = uneven.assign(latency=expert_rows(0.5).latency * in_turn, distribution="balanced")
    many = uneven.assign(num_experts=128.0)
    older = uneven.assign(version="0.14.0")
    found = as_chosen(pd.concat([uneven, even, many, many.assign(distribution="balanced"), older]))
    assert len(found) == 3 * len(uneven)
    newest = found[found.version == "0.24.0"].sort_values("num_experts", kind="stable")
    expected = [*expert_rows(0.5).latency, *many.latency]
    np.testing.assert_allclose(newest.latency, expected, rtol=1e-12)
    np.testing.assert_allclose(found[found.version == "0.14.0"].latency, older.latency)


def test_another_backend_of_experts_is_timed_beside_the_first() -> None:
    """Of ranks with half of the experts, in a time and a half."""
    gpu, l2_bytes = load_gpu("h200-sxm"), 5e7
    whole = expert_rows(0.4).assign(kernel_source="vllm_fused_moe")
    halves = whole.assign(moe_ep_size=2)
    slower = halves.assign(latency=halves.latency * 1.5, kernel_source="x_flashinfer_cutlass_y")
    surface, _ = expert_surface(whole, gpu, "fp8_block", l2_bytes)
    first, others = other_backends(
        pd.concat([whole, halves, slower]), gpu, "fp8_block", l2_bytes, surface
    )
    assert (first, list(others)) == ("triton", ["flashinfer_cutlass"])
    at = {"rows": [4, 1024], "width": 4096, "experts": 4}
    np.testing.assert_allclose(
        others["flashinfer_cutlass"][0](**at), surface(**at) / 1.5, rtol=0.02
    )


def test_triton_has_its_own_surface_where_another_is_faster() -> None:
    gpu, l2_bytes = load_gpu("b200-sxm"), 1.0
    rows = expert_rows(0.4).assign(kernel_source="vllm_fused_moe", version="0.19.0")
    halved = {"latency": rows.latency / 2, "version": "0.24.0"}
    faster = rows.assign(kernel_source="x_flashinfer_trtllm_y", **halved)
    both = pd.concat([rows, faster])
    surface, _ = expert_surface(both, gpu, "fp8_block", l2_bytes)
    first, others = other_backends(both, gpu, "fp8_block", l2_bytes, surface)
    assert (first, list(others)) == ("flashinfer_trtllm", ["triton"])
    at = {"rows": [4, 1024], "width": 4096, "experts": 8}
    np.testing.assert_allclose(others["triton"][0](**at), surface(**at) / 2, rtol=0.05)


def test_experts_of_four_bits_have_a_surface_of_their_own(tables: Path) -> None:
    """Their roofline has the stored bytes, scales included, and the work of widening them."""
    rows = expert_rows(0.5).drop(columns="latency").drop_duplicates()
    times = []
    for tokens, experts, hidden, inter in rows.iloc[:, :4].itertuples(index=False):
        mixture = Experts(
            hidden_size=int(hidden), num_experts=int(experts), per_token=2, width=int(inter)
        )
        weights = uniform(MXFP4_ONLY, "mxfp4", None, EXPERTS)
        share = Share((0,), replace(precision(), weights=weights))
        (one,) = (o for o in mixture.operators(tokens, share) if o.name == "experts")
        times.append(1e3 * float(product_bound_s(one, GPU)) / 0.4)
    four = rows.assign(moe_dtype="w4a16_mxfp4", latency=times)
    write(tables, "moe/vllm/moe_perf", "0.14.0", pd.concat([expert_rows(0.5), four]))
    kernels = kernels_from_tables(str(tables), GPU, "0.15")
    at = {"rows": [4, 1024], "width": 4096, "experts": 8}
    np.testing.assert_allclose(kernels.experts["mxfp4"](**at), 0.4, rtol=0.02)
    np.testing.assert_allclose(kernels.experts["bf16"](**at), 0.5, rtol=0.02)


def test_products_in_blocks_that_wait_for_their_launches_do_not_count(tables: Path) -> None:
    """Nor do rows that are no multiple of four: captured steps have none."""
    h100, root = load_gpu("h100-sxm"), tables / "h100_sxm"
    (tables / "a100_sxm").rename(root)
    rows = gemm_rows(0.5)
    bound_s = np.maximum(
        2 * rows.m * rows.n * rows.k / h100.peak("fp8"),
        (rows.n * rows.k + 2 * rows.m * (rows.n + rows.k)) / h100.bandwidth_bytes_per_s,
    )
    block = rows.assign(gemm_dtype="fp8_block", latency=bound_s / 0.4 * 1e3)
    odd = block.assign(m=block.m + 1, latency=block.latency * 3)[block.m > 1]
    slow = block.assign(latency=np.maximum(block.latency / 2, 0.09))
    folder = root / "gemm" / "vllm"
    pd.concat([rows, block, odd]).to_parquet(folder / "0.14.0" / "gemm_perf.parquet")
    pd.concat([rows, slow]).to_parquet(folder / "0.24.0" / "gemm_perf.parquet")
    gemm = kernels_from_tables(str(tables), h100, "0.15").gemm["fp8_block"]
    np.testing.assert_allclose(gemm(m=[8, 64], n=4096, k=4096), 0.4, rtol=0.02)


def test_weights_come_from_memory_though_a_table_read_them_from_the_cache(tables: Path) -> None:
    # 40 MB of L2: a matrix of 1,024 x 1,024 stays in it and seems to come four times as fast.
    warm = gemm_rows(0.6)
    small = (warm.n * warm.k < 2**21) & (warm.m < 64)
    warm["latency"] = np.where(small, warm.latency / 4, warm.latency)
    write(tables, "gemm/vllm/gemm_perf", "0.14.0", warm)
    write(tables, "gemm/vllm/gemm_perf", "0.24.0", warm)
    gemm = kernels_from_tables(str(tables), GPU, "0.15").gemm["bf16"]
    np.testing.assert_allclose(gemm(m=1, n=1024, k=1024), 0.6, rtol=0.02)
    assert max(gemm.values) < 1.05


def test_prefill_beyond_the_peak_was_not_run(tables: Path) -> None:
    ran = prefill_rows()
    write(tables, "attention/vllm/context_attention_perf", "0.14.0",
          ran.assign(latency=ran.latency / 10))  # fmt: skip
    write(tables, "attention/vllm/context_attention_perf", "0.22.0", ran)
    found = kernels_from_tables(str(tables), GPU, "0.15")
    at = {"rows": 32_768, "positions": 512, "group": 4}
    np.testing.assert_allclose(found.prefill_attention["bf16"](**at), 0.5, rtol=1e-3)
    assert "prefill attention 0.22.0" in found.source


def test_a_surface_does_not_follow_stray_timings() -> None:
    rng = np.random.default_rng(1)
    points = {"x": np.exp(rng.uniform(0, 5, 400)), "y": np.exp(rng.uniform(0, 3, 400))}
    values = 0.2 * points["x"] ** 0.1 * points["y"] ** 0.05
    values[::25] *= 5.0  # one in 25 was disturbed
    found = fit_surface({"x": (1, 5, 25, 150), "y": (1, 20)}, points, values)
    np.testing.assert_allclose(found(x=10, y=4), 0.2 * 10**0.1 * 4**0.05, rtol=0.02)


def test_few_rows_take_no_longer_than_more() -> None:
    """One row at a third of the roofline, which two reach half of: it is filled up."""
    gpu = load_gpu("b200-sxm")
    axes = {"m": (1.0, 2.0, 4096.0), "n": (4096.0,), "k": (4096.0,)}
    found = rising(Surface(axes=axes, values=(0.3, 0.5, 0.8)), gpu, "fp8")
    one, two = (4096.0**2 + 2 * rows * 8192 for rows in (1, 2))
    np.testing.assert_allclose(found.values, [0.5 * one / two, 0.5, 0.8])


@pytest.mark.parametrize("gpu", ["a100-80gb-sxm", "h100-sxm", "b200-sxm", "gb300", "rtx-pro-6000"])
def test_bundled_products_rise_with_their_rows(gpu: str) -> None:
    kernels = load_calibration(gpu).kernels
    assert kernels is not None
    for numbers, surface in kernels.gemm.items():
        again = np.array(rising(surface, load_gpu(gpu), numbers).values)
        np.testing.assert_allclose(again, surface.values, rtol=2e-3)
