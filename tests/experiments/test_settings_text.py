"""What a run says of the settings that vLLM decides, and of what its prices rest on."""

from pathlib import Path

import pytest

from experiments.reporting.settings_text import setting_lines
from experiments.reporting.words import calibration_notes
from experiments.running.api import load_study
from experiments.study.document import read_raw
from experiments.study.points import prepare
from tests.experiments.study_files import run_cli, write_study

STUDY = """name: defaults
model: llama-3-8b
cluster: {gpu: l40s}
workload:
  arrivals: {process: poisson, rate_per_s: 1}
  lengths:
    prompt: {distribution: constant, value: 100}
    output: {distribution: constant, value: 10}
  num_requests: 20
"""


def said(folder: Path, text: str) -> str:
    return "\n".join(setting_lines(prepare(read_raw(write_study(folder, STUDY + text)))))


def noted(folder: Path, text: str, word: str) -> list[str]:
    plan = prepare(read_raw(write_study(folder, STUDY + text)))
    return [note for note in calibration_notes(plan) if word in note]


def test_defaults_are_told_by_gpu_and_version(tmp_path: Path) -> None:
    text = said(tmp_path, "sweep: {cluster.gpu: [l40s, h100-sxm]}\n")
    small, large = (
        next(line for line in text.splitlines() if f"server on {gpu}" in line)
        for gpu in ("l40s", "h100-sxm")
    )
    assert small.startswith("  vLLM 0.33's server on l40s: ")
    assert "max_num_seqs 256, max_num_batched_tokens 2048" in small
    assert small.endswith("(point 1)")
    assert "max_num_seqs 1024, max_num_batched_tokens 8192" in large
    assert "gpu_memory_utilization 0.92" in large
    assert "calibration vllm-0.23 on l40s (point 1)" in text


def test_what_a_study_says_stands_apart(tmp_path: Path) -> None:
    text = said(tmp_path, "engine: {version: '0.9.2', max_num_seqs: 64}\n")
    assert "as the study says: max_num_seqs 64 (vLLM's: 256)" in text
    assert "vLLM 0.9.2's server on l40s: " in text
    assert "gpu_memory_utilization 0.9," in text
    assert "calibration vllm-0.8 on l40s" in text


def test_a_length_that_nobody_states_is_what_fits_and_told(tmp_path: Path) -> None:
    tight = "engine: {version: '0.11', gpu_memory_utilization: 0.38}\n"
    text = said(tmp_path, tight)
    (line,) = (line for line in text.splitlines() if "as much as fits" in line)
    assert line.endswith("max_model_len 4208 (vLLM's: 8192)")
    assert "as the study says: gpu_memory_utilization 0.38" in text
    (note,) = noted(tmp_path, tight, "max_model_len")
    assert note.startswith("max_model_len is 4208, as a request of 8192 tokens, the longest of ")
    assert not noted(tmp_path, "engine: {version: '0.11'}\n", "max_model_len")
    assert "as much as fits" not in said(tmp_path, "engine: {version: '0.11'}\n")


def test_a_calibration_s_version_is_the_engine_s_where_none_is_given(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, f"{STUDY}calibration: vllm-0.6\n"))
    engine = study.engine
    assert (engine.version, engine.scheduler) == ("0.6", "prefill_first")
    assert (engine.enable_prefix_caching, engine.max_num_batched_tokens) == (False, 8192)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "note: vLLM 0.33 is priced with engine constants fitted to 0.15 and 0.23"),
        ("calibration: none\n", "calibration: auto has measured kernels"),
        (
            "engine: {version: '0.6.0'}\ncalibration: vllm-0.15\n",
            "has the constants of vLLM 0.14 or later, but engine.version is 0.6.0",
        ),
        (
            "engine: {dtype: float32}\n",
            "no kernels of such arithmetic were measured: measure them with python -m",
        ),
    ],
)
def test_a_dry_run_tells_what_prices_rest_on(
    text: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(write_study(tmp_path, STUDY + text), "--dry-run") == 0
    assert note in capsys.readouterr().out


def test_a_number_is_no_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version, words in ((0.10, "expected a text in quotes"), ("'0.99'", "newer than what is")):
        path = write_study(tmp_path, f"{STUDY}engine: {{version: {version}}}\n")
        assert run_cli(path, "--dry-run") == 2
        assert words in capsys.readouterr().err
