"""Studies of models whose layers keep different tokens: run, told, and refused."""

from pathlib import Path

import pytest
from study_files import run_cli, write_study

from experiments.reporting.words import calibration_notes
from experiments.running.api import run_study
from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.points import prepare

WINDOWS = """\
name: windows
description: A model half of whose layers keep 128 tokens.
model: gpt-oss-20b
cluster: {gpu: h100-sxm}
engine: {max_model_len: 8192, max_num_seqs: 16, num_gpu_blocks: 1500}
workload:
  arrivals: {process: poisson, rate_per_s: 20}
  lengths:
    prompt: {distribution: uniform, min: 500, max: 700}
    output: {distribution: constant, value: 40}
  num_requests: 60
seeds: 1
"""
UNIFIED = WINDOWS.replace("engine: {", "engine: {disable_hybrid_kv_cache_manager: true, ")


def test_windows_leave_room_for_more(tmp_path: Path) -> None:
    """Blocks of a group have half of the layers, and windows hold few: more requests fit."""
    paths = [
        write_study(tmp_path, text.replace(", num_gpu_blocks: 1500", ""), f"{name}.yaml")
        for name, text in (("grouped", WINDOWS), ("unified", UNIFIED))
    ]
    grouped, unified = (
        scenario_of(prepare(read_raw(path)).points[0].study, 0).pool.ledger for path in paths
    )
    assert (len(grouped.layout.groups), len(unified.layout.groups)) == (2, 1)
    assert grouped.block_bytes * 2 == unified.block_bytes
    fitting = [
        each.num_gpu_blocks / each.layout.most_blocks(8192, 1024) for each in (grouped, unified)
    ]
    assert 1.7 < fitting[0] / fitting[1] < 2.0
    assert int(run_study(write_study(tmp_path, WINDOWS)).summary["measured_requests"].iloc[0]) > 30


def test_what_is_off_unasked_is_told(tmp_path: Path) -> None:
    told = "prefix caching is off, though vLLM has it on with nemotron-nano-9b-v2: what prompts"
    states = WINDOWS.replace("gpt-oss-20b", "nemotron-nano-9b-v2")
    before = states.replace("engine: {", "engine: {version: '0.26', ")
    notes = calibration_notes(prepare(read_raw(write_study(tmp_path, before))))
    assert sum(note.startswith(told) for note in notes) == 1
    older = states.replace("engine: {", "engine: {version: '0.25', ")
    for text in (WINDOWS, UNIFIED, states, older):  # there it is on, or off in vLLM as well
        notes = calibration_notes(prepare(read_raw(write_study(tmp_path, text))))
        assert not any(note.startswith("prefix caching is off") for note in notes)


def test_kernels_that_nobody_measured_are_told(tmp_path: Path) -> None:
    path = write_study(tmp_path, WINDOWS.replace("gpt-oss-20b", "nemotron-nano-9b-v2"))
    notes = calibration_notes(prepare(read_raw(path)))
    assert any("has no measured kernels of mamba2 (27 of 56 layers)" in note for note in notes)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("llama-4-scout-17b-16e", "which attend chunks of it: a little too slow"),
        ("kimi-k3", "kimi-k3: residuals across blocks of layers have no price"),
    ],
)
def test_what_a_price_leaves_out_is_told(tmp_path: Path, model: str, told: str) -> None:
    text = WINDOWS.replace("gpt-oss-20b", model).replace("8192", "9000")
    path = write_study(
        tmp_path, text.replace("gpu: h100-sxm", "gpu: b300, tensor_parallel_size: 8")
    )
    notes = calibration_notes(prepare(read_raw(path)))
    assert any(note.endswith(told) for note in notes), notes


def test_what_prompts_share_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--dry-run", "--set", "engine.enable_prefix_caching=true")
    assert run_cli(write_study(tmp_path, WINDOWS), *asked) == 0
    states = WINDOWS.replace("gpt-oss-20b", "nemotron-nano-9b-v2")
    assert run_cli(write_study(tmp_path, states), *asked) == 0
    older = states.replace("engine: {", "engine: {version: '0.26', ")
    assert run_cli(write_study(tmp_path, older), *asked) == 2
    assert "enable_prefix_caching: true with nemotron-nano-9b-v2" in capsys.readouterr().err


def test_a_ledger_of_groups_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, WINDOWS.replace(", num_gpu_blocks: 1500", ""))
    assert run_cli(path, "--dry-run") == 0
    output = capsys.readouterr().out
    assert "in groups: 12 layers within a window of 128" in output
    assert "longest request" in output
