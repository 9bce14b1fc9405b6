"""The command line: what it prints where, and how fast it starts."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from study_files import ROOT, SMALL, run_cli, start_cli, write_study

from experiments import run_study
from experiments.reporting.records import Records
from experiments.reporting.table import COLUMNS, print_summary, short_name
from experiments.reporting.terminal import screen
from experiments.reporting.words import ceilings_text, points_text
from experiments.study.bundled import bundled_studies
from experiments.study.document import read_raw
from experiments.study.points import prepare
from sim.measuring.metrics import METRICS


def loaded_by(*argv: str, cwd: Path = ROOT) -> set[str]:
    """The modules in memory when a command has ended well."""
    code = (
        "import sys; from experiments.cli.run import main; status = main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=cwd, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


HEAVY = {
    "numpy", "pandas", "pyarrow", "pydantic", "ruamel.yaml", "rich", "simpy", "jinja2", "joblib",
    "matplotlib", "scipy", "torch", "distributed", "transformers",
}  # fmt: skip


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by("--help") & HEAVY


def test_a_list_of_studies_loads_only_what_reads_them() -> None:
    assert loaded_by("--list") & HEAVY == {"ruamel.yaml"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The results of a small study with its pictures, and what was loaded for them."""
    folder = tmp_path_factory.mktemp("drawn")
    write_study(folder)
    loaded = loaded_by("small.yaml", "--jobs", "1", "--out", "out", cwd=folder)
    return folder / "out", loaded


def test_a_small_study_loads_no_more_than_it_needs(drawn: tuple[Path, set[str]]) -> None:
    """It draws; tables need no pandas, intervals no scipy, copies of the process no joblib, and a
    pipe no rich."""
    _, loaded = drawn
    unused = {"pandas", "rich", "joblib", "scipy", "torch", "distributed", "transformers"}
    assert loaded & HEAVY == HEAVY - unused
    assert "matplotlib.pyplot" not in loaded
    of_other_studies = {
        "sim.routers.llm_d", "sim.routers.dynamo", "model.quantization.integers",
        "model.families.deepseek", "model.mixers.mamba",
    }  # fmt: skip
    assert not loaded & of_other_studies


def test_no_figures_leaves_pictures_and_what_draws_them_away(
    tmp_path: Path, drawn: tuple[Path, set[str]]
) -> None:
    write_study(tmp_path)
    words = ("small.yaml", "--jobs", "1", "--out", "plain", "--no-figures")
    loaded = loaded_by(*words, cwd=tmp_path)
    assert "matplotlib" not in loaded
    files = {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()}
    assert "report.html" in files
    assert not [name for name in files if name.endswith(".png")]
    assert list(drawn[0].glob("*.png"))
    for name in ("summary.csv", "runs.csv", "requests.parquet", "study.yaml"):
        assert files[name] == (drawn[0] / name).read_bytes()


def test_list_names_every_bundled_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bundled_studies())
    assert {"batching_sweep", "tensor_parallel", "arrival_rate", "gpu_choice"} <= {
        line.split()[0] for line in lines
    }


def test_dry_run_shows_points_memory_and_ceilings_and_simulates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.running.pieces.simulate", None)
    write_study(tmp_path)
    assert run_cli("small.yaml", "--dry-run") == 0
    output = capsys.readouterr().out
    for words in ("2 points, 4 runs", "engine.max_num_seqs", "left for KV", "fastest token"):
        assert words in output
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_results_go_to_stdout_uncut_and_the_rest_to_stderr(tmp_path: Path) -> None:
    write_study(tmp_path)
    process = start_cli("small.yaml", "--jobs", 1, cwd=tmp_path)
    output, diagnostics = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = output.splitlines()
    assert lines[0].startswith("Ceilings")
    assert "opt-125m on 1 x t4" in lines[1]
    assert "…" not in output
    assert "\x1b" not in output
    assert max(map(len, lines)) > 120
    heading = next(line for line in lines if "max_num_seqs" in line)
    for name in ("requests/s", "TTFT p99 ms", "TPOT p50 ms", "output tokens/s"):
        assert name in heading
    assert sum(line.startswith("│") for line in lines) == 2
    assert diagnostics.endswith("s; results are in results/small\n")
    assert len(diagnostics.splitlines()) == 1


def test_set_is_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    settings = ("--set", "engine.block_size=32", "--set", "sweep={}", "--seeds", 1)
    assert run_cli(write_study(tmp_path), "--out", out, *settings) == 0
    assert "block_size: 32" in (out / "study.yaml").read_text()
    assert len(pd.read_csv(out / "summary.csv")) == 1
    assert "(one seed)" in capsys.readouterr().out


