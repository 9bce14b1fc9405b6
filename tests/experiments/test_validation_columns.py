"""Tables of measured runs under other names of columns, with other separators and units."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.cli.validate import main
from experiments.study.errors import StudyError
from experiments.validation.columns import named
from experiments.validation.per_request import PerRequestError, read_requests
from experiments.validation.rows import COLUMNS, RunRow, read_table
from tests.experiments.measured_runs import run, write_table


def row_of(path: Path, text: str) -> RunRow:
    path.write_text(text, encoding="utf-8")
    return read_table(path).runs[0].base


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        ("Model", "model"), (" TP ", "tp"), ("tensor-parallel-size", "tp"),
        ("GPU Memory Utilization", "gpu_mem_util"), ("enable_prefix_caching", "prefix_caching"),
        ("num_prompts", "n_requests"), ("Request rate (req/s)", "request_rate_rps"),
        ("Mean TTFT (ms)", "ttft_mean_ms"), ("median_itl_ms", "itl_p50_ms"),
        ("P99 TPOT [ms]", "tpot_p99_ms"), ("e2el_p95_ms", "e2e_p95_ms"),
        ("avg_time_to_first_token_ms", "ttft_mean_ms"), ("random_input_len", "isl_spec"),
        ("Output token throughput (tok/s)", "out_tok_s"), ("output tokens/s", "out_tok_s"),
        ("users", "max_concurrency"), ("hardware", "gpu"), ("Rate (req/s)", "request_rate_rps"),
        ("enable_lora", "lora"), ("speculative_config", "speculative"),
        ("input tokens", "isl_spec"), ("completion_tokens", "osl_spec"),
    ],
)  # fmt: skip
def test_a_column_has_many_names(header: str, ours: str) -> None:
    assert named([header], COLUMNS) == {header: (ours, "")}


@pytest.mark.parametrize("micro", ["\u00b5", "\u03bc", "u"])
def test_the_sign_of_micro(micro: str, tmp_path: Path) -> None:
    """Without it what is left of the unit were seconds."""
    row = row_of(
        tmp_path / "runs.csv", f"model,gpu,mean TTFT ({micro}s)\nllama-3.1-8b,h100,45000\n"
    )
    assert row.measured == {"ttft_mean_ms": 45.0}


@pytest.mark.parametrize(
    ("cell", "value"),
    [("45 (mean)", 45.0), ("45000 \u03bcs", 45.0), ("45 (p50)", None), ("45 (median)", None)],
)
def test_a_remark_may_tell_another_statistic(
    cell: str, value: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"model,gpu,ttft_mean_ms\nllama-3.1-8b,h100,{cell}\n", encoding="utf-8")
    table = read_table(path)
    assert [run.base.measured["ttft_mean_ms"] for run in table.runs] == ([value] if value else [])
    assert len(table.unreadable) == (0 if value else 1)


def test_a_unit_may_stand_before_the_statistic() -> None:
    """As LLMPerf writes it."""
    assert named(["inter_token_latency_s_mean"], COLUMNS) == {
        "inter_token_latency_s_mean": ("itl_mean_ms", "s")
    }


@pytest.mark.parametrize(
    "header", ["latency_ms", "rps", "ttft_p75_ms", "throughput", "batch", "ttft_std_ms", "tokens"]
)
def test_what_could_mean_two_things_means_nothing(header: str) -> None:
    assert named([header], COLUMNS) == {}


@pytest.mark.parametrize(
    ("dtype", "precision"), [("bfloat16", None), ("auto", None), ("fp8", "fp8")]
)
def test_sixteen_bits_of_activations_say_nothing_of_weights(
    dtype: str, precision: str | None, tmp_path: Path
) -> None:
    """A checkpoint in fp8 is one whatever vLLM's ``--dtype``."""
    row = row_of(tmp_path / "runs.csv", f"model,gpu,dtype,#GPUs\nllama-3.1-8b-FP8,h100,{dtype},2\n")
    assert (row.precision, row.n_gpus) == (precision, 2)


def test_a_quantization_goes_before_a_dtype(tmp_path: Path) -> None:
    text = "model,gpu,dtype,quantization,gpus\nllama-3.1-8b,h100,bfloat16,int4,1\n"
    assert row_of(tmp_path / "runs.csv", text).precision == "int4"
    assert named(["gpus"], COLUMNS) == {}


