"""Results of SGLang's bench_serving and of inference-perf; drafts and samples in others."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.validation.client_results import NotAResultError, cells_of_result
from experiments.validation.more_clients import DRAFTED, EMPTY_GAPS
from experiments.validation.rows import RunRow, read_table
from experiments.validation.settings import setup_of
from experiments.validation.traffic import CannotPredictError

SGLANG = {
    "backend": "vllm", "dataset_name": "random", "request_rate": 5.0, "max_concurrency": None,
    "duration": 204.5, "completed": 1000, "total_input_tokens": 302118,
    "total_output_tokens": 195775, "total_output_tokens_retokenized": 195324,
    "request_throughput": 4.889, "output_throughput": 957.2, "mean_e2e_latency_ms": 2409.5,
    "median_e2e_latency_ms": 1537.9, "p99_e2e_latency_ms": 9813.9, "mean_ttft_ms": 91.7,
    "median_ttft_ms": 76.4, "p99_ttft_ms": 327.9, "mean_tpot_ms": 11.8, "mean_itl_ms": 11.9,
    "p95_itl_ms": 20.0, "accept_length": None,
}  # fmt: skip


def of(mean: float, **more: float) -> dict[str, float]:
    return {"mean": mean, "median": mean, "p90": 2 * mean, "p99": 3 * mean, **more}


STAGE: dict[str, Any] = {
    "load_summary": {"count": 1089, "requested_rate": 18.0, "send_duration": 60.0},
    "successes": {
        "count": 1086,
        "latency": {
            "request_latency": of(0.776), "time_per_output_token": of(0.0118),
            "time_to_first_token": of(0.036), "inter_token_latency": of(0.0117),
        },
        "throughput": {"requests_per_sec": 17.9, "output_tokens_per_sec": 1129.0},
        "prompt_len": of(200.0, p10=200.0) | {"p90": 200.0},
        "output_len": of(63.0, p10=57.0) | {"p90": 69.0},
    },
    "failures": {"count": 3},
}  # fmt: skip


def row_of(path: Path, result: dict[str, Any], **cells: str) -> RunRow:
    path.write_text(json.dumps(result), encoding="utf-8")
    told = {"gpu": "h100", "model": "llama-3-8b", "engine_version": "0.11.0"} | cells
    return read_table(path, told).runs[0].base


def test_sglangs_client_measures_any_server(tmp_path: Path) -> None:
    row = row_of(tmp_path / "bench.jsonl", SGLANG)
    assert (row.engine, row.request_rate_rps, row.n_requests) == ("vllm", 5.0, 1000)
    assert (row.isl_mean, row.osl_mean) == (302.118, 195.775)
    assert row.measured == {
        "ttft_mean_ms": 91.7, "ttft_p50_ms": 76.4, "ttft_p99_ms": 327.9, "tpot_mean_ms": 11.8,
        "itl_mean_ms": 11.9, "itl_p95_ms": 20.0, "e2e_mean_ms": 2409.5, "e2e_p50_ms": 1537.9,
        "e2e_p99_ms": 9813.9, "out_tok_s": 957.2, "req_s": 4.889,
    }  # fmt: skip
    closed = SGLANG | {"request_rate": float("inf"), "max_concurrency": 16}
    assert row_of(tmp_path / "closed.jsonl", closed).closed_loop


def test_sglangs_own_server_is_not_modelled(tmp_path: Path) -> None:
    row = row_of(tmp_path / "bench.jsonl", SGLANG | {"backend": "sglang"})
    with pytest.raises(CannotPredictError, match="engine = 'sglang' is not modelled"):
        setup_of(row, 1000)


def test_a_stage_of_inference_perf(tmp_path: Path) -> None:
    row = row_of(tmp_path / "stage_0_lifecycle_metrics.json", STAGE)
    assert (row.request_rate_rps, row.n_requests, row.n_failed) == (18.0, 1089, 3)
    assert (row.isl_mean, row.isl_spec) == (200.0, "fixed")
    assert (row.osl_mean, row.osl_spec) == (63.0, "std 4.68201")
    found = row.measured
    assert found["ttft_mean_ms"] == pytest.approx(36.0)
    assert found["tpot_mean_ms"] == pytest.approx(11.8)
    assert found["itl_p99_ms"] == pytest.approx(35.1)
    assert found["e2e_p90_ms"] == pytest.approx(1552.0)
    assert (found["req_s"], found["out_tok_s"]) == (17.9, 1129.0)
    users = STAGE | {"load_summary": {"count": 500, "concurrency": 32}}
    loop = row_of(tmp_path / "users.json", users)
    assert loop.closed_loop
    assert loop.max_concurrency == 32


def test_gaps_between_messages_without_tokens_are_left_out_and_told(tmp_path: Path) -> None:
    latency = STAGE["successes"]["latency"]
    empty = latency | {"inter_token_latency": of(0.0065) | {"median": 4e-5}}
    row = row_of(
        tmp_path / "a.json", STAGE | {"successes": STAGE["successes"] | {"latency": empty}}
    )
    assert row.notes == EMPTY_GAPS
    assert not [name for name in row.measured if name.startswith(("tpot", "itl"))]
    assert row.measured["e2e_mean_ms"] == pytest.approx(776.0)


def test_what_the_server_says_of_itself_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "stage_0_prometheus_metrics.json"
    path.write_text(json.dumps(STAGE | {"successes": {"count": 3, "rate": 1.0}}))
    with pytest.raises(NotAResultError, match=r"SGLang's bench_serving or inference-perf$"):
        cells_of_result(path)


VLLM = {
    "model_id": "llama-3-8b", "duration": 2.5, "num_prompts": 1000, "completed": 984, "failed": 0,
    "request_rate": 2.0, "mean_ttft_ms": 30.0, "total_input_tokens": 984 * 200,
    "total_output_tokens": 984 * 10,
}  # fmt: skip


def test_a_data_set_may_have_fewer_prompts_than_were_asked_for(tmp_path: Path) -> None:
    row = row_of(tmp_path / "bench.json", VLLM)
    assert (row.n_requests, row.n_failed) == (984, 0)
    assert row_of(tmp_path / "failed.json", VLLM | {"failed": 16}).n_failed == 16


@pytest.mark.parametrize(
    "result", [VLLM | {"spec_decode_num_drafts": 900}, SGLANG | {"accept_length": 2.4}]
)
def test_drafts_that_nobody_describes_are_refused(tmp_path: Path, result: dict[str, Any]) -> None:
    row = row_of(tmp_path / "bench.json", result)
    assert DRAFTED in row.notes
    with pytest.raises(CannotPredictError, match="its server drafted tokens"):
        setup_of(row, 1000)


def test_a_sample_of_requests_is_not_replayed(tmp_path: Path) -> None:
    benchmark: dict[str, Any] = {
        "config": {"strategy": {"type_": "poisson", "rate": 3.0}},
        "metrics": {"request_totals": {"successful": 2, "errored": 0, "total": 2}},
        "requests": {"successful": [{"request_id": "a"}], "incomplete": [], "errored": []},
    }
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps({"benchmarks": [benchmark]}))
    assert "per_request_file" not in cells_of_result(path)[0]
    benchmark["requests"]["successful"] *= 2
    path.write_text(json.dumps({"benchmarks": [benchmark]}))
    assert "per_request_file" in cells_of_result(path)[0]
