"""Tables of measured runs that say what cannot be, or less than they might."""

import re
from pathlib import Path

import pytest

from experiments.study.errors import StudyError
from experiments.validation.plausible import strange
from experiments.validation.rows import read_table
from experiments.validation.traffic import CannotPredictError, plan_traffic

HEADER = "run_id,model,gpu,qps,isl,osl"
LOAD = "llama-3.1-8b,h100,4,512,128"


def table(folder: Path, more: str, cells: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(f"{HEADER},{more}\na,{LOAD},{cells}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("columns", "cells", "told"),
    [
        ("mean_ttft_ms", "-45", "column ttft_mean_ms = -45: expected a number above 0"),
        ("mean_ttft_ms", "0.045", "ttft_mean_ms = 0.045: less than any server.*ttft_mean_s"),
        ("mean_tpot_ms", "0.0075", "tpot_mean_ms = 0.0075: less than any server.*tpot_mean_s"),
        ("mean_e2el_ms", "0.9", "e2e_mean_ms = 0.9: less than any server"),
        ("p99_ttft_ms", "0.3", "ttft_p99_ms = 0.3: less than any server.*ttft_p99_s"),
        ("mean_itl_ms,p99_itl_ms", "0.008,0.03", "itl_p99_ms = 0.03: less than any.*itl_p99_s"),
        ("mean_ttft_ms,mean_e2el_ms", "45,1.2", "e2e_mean_ms = 1.2 is below ttft_mean_ms = 45"),
        ("p50_ttft_ms,p99_ttft_ms", "95,40", "ttft_p50_ms = 95 is above ttft_p99_ms = 40"),
        ("p90_e2el_ms,p95_e2el_ms", "95,94", "e2e_p90_ms = 95 is above e2e_p95_ms = 94"),
    ],
)
def test_measurements_that_cannot_be(columns: str, cells: str, told: str, tmp_path: Path) -> None:
    found = read_table(table(tmp_path, columns, cells))
    assert not found.runs
    (one,) = found.unreadable
    assert one.run_id == "a"
    assert re.search(told, one.reason)


def test_what_can_be_stays() -> None:
    """Messages may bring several tokens at once, between which there is no time."""
    assert strange({"itl_mean_ms": 0.05, "itl_p50_ms": 0.0, "itl_p99_ms": 80.0}) is None
    assert strange({"ttft_mean_ms": 45.0, "ttft_p50_ms": 40.0, "ttft_p90_ms": 40.0}) is None
    assert strange({"out_tok_s": 0.5, "tpot_mean_ms": 0.0}) is None


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ("vLLM v0.11.0", "0.11.0"),
        ("vllm==0.10.2", "0.10.2"),
        ("vllm/vllm-openai:v0.15.1", "0.15.1"),
        ("vLLM (V1)", None),
        ("vllm", None),
    ],
)
def test_a_version_may_stand_beside_the_engine(
    engine: str, version: str | None, tmp_path: Path
) -> None:
    row = read_table(table(tmp_path, "engine", engine)).runs[0].base
    assert row.engine_version == version


def test_a_version_of_its_own_goes_first(tmp_path: Path) -> None:
    row = read_table(table(tmp_path, "engine,engine_version", "vllm 0.9.2,0.11.0")).runs[0].base
    assert row.engine_version == "0.11.0"


def test_rows_without_names_are_called_by_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(
        "model,gpu,qps,isl,osl\nllama-3.1-8b,h100,4,512,128\nllama-3.1-8b,h100,8,512,9\n"
    )
    assert [run.name for run in read_table(path).runs] == ["line 2", "line 3"]


def test_what_has_no_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{HEADER}\na,llama-3.1-8b,h100,4,8k,128\n")
    (run,) = read_table(path).runs
    with pytest.raises(
        CannotPredictError, match=r"expected isl_mean .*; isl_spec = '8k' tells none"
    ):
        plan_traffic(run, tmp_path)


def test_a_file_of_requests_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run_id,model,gpu,per_request_file\na,llama-3.1-8b,h100,odd.csv\n")
    (tmp_path / "odd.csv").write_text("start,in,out\n0,1,1\n")
    (run,) = read_table(path).runs
    with pytest.raises(CannotPredictError, match=r"odd.csv: expected a column arrival_s"):
        plan_traffic(run, tmp_path)


def test_the_csv_of_a_client_is_told_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_genai_perf.csv"
    path.write_text("Metric,avg,min,max,p99\nTime To First Token (ms),16.3,12.3,18.0,18.0\n")
    with pytest.raises(StudyError, match=r"no column is known \(Metric, avg.*the JSON result"):
        read_table(path, {"model": "llama-3.1-8b", "gpu": "h100"})