def test_what_was_read_of_a_trace_is_told_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text(
        '{"timestamp": 0, "input_length": 20, "output_length": 4}\n'
        '{"timestamp": 11, "input_length": 40, "output_length": 6}\n'
    )
    told = "t.jsonl: format mooncake (JSON lines), 2 requests over 0.011 s (90.91 per second)"
    write_study(tmp_path)
    trace = ("small.yaml", "--set", "workload.trace=t.jsonl", "--set", "sweep={}")
    assert run_cli(*trace, "--dry-run") == 0
    assert told in capsys.readouterr().err
    assert run_cli(*trace, "--out", "out") == 0
    assert told in capsys.readouterr().err
    assert told in (tmp_path / "out" / "manifest.json").read_text()
    assert told in (tmp_path / "out" / "report.html").read_text()
    seconds = ("--set", "workload.trace_time_unit=s")
    assert run_cli(*trace, *seconds, "--dry-run") == 0
    assert "2 requests over 11 s" in capsys.readouterr().err


def test_files_of_lengths_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.csv").write_text("prompt_tokens,output_tokens\n20,4\n40,6\n")
    write_study(tmp_path)
    assert run_cli("small.yaml", "--set", "workload.lengths={trace: l.csv}", "--dry-run") == 0
    told = "lengths are drawn from l.csv: format headroom_lengths (CSV), 2 requests; mean prompt 30"
    assert told in capsys.readouterr().err
    law = "{distribution: empirical, path: l.csv, column: output_tokens}"
    assert run_cli("small.yaml", "--set", f"workload.lengths.output={law}", "--dry-run") == 0
    told = "output lengths are drawn from l.csv: column output_tokens, 2 values, 5.0 tokens in the"
    assert told in capsys.readouterr().err


def test_block_ids_matter_only_to_a_prefix_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text(
        '{"timestamp": 0, "input_length": 20, "output_length": 4, "hash_ids": [1, 2]}\n'
        '{"timestamp": 11, "input_length": 20, "output_length": 6, "hash_ids": [1]}\n'
    )
    write_study(tmp_path)
    trace = ("small.yaml", "--set", "workload.trace=t.jsonl", "--dry-run")
    assert run_cli(*trace, "--set", "engine.enable_prefix_caching=false") == 0
    capsys.readouterr()
    assert run_cli(*trace, "--set", "engine.enable_prefix_caching=true") == 2
    error = capsys.readouterr().err
    assert "t.jsonl:1: hash_ids: 2 ids for 20 prompt tokens" in error
    assert "engine.enable_prefix_caching: false" in error


def test_trace_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"2023-11-16 18:15:{second:02}.0,{90 + second},{9 + second}" for second in range(40)]
    (tmp_path / "trace.csv").write_text(
        "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
    )
    monkeypatch.chdir(tmp_path)
    trace = ("--set", "workload.trace=trace.csv", "--set", "sweep={}", "--out", "out")
    assert run_cli("batching_sweep", *trace) == 0
    output = capsys.readouterr()
    assert "the trace replaces workload.arrivals, workload.lengths" in output.err
    assert "nothing is random: one seed is run instead of 3" in output.err
    requests = pd.read_parquet("out/requests.parquet")
    assert list(requests["prompt_tokens"]) == list(range(90, 130))


def test_saturated_points_are_marked_and_show_no_steady_state(tmp_path: Path) -> None:
    text = SMALL.replace("rate_per_s: 20", "rate_per_s: 4000")
    text = text.replace("num_requests: 20", "num_requests: 400").replace("seeds: 2", "seeds: 1")
    path = write_study(tmp_path, text)
    summary = Records.of_frame(run_study(path).summary)
    summary = summary.having(saturated=[1.0, 0.0], design_effect=[math.nan] * 2)
    stream = io.StringIO()
    print_summary(prepare(read_raw(path)), summary, screen(stream))
    rows = [line for line in stream.getvalue().splitlines() if line.startswith("│")]
    assert ["saturated" in row for row in rows] == [True, False]
    assert [row.count(" - ") for row in rows] == [3, 0], "both TTFT and E2E"
    assert "note: saturated: the queue grows" in stream.getvalue()


def test_narrow_terminal_gets_fewer_columns_and_cuts_no_number(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    to = Console(file=io.StringIO(), width=80)
    print_summary(prepare(read_raw(path)), Records.of_frame(run_study(path).summary), to)
    assert isinstance(to.file, io.StringIO)
    text = to.file.getvalue()
    assert "…" not in text
    assert "TTFT" in text
    assert "MFU" not in text
    assert "s: see summary.csv\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_ceilings_are_ranges_in_units_of_people() -> None:
    ceilings = [{"fastest_token_s": 0.00737, "decode_tokens_per_s": 136.0}]
    assert ceilings_text(ceilings) == "fastest token 7.37 ms; decode 136 tokens/s"
    ceilings.append({"fastest_token_s": 0.00737, "decode_tokens_per_s": 8290.4})
    assert ceilings_text(ceilings) == "fastest token 7.37 ms; decode 136 to 8,290 tokens/s"


def test_columns_of_the_terminal_exist() -> None:
    assert {column.metric for column in COLUMNS} <= {*METRICS, "slo_verdict", "slo_binds"}
    keys = ["cluster.gpu", "engine.block_size", "other.block_size"]
    assert [short_name(key, keys) for key in keys] == ["gpu", *keys[1:]]


def test_points_in_words() -> None:
    assert points_text([3]) == "point 3"
    assert points_text([5, 1, 2, 3]) == "points 1 to 3, 5"
    assert points_text([1, 2]) == "points 1, 2"
