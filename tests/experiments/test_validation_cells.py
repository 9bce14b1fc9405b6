"""What single cells of a table of measured runs are read as: one table per kind of cell."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from experiments.validation import cells
from experiments.validation.lengths import length_law
from experiments.validation.rows import Run, row_of
from experiments.validation.settings import CannotPredictError, setup_of
from experiments.validation.traffic import plan_traffic
from hardware.gpu import load_gpu
from tests.experiments.measured_runs import run


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("max_num_seqs", "1,024", 1024),
        ("max_num_seqs", "1 024", 1024),
        ("max_num_seqs", "1_024.0", 1024),
        ("max_model_len", "131,072 tokens", 131_072),
        ("kv_blocks", "27758 blocks", 27_758),
        ("isl_mean", "~1,024.5", 1024.5),
        ("isl_mean", "5e2", 500.0),
        ("gpu_mem_util", "90%", 0.9),
        ("gpu_mem_util", "0.9", 0.9),
        ("request_rate_rps", "6 req/s", 6.0),
        ("request_rate_rps", "90 req/min", 1.5),
        ("duration_s", "20 min", 1200.0),
        ("n_gpus", "8x", 8),
        ("max_concurrency", "unlimited", None),
        ("kv_blocks", "—", None),
        ("block_size", "N/A", None),
        ("max_num_seqs", "256 (v1 default)", 256),
        ("request_rate_rps", "6.0 (poisson)", 6.0),
        ("tp", "0", None),
        ("pp", "off", None),
        ("ep", "0.0", None),
        ("ep", "ep=8", 8),
        ("ep", "false", None),
        ("ep", "enabled", 1),  # as many as tp, which is 1 in this row
        ("dp_replicas", "none", None),
    ],
)
def test_numbers(column: str, text: str, value: float | None) -> None:
    assert getattr(row_of(run("a", **{column: text})), column) == value


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("isl_mean", "1,5"),  # a decimal comma, or something forgotten
        ("isl_mean", "8k"),  # 8,000 or 8,192
        ("max_num_seqs", "12,34"),
        ("gpu_mem_util", "90"),
        ("duration_s", "20 parsecs"),
        ("request_rate_rps", "0"),
        ("block_size", "16.5"),
        ("tp", "2 or 4"),
        ("tp", "2 (or 4)"),
        ("max_num_seqs", "0"),
    ],
)
def test_what_means_several_things_or_none_is_refused(column: str, text: str) -> None:
    with pytest.raises(ValidationError, match=column):
        row_of(run("a", **{column: text}))


def test_measurements_carry_units() -> None:
    row = row_of(run("a", ttft_mean_ms="1.2 s", tpot_mean_ms="8 ms", out_tok_s="1,950 tok/s",
                     e2e_mean_ms="-", req_s="6 rps"))  # fmt: skip
    assert row.measured == {
        "ttft_mean_ms": 1200.0, "tpot_mean_ms": 8.0, "out_tok_s": 1950.0, "req_s": 6.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "process"),
    [
        ("gamma burstiness=4.0", "gamma"),
        ("Gamma, bursty", "gamma"),
        ("gamma burstiness=50.0 (near-constant)", "gamma"),
        ("Poisson (burstiness 1.0)", "poisson"),
        ("poisson, fixed seed", "poisson"),
        ("constant rate", "constant"),
        ("closed loop, batch of prompts", "closed loop"),
        ("open loop (not closed), exponential gaps", "poisson"),
        ("trace replay in bursts", "trace"),
        ("burst", "all at once"),
        ("all_at_once", "all at once"),
        ("offline batch", "all at once"),
        ("request rate inf", "all at once"),
        ("all requests at t=0", "all at once"),
        ("inf", "all at once"),
        ("fixed concurrency 16", "closed loop"),
        ("concurrency=64", "closed loop"),
        ("synchronous", "closed loop"),
        ("bursty", None),
        ("on/off bursts", None),
        ("on/off burst", None),
        ("bursts of 10, every 5 s", None),
        ("batchwise ramp", None),
        (None, None),
    ],
)
def test_arrival_processes(words: str | None, process: str | None) -> None:
    assert cells.process_of(words) == process
    row = row_of(run("a", arrival_process=words or ""))
    assert row.all_at_once == (process == "all at once")
    assert row.closed_loop == (process == "closed loop")


def test_users_in_words() -> None:
    for words, users in (
        ("fixed concurrency 16", 16), ("closed loop, 8 users", 8), ("synchronous", 1),
        ("closed loop", None), ("poisson, 8 users", None),
    ):  # fmt: skip
        assert row_of(run("a", arrival_process=words)).max_concurrency == users
    assert (
        row_of(run("a", arrival_process="concurrency=4", max_concurrency="2")).max_concurrency == 2
    )


def notes_of(**words: str) -> tuple[str, ...]:
    return plan_traffic(Run("a", (row_of(run("a", **words)),)), Path()).notes


def test_the_shape_of_gamma_gaps_stands_in_its_column_or_in_the_words() -> None:
    drawn = [
        plan_traffic(Run("a", (row_of(run("a", **words)),)), Path()).draw(0).requests.arrival_s
        for words in (
            {"arrival_process": "gamma", "burstiness": "4"},
            {"arrival_process": "gamma burstiness=4.0"},
            {"arrival_process": "gamma cv=0.5", "burstiness": "4.0"},
            {"arrival_process": "gamma", "burstiness": "0.25"},
        )
    ]
    assert drawn[0].tolist() == drawn[1].tolist() == drawn[2].tolist() != drawn[3].tolist()
    assert notes_of(arrival_process="gamma") == (
        "arrivals: Poisson, for gamma without its burstiness",
    )
    with pytest.raises(CannotPredictError, match=r"burstiness = 2, but .* says 4, expected one"):
        notes_of(arrival_process="gamma burstiness=4", burstiness="2")


@pytest.mark.parametrize(
    ("spec", "mean"),
    [
        ("Open dataset for llama2-70b, see the rules of round 4", None),
        ("up to 2048 tokens", None),
        ("llama-3.1-70b synthetic", None),
        ("ShareGPT_V3, 2024-06", None),
        ("max 2048", None),
        ("p50 512", None),
        ("8k", None),
        ("mean=1.5k", None),
        ("constant 500", 500.0),
        ("fixed at 512 tokens (llama-2-7b)", 512.0),
        ("1,024", 1024.0),
        ("random 1024 (0.8-1.0)", 1024.0),
        ("1,024-2,048", 1536.0),
        ("between 512 and 1024 tokens", 768.0),
        ("uniform(512,1024)", 768.0),
        ("mean input length 1,000, llama-3.1-70b", 1000.0),
        ("random_input_len=256", 256.0),
        ("avg. 300 tokens of ShareGPT v3", 300.0),
        ("avg. 1234.5", 1234.5),
        ("220 avg", 220.0),
        ("at most 220 avg", None),
        ("ISL 1024", 1024.0),
        ("300 +- 20", 300.0),
    ],
)
def test_only_what_is_said_to_be_a_length_is_one(spec: str, mean: float | None) -> None:
    law = length_law("prompt", spec, None)
    assert (law and law.mean) == mean
    stated = length_law("prompt", spec, 700.0)
    assert stated is not None
    assert stated.mean == (mean if mean and stated.jitter else 700.0)


def test_prose_without_a_length_is_a_reason() -> None:
    spec = "Open dataset for llama2-70b, see the rules of round 4"
    with pytest.raises(CannotPredictError, match="no length of the prompts, expected isl_mean"):
        notes_of(isl_spec=spec)
    assert any("prompt lengths: lognormal" in one for one in notes_of(isl_spec=spec, isl_mean="9"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100-80GB (default of the cluster, not stated)", "h100-sxm"),
        ("8x NVIDIA H100-SXM5-80GB", "h100-sxm"),
        ("8 x h100_sxm [rented]", "h100-sxm"),
        ("A100-80GB-SXM; one of eight", "a100-80gb-sxm"),
        ("H200 SXM, NVLink", "h200-sxm"),
        ("h100 (pcie)", "h100-pcie"),
        ("H100 (80 GB, PCIe)", "h100-pcie"),
        ("8 H100 SXM (80GB)", "h100-sxm"),
        ("H100 x 8", "h100-sxm"),
        ("H100x8", "h100-sxm"),
        ("RTX 4090", "rtx-4090"),
        ("2x RTX 4090 (x2)", "rtx-4090"),
        ("2*A100-80G?", "a100-80gb-sxm"),
        ("2xA100-80GB (NVLink)", "a100-80gb-sxm"),
        ("A10G 24GB", "a10g"),
        ("L40S", "l40s"),
    ],
)
def test_gpus_with_remarks(text: str, name: str) -> None:
    assert load_gpu(row_of(run("a", gpu=text)).gpu).name == load_gpu(name).name


@pytest.mark.parametrize("text", ["A100 (MIG 3g.40gb)", "not stated (H100)", "P100"])
def test_another_gpu_is_no_remark(text: str) -> None:
    with pytest.raises(ValueError, match="gpu = "):
        load_gpu(row_of(run("a", gpu=text)).gpu)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.9.2rc1", (0, 9, 2)),
        ("v0.11.0", (0, 11, 0)),
        ("0.8.5.post1", (0, 8, 5)),
        ("0.9.2rc1.dev12+g0a1b2c3", (0, 9, 2)),
        ("~2025-05 (vllm 0.8.x)", (0, 8)),
        ("python 3.12, vLLM v0.10.1, CUDA 12.8", (0, 10, 1)),
        ("CUDA 12.8, 0.7.3", (0, 7, 3)),
        ("1.0.0", (1, 0, 0)),
        ("container 25.06", None),
        ("nightly of 2025-06-01", None),
        ("", None),
    ],
)
def test_versions(text: str, version: tuple[int, ...] | None) -> None:
    assert cells.version_of(text) == version


@pytest.mark.parametrize(
    ("words", "quantization", "dtype"),
    [
        ("fp8 (w8a8)", "fp8", "auto"),
        ("W8A8", "int8", "auto"),
        ("bf16", "auto", "bfloat16"),
        ("AWQ 4-bit", "int4", "auto"),
        ("INT8 W8A16", "w8a16", "auto"),
    ],
)
def test_precisions(words: str, quantization: str, dtype: str) -> None:
    engine = setup_of(row_of(run("a", precision=words, gpu="H100")), 100).engine
    assert (engine.quantization, engine.dtype) == (quantization, dtype)


def test_modes_and_caches() -> None:
    assert setup_of(row_of(run("a", mode="agg (one node)")), 100)
    engine = setup_of(row_of(run("a", kv_cache_dtype="fp8_e4m3")), 100).engine
    assert engine.kv_cache_dtype == "fp8"
    with pytest.raises(CannotPredictError, match="kv_cache_dtype = 'int8' is not modelled"):
        setup_of(row_of(run("a", kv_cache_dtype="int8")), 100)


@pytest.mark.parametrize(
    ("text", "on"),
    [("on(v1 default)", True), ("Enabled", True), ("1", True), ("off", False), ("no", False),
     ("not set", False), ("disabled", False), ("0", False), ("default", None), ("", None),
     ("not stated in the report", None), ("not enabled", False)],
)  # fmt: skip
def test_switches(text: str, on: bool | None) -> None:
    assert cells.switched_on(text) is on


@pytest.mark.parametrize(
    ("gpu", "tp"),
    [
        ("8xH100", 8),
        ("4 x A100-80GB-SXM (NVLink)", 4),
        ("H100 x2", 2),
        ("H200*8", 8),
        ("H100", 1),
        ("H100 (x4)", 4),
        ("A100-80GB-SXM (2 GPUs)", 2),
        ("H100 [8x]", 8),
        ("H100 (MIG disabled)", 1),
    ],
)
def test_a_count_beside_the_name_is_the_gpus_of_the_row(gpu: str, tp: int) -> None:
    setup = setup_of(row_of(run("a", gpu=gpu, tp="", n_gpus="")), 1000)
    assert setup.cluster.tensor_parallel_size == tp
    told = [note for note in setup.notes if note.startswith("tp: ")]
    assert told == ([f"tp: {tp}, as n_gpus = {tp}"] if tp > 1 else [told[0]])


def test_a_count_does_not_overrule_a_column() -> None:
    said = setup_of(row_of(run("a", gpu="8xH100", tp="2", n_gpus="")), 1000)
    assert (said.cluster.tensor_parallel_size, said.cluster.replicas) == (2, 1)
    replicas = setup_of(row_of(run("a", gpu="8xH100", tp="", n_gpus="", dp_replicas="4")), 1000)
    assert (replicas.cluster.tensor_parallel_size, replicas.cluster.replicas) == (2, 4)
    fewer = setup_of(row_of(run("a", gpu="8xH100", tp="", n_gpus="1")), 1000)
    assert fewer.cluster.tensor_parallel_size == 1
