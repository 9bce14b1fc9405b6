"""Results of benchmark clients are predicted as they are, one or a folder of them."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.cli.validate import main
from experiments.study.errors import StudyError
from experiments.validation.client_results import cells_of_result
from experiments.validation.predict import plan
from experiments.validation.rows import read_table
from experiments.validation.settings import setup_of

VLLM = {
    "date": "20260301-101010", "backend": "vllm", "model_id": "meta-llama/Llama-2-7b-hf",
    "num_prompts": 4, "request_rate": 2.0, "burstiness": 1.0, "max_concurrency": None,
    "duration": 2.5, "completed": 4, "total_input_tokens": 800, "total_output_tokens": 40,
    "request_throughput": 1.95, "output_throughput": 16.0, "mean_ttft_ms": 30.0,
    "median_ttft_ms": 29.0, "p99_ttft_ms": 45.0, "mean_tpot_ms": 7.0, "mean_itl_ms": 7.1,
    "mean_e2el_ms": 100.0,
}  # fmt: skip
DETAILS = {
    "start_times": [100.0, 100.4, 101.1, 101.9], "input_lens": [200, 180, 220, 200],
    "output_lens": [10, 10, 10, 10], "ttfts": [0.03] * 4, "errors": ["", "", "", ""],
}  # fmt: skip


def write(path: Path, result: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def statistics(mean: float, **more: float) -> dict[str, Any]:
    return {"successful": {"mean": mean, "median": mean, "percentiles": {"p99": 2 * mean}, **more}}


GUIDELLM = {
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "poisson", "rate": 3.0}, "model": "llama-2-7b"},
            "duration": 60.0,
            "metrics": {
                "request_totals": {"successful": 170, "errored": 4, "total": 180},
                "requests_per_second": statistics(2.8),
                "output_tokens_per_second": statistics(280.0),
                "prompt_token_count": statistics(256.0, std_dev=0.0),
                "output_token_count": statistics(100.0, std_dev=20.0),
                "time_to_first_token_ms": statistics(31.0),
                "inter_token_latency_ms": statistics(7.5),
                "request_latency": statistics(0.8),
            },
        },
        {
            "config": {"strategy": {"type_": "concurrent", "streams": 8}, "model": "llama-2-7b"},
            "metrics": {"time_to_first_token_ms": statistics(50.0)},
        },
    ]
}
AIPERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 13.0},
    "request_latency": {"unit": "ms", "avg": 650.0, "p50": 640.0, "p99": 900.0},
    "time_to_first_token": {"unit": "ms", "avg": 40.0, "p95": 60.0},
    "inter_token_latency": {"unit": "ms", "avg": 6.0},
    "input_sequence_length": {"unit": "tokens", "avg": 550.0, "std": 0.0},
    "output_sequence_length": {"unit": "tokens", "avg": 97.0, "std": 2.0},
    "request_count": {"unit": "requests", "avg": 200.0},
    "benchmark_duration": {"unit": "sec", "avg": 15.0},
    "error_summary": [{"error_details": {"code": 500}, "count": 3}],
    "input_config": {
        "endpoint": {"model_names": ["meta-llama/Llama-2-7b-hf"], "streaming": True},
        "loadgen": {"concurrency": 16, "request_rate_mode": "concurrency_burst"},
    },
}


def test_vllm_bench(tmp_path: Path) -> None:
    (cells,) = cells_of_result(write(tmp_path / "bench.json", VLLM))
    (run,) = read_table(tmp_path / "bench.json", {"gpu": "h100"}).runs
    row = run.base
    assert (cells["run_id"], row.model, row.gpu) == ("bench", VLLM["model_id"], "h100")
    assert (row.request_rate_rps, row.n_requests, row.n_failed) == (2.0, 4, 0)
    assert (row.isl_mean, row.osl_mean) == (200.0, 10.0)
    assert row.measured == {
        "ttft_mean_ms": 30.0, "ttft_p50_ms": 29.0, "ttft_p99_ms": 45.0, "tpot_mean_ms": 7.0,
        "itl_mean_ms": 7.1, "e2e_mean_ms": 100.0, "out_tok_s": 16.0, "req_s": 1.95,
    }  # fmt: skip


def test_vllm_bench_with_a_cap_and_no_rate_is_a_closed_loop(tmp_path: Path) -> None:
    capped = VLLM | {"request_rate": "inf", "max_concurrency": 8, "gpu": "L40S", "tp": "2"}
    write(tmp_path / "bench.json", capped)
    row = read_table(tmp_path / "bench.json").runs[0].base
    assert row.closed_loop
    assert (row.max_concurrency, row.gpu, row.tp) == (8, "L40S", 2)
    everything = VLLM | {"request_rate": "inf"}
    write(tmp_path / "bench.json", everything)
    assert read_table(tmp_path / "bench.json", {"gpu": "h100"}).runs[0].base.all_at_once


def test_guidellm(tmp_path: Path) -> None:
    first, second = cells_of_result(write(tmp_path / "sweep.json", GUIDELLM))
    assert (first["run_id"], second["run_id"]) == ("sweep-0", "sweep-1")
    rows = [run.base for run in read_table(tmp_path / "sweep.json", {"gpu": "h100"}).runs]
    assert (rows[0].request_rate_rps, rows[0].n_failed) == (3.0, 4)
    assert rows[0].measured["e2e_mean_ms"] == 800.0
    assert rows[0].measured["tpot_mean_ms"] == 7.5
    assert rows[0].measured["ttft_p99_ms"] == 62.0
    assert rows[1].closed_loop
    assert rows[1].max_concurrency == 8


def test_aiperf(tmp_path: Path) -> None:
    write(tmp_path / "profile_export_aiperf.json", AIPERF)
    row = read_table(tmp_path / "profile_export_aiperf.json", {"gpu": "h100"}).runs[0].base
    assert row.closed_loop
    assert (row.max_concurrency, row.n_requests, row.n_failed) == (16, 203, 3)
    assert (row.isl_mean, row.osl_mean, row.osl_spec) == (550.0, 97.0, "std 2")
    assert row.measured["tpot_mean_ms"] == 6.0
    assert row.measured["ttft_p95_ms"] == 60.0


def test_a_folder_is_predicted(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write(folder / "a" / "detailed.json", VLLM | DETAILS)
    write(folder / "a" / "summary.json", VLLM)
    write(folder / "settings.json", {"not": "a result"})
    out = tmp_path / "out"
    arguments = ["--set", "gpu=h100", "--set", "engine_version=0.15.1", "--jobs", "1"]
    assert main([str(folder), "--out", str(out), *arguments]) == 0
    errors = pd.read_csv(out / "errors.csv").set_index(["run_id", "metric"])
    for name in ("a/detailed", "a/summary"):
        # A step of Llama-2-7B on one H100 takes 5 to 9 ms, a prompt of 200 tokens 10 to 40.
        assert 5 < errors.predicted[name, "tpot_mean_ms"] < 9
        assert 10 < errors.predicted[name, "ttft_mean_ms"] < 40


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "bench.json", VLLM)
    with pytest.raises(StudyError, match=r"column gpu is missing.*--set gpu="):
        read_table(tmp_path / "bench.json")
    write(tmp_path / "other.json", {"model_id": "x"})
    with pytest.raises(StudyError, match=r"other.json: expected a result of vllm bench serve"):
        read_table(tmp_path / "other.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="0 JSON files and none a result"):
        read_table(tmp_path / "empty")


def test_a_folder_says_what_it_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text("model,gpu\nllama-3.1-8b,h100\n")
    with pytest.raises(StudyError, match=r"tables such as sweep.csv are read one by one"):
        read_table(tmp_path, {"gpu": "h100"})
    write(tmp_path / "bench.json", VLLM)  # clients write a table beside their result
    assert len(read_table(tmp_path, {"gpu": "h100"}).runs) == 1
    packed = tmp_path / "older" / "bench.json.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(json.dumps(VLLM).encode()))
    with pytest.raises(
        StudyError, match=r"older/bench.json.gz: gzipped JSON, expected it unpacked"
    ):
        read_table(tmp_path, {"gpu": "h100"})


@pytest.mark.parametrize("backend", ["vllm-pooling", "openai-embeddings", "vllm-rerank"])
def test_other_work_than_answers_is_refused(tmp_path: Path, backend: str) -> None:
    path = write(tmp_path / "bench.json", VLLM | {"backend": backend})
    (skipped,) = plan(read_table(path, {"gpu": "h100"})).skipped
    assert "is not modelled, expected vllm" in skipped.reason


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"loadgen": {"fixed_schedule": True, "concurrency": 16}}, "schedule of its own"),
        ({"loadgen": {"user_centric_rate": 4.0}}, "user-centric"),
        ({"endpoint": AIPERF["input_config"]["endpoint"] | {"type": "embeddings"}}, "embeddings"),
    ],
)
def test_aiperfs_other_loads_are_refused(
    tmp_path: Path, asked: dict[str, Any], reason: str
) -> None:
    config = AIPERF["input_config"] | asked
    path = write(tmp_path / "profile_export_aiperf.json", AIPERF | {"input_config": config})
    (skipped,) = plan(read_table(path, {"gpu": "h100"})).skipped
    assert reason in skipped.reason


def test_aiperfs_gamma_gaps_have_their_shape(tmp_path: Path) -> None:
    asked = {"request_rate": 4.0, "request_rate_mode": "gamma", "arrival_smoothness": 0.5}
    config = AIPERF["input_config"] | {"loadgen": asked}
    path = write(tmp_path / "profile_export_aiperf.json", AIPERF | {"input_config": config})
    row = read_table(path, {"gpu": "h100"}).runs[0].base
    assert (row.arrival_process, row.burstiness) == ("gamma", 0.5)


@pytest.mark.parametrize("process", ["incremental", "trace_replay"])
def test_rates_that_change_are_refused(tmp_path: Path, process: str) -> None:
    one = copy.deepcopy(GUIDELLM["benchmarks"][0])
    one["config"]["strategy"] = {"type_": process, "start_rate": 1.0}
    path = write(tmp_path / "benchmarks.json", {"benchmarks": [one]})
    (skipped,) = plan(read_table(path, {"gpu": "h100"})).skipped
    assert "a rate that changes is not told, expected a per_request_file" in skipped.reason


def test_set_takes_columns_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "bench.json", VLLM)
    arguments = [str(tmp_path / "bench.json"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "gppu=h100"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main([*arguments, "--set", "gpu"]) == 2


def test_a_client_tells_how_its_tokens_are_drawn(tmp_path: Path) -> None:
    llama = "meta-llama/Llama-3.1-8B-Instruct"

    def sampling(name: str, content: dict[str, object], version: str) -> str:
        write(tmp_path / name, content)
        given = {"gpu": "h100", "model": llama, "engine_version": version}
        row = read_table(tmp_path / name, given).runs[0].base
        return setup_of(row, 1000).engine.sampling

    assert sampling("bench.json", VLLM, "0.11.0") == "greedy"
    assert sampling("bench.json", VLLM, "0.15.1") == "top_p"
    assert sampling("sweep.json", GUIDELLM, "0.11.0") == "top_p"
    assert sampling("profile_export_aiperf.json", AIPERF, "0.11.0") == "top_p"


def swept(number: int, **settings: object) -> dict[str, Any]:
    """As ``vllm bench sweep serve`` writes a run: what was set stands beside what was measured."""
    return VLLM | {"run_number": number} | settings


def test_a_sweep_says_what_served(tmp_path: Path) -> None:
    """Runs count once, warm-ups and failures not at all, and no setting is lost."""
    folder = tmp_path / "sweep" / "SERVE--tp=2"
    settings = {"tensor_parallel_size": 2, "max-num-seqs": 64, "enable_prefix_caching": False}
    unknown = {"compilation_config.level": 3, "random_input_len": 200}
    runs = [swept(0, **settings, **unknown), swept(1, **settings)]
    for number, run in enumerate(runs):
        write(folder / f"run={number}.json", run)
    write(folder / "warmup.json", swept(-1, **settings))
    (folder / "summary.json").write_text(json.dumps(runs), encoding="utf-8")
    write(folder.parent / "SERVE-failure.json", {"error_type": "RuntimeError", "error": "gone"})
    table = read_table(folder.parent, {"gpu": "h100"})
    rows = [run.base for run in table.runs]
    assert [row.run_id for row in rows] == ["SERVE--tp=2/run=0", "SERVE--tp=2/run=1"]
    assert {(row.tp, row.max_num_seqs, row.prefix_caching) for row in rows} == {(2, 64, "False")}
    assert table.unread == ("compilation_config.level",)
    alone = read_table(folder / "summary.json", {"gpu": "h100"})
    assert [run.base.tp for run in alone.runs] == [2, 2]
    with pytest.raises(StudyError, match="a sweep's warm-up"):
        read_table(folder / "warmup.json", {"gpu": "h100"})


def test_parts_of_a_sweeps_settings(tmp_path: Path) -> None:
    """Of what stands below a setting counts what is ours; drafts are not passed over."""
    mode = {"compilation_config.cudagraph_mode": "FULL_DECODE_ONLY"}
    path = write(tmp_path / "a.json", swept(0, **mode))
    assert read_table(path, {"gpu": "h100"}).runs[0].base.cudagraph_mode == "FULL_DECODE_ONLY"
    drafts = {"speculative_config.method": "eagle", "speculative_config.model": "x/y"}
    table = read_table(write(tmp_path / "b.json", swept(0, **drafts)), {"gpu": "h100"})
    (skipped,) = plan(table).skipped
    told = "speculative = 'method = eagle, model = x/y' is not described"
    assert skipped.reason.startswith(told)


def test_a_sweeps_table_is_its_results(tmp_path: Path) -> None:
    """``summary.csv``, as pandas writes it: an index, ``inf`` and empty cells."""
    runs = [
        swept(0, tensor_parallel_size=2, enable_prefix_caching=False) | {"failed": 0},
        swept(1, tensor_parallel_size=4) | {"request_rate": float("inf"), "max_concurrency": 8},
    ]
    pd.DataFrame.from_records(runs).to_csv(tmp_path / "summary.csv")
    table = read_table(tmp_path / "summary.csv", {"gpu": "h100"})
    first, second = (run.base for run in table.runs)
    assert (first.tp, first.request_rate_rps, first.prefix_caching) == (2, 2.0, "False")
    assert (first.isl_mean, first.osl_mean, first.n_requests) == (200.0, 10.0, 4)
    assert (second.tp, second.closed_loop, second.max_concurrency) == (4, True, 8)
    assert first.measured["ttft_mean_ms"] == 30.0
    assert table.unread == ()


def test_metadata_have_many_names(tmp_path: Path) -> None:
    """Of a key that means nothing is told; two that do not agree are refused."""
    said = {"vllm_version": "0.15.1", "GPU": "H100", "tp_size": "4", "region": "west"}
    table = read_table(write(tmp_path / "a.json", VLLM | said | {"speculative_config": "eagle"}))
    (run,) = table.runs
    assert (run.base.engine_version, run.base.gpu, run.base.tp) == ("0.15.1", "H100", 4)
    assert run.base.speculative == "eagle"
    assert table.unread == ("region",)
    both = write(tmp_path / "b.json", VLLM | {"tp": "2", "tensor_parallel_size": "4"})
    with pytest.raises(StudyError, match="tensor_parallel_size = 4, and tp = 2 beside it"):
        read_table(both)


def test_a_text_diffusion_model_is_no_decoder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", VLLM | {"diffusion_steps_per_canvas": 3.0})
    (skipped,) = plan(read_table(path, {"gpu": "h100"})).skipped
    assert "diffusion" in skipped.reason


def test_aiperf_without_streams_and_its_own_requests(tmp_path: Path) -> None:
    """A result that has no first tokens is one; another's requests beside it are not its own."""
    (tmp_path / "profile_export.jsonl").write_text("{}\n", encoding="utf-8")
    timed = {key: value for key, value in AIPERF.items() if key != "time_to_first_token"}
    path = write(tmp_path / "nightly.json", timed)
    row = read_table(path, {"gpu": "h100"}).runs[0].base
    assert "ttft_mean_ms" not in row.measured
    assert row.measured["e2e_mean_ms"] == 650.0
    assert row.per_request_file is None
    mine = tmp_path / "nightly.jsonl"
    mine.write_text("{}\n", encoding="utf-8")
    assert read_table(path, {"gpu": "h100"}).runs[0].base.per_request_file == str(mine.resolve())


def test_guidellms_replay_is_refused(tmp_path: Path) -> None:
    one = copy.deepcopy(GUIDELLM["benchmarks"][0])
    one["config"]["strategy"] = {"type_": "replay"}
    path = write(tmp_path / "benchmarks.json", {"benchmarks": [one]})
    (skipped,) = plan(read_table(path, {"gpu": "h100"}), seeds=1).skipped
    assert "'replay': a rate that changes is not told" in skipped.reason