def test_a_table_as_people_write_them(tmp_path: Path) -> None:
    row = row_of(
        tmp_path / "runs.csv",
        "Run;Model;GPU;tensor_parallel_size;QPS;num_prompts;ISL;OSL;TTFT mean (s);p99 e2el (s)\n"
        "a;llama-3.1-8b;H100;2;3.5;400;1024;128;0.05;1.9 s\n\n",
    )
    assert (row.run_id, row.tp, row.request_rate_rps, row.n_requests) == ("a", 2, 3.5, 400)
    assert (row.isl_spec, row.osl_spec) == ("1024", "128")
    assert row.measured == {"ttft_mean_ms": 50.0, "e2e_p99_ms": 1900.0}


def test_bars_and_remarks(tmp_path: Path) -> None:
    text = "# measured on Monday\n\n#again\nrun_id|model|gpu|tp\na|llama-3.1-8b|h100|2\n"
    row = row_of(tmp_path / "runs.csv", text)
    assert (row.run_id, row.gpu, row.tp) == ("a", "h100", 2)


def test_our_own_name_goes_before_others(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    row = row_of(path, "run_id,model,gpu,tp,tp_size\na,llama-3.1-8b,h100,2,8\n")
    assert row.tp == 2
    assert read_table(path).unread == ("tp_size",)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("run_id,model,gpu,gpu", "column gpu stands twice"),
        ("run_id,model,gpu,tp_size,tensor_parallel_size", "tp_size and tensor_parallel_size are"),
        ("run_id,model,gpu,ttft_mean", "ttft_mean has no unit, expected ttft_mean_ms or ttft_mean"),
        ("run_id,modle,gpu", "column model is missing.*did you mean modle"),
    ],
)
def test_headers_that_cannot_be_read(header: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{header}\na,b,c,1,2\n", encoding="utf-8")
    with pytest.raises(StudyError, match=told):
        read_table(path)


def test_a_line_with_more_cells_than_columns_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run_id,model,gpu,tp\na,llama-3.1-8b,h100,2\nb,llama-3.1-8b,h100,1,024\n")
    table = read_table(path)
    assert [one.name for one in table.runs] == ["a"]
    assert [(one.run_id, one.reason) for one in table.unreadable] == [
        ("b", "cells right of the last column: 024")
    ]


def test_a_parquet_table_may_have_its_names_as_index(tmp_path: Path) -> None:
    cells = {"model": ["llama-3.1-8b"], "gpu": ["h100"], "mean_ttft_ms": [31.5], "tp": [2.0]}
    table = pd.DataFrame(cells, index=pd.Index(["a"], name="run_id"))
    table.to_parquet(tmp_path / "runs.parquet")
    table.to_parquet(tmp_path / "runs.pq")  # known by how it begins
    for name in ("runs.parquet", "runs.pq"):
        row = read_table(tmp_path / name).runs[0].base
        assert (row.run_id, row.tp, row.measured) == ("a", 2, {"ttft_mean_ms": 31.5})


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.yaml").write_text("benchmarks: []\n")
    with pytest.raises(StudyError, match=r"a .yaml file, expected CSV, Parquet, or the JSON"):
        read_table(tmp_path / "benchmarks.yaml")


def test_columns_that_mean_nothing_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {"n_requests": "5", "max_num_seq": "4", "who": "us"}
    table = write_table(tmp_path / "runs.csv", [run("a", **cells)])
    assert main([str(table), "--out", str(tmp_path / "out"), "--jobs", "1", "--seeds", "1"]) == 0
    told = capsys.readouterr().err
    assert "not read: column max_num_seq; did you mean max_num_seqs?" in told
    assert "not read: column who\n" in told


def test_requests_under_usual_names_are_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(
        "timestamp,Prompt Tokens,completion tokens\n"
        "2026-03-01T10:00:00,200,20\n2026-03-01T10:00:02.5,300,30\n",
        encoding="utf-8",
    )
    read_requests.cache_clear()
    found = read_requests(path)
    assert found.arrival_s.tolist() == [0.0, 2.5]
    assert (found.prompt_tokens.tolist(), found.output_tokens.tolist()) == ([200, 300], [20, 30])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("when,input_tokens,output_tokens", "expected a column arrival_s or .*; or a trace, but"),
        ("timestamp,input_tokens,output_tokens,status", "expected a column .*, beside status"),
    ],
)
def test_requests_that_cannot_be_placed(columns: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / f"{len(columns)}.csv"
    path.write_text(f"{columns}\n1,2,3,timeout\n", encoding="utf-8")
    with pytest.raises(PerRequestError, match=told):
        read_requests(path)
