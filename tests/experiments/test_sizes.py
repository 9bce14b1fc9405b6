"""Sizes are bounded before anything of that size is made: the message names key and bound."""

import json
from pathlib import Path

import pytest
from study_files import SMALL, refused_study, run_cli, write_study

from experiments.calibrating.decoders import build_decoder
from experiments.study import memory

LAUGHS = "".join(
    [
        "a0: &a0 [x, x]\n",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
    ]
)
SETTINGS = {
    "requests": ("workload.num_requests=1000000000", ["num_requests(=1000000000)", "at most"]),
    "duration": (
        "workload={arrivals: {process: poisson, rate_per_s: 1e9}, duration_s: 1e10, lengths: "
        "{prompt: {distribution: constant, value: 1}, output: {distribution: constant, value: 1}}}",
        ["requests arrive before duration_s(=1e+10)", "a shorter time"],
    ),
    "seeds": ("seeds=1000000000", ["seeds = 1000000000", "100000"]),
    "runs": ("seeds=90000", ["seeds = 90000: 2 points x 90,000 seeds are 180,000 runs", "100,000"]),
    "draws": ("calibration_draws=1000000", ["calibration_draws = 1000000", "10000"]),
    "replicas": ("cluster.replicas=1000000000", ["replicas = 1000000000", "100000"]),
    "seed of 64 bits": ("seed=18446744073709551616", ["18446744073709551616 is too large"]),
    "points": (
        "sweep={" + ", ".join(f"engine.{key}: {list(range(1, 1001))}" for key in "abc") + "}",
        ["1000 x 1000 x 1000 = 1,000,000,000 points, expected at most 10,000"],
    ),
    "step": ("engine.step_overhead_s=1e308", ["step_overhead_s = 1e+308", "3600"]),
    "block": ("engine.block_size=1000000000", ["block_size = 1000000000", "65536"]),
    "spread": (
        "workload.lengths.output={distribution: lognormal, mean: 10, cv: 1e300}",
        ["cv = 1e+300", "less than or equal to 1000"],
    ),
    "late": ("workload.arrivals.rate_per_s=1e-9", ["rate_per_s(=1e-09)", "beyond 1e+10 s"]),
    "percent": (
        "engine.gpu_memory_utilization=90",
        ["gpu_memory_utilization = 90", "did you mean 0.9?"],
    ),
    "warm-up in percent": ("warmup_fraction=10", ["did you mean 0.1?"]),
    "a GPU of NaN": (
        "cluster.gpu={memory_bytes: 1000000000, bandwidth_bytes_per_s: .nan, "
        "peak_flops_per_s: {bf16: .inf}}",
        ["cluster.gpu.bandwidth_bytes_per_s", "finite number"],
    ),
}


@pytest.mark.parametrize(("setting", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_too_large_a_setting(
    setting: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused_study(monkeypatch, capsys, tmp_path, "--set", setting)
    for words in expected:
        assert words in message


FILES = {
    "aliases": (LAUGHS + SMALL, ["too large, expected at most 200,000 values"]),
    "depth": ("a: " + "[" * 200 + "]" * 200, ["nested too deeply, expected at most 64 levels"]),
    "length": (SMALL + "# " + "x" * 2**20, ["1,048,576", "cannot read the study"]),
    "many keys": (
        json.dumps({f"key_{i}": i for i in range(20_000)}),
        ["20003 problems", "and 19983 more", "key_0 = 0: unknown key"],
    ),
    "a long key": (json.dumps({"k" * 10_000: 1}), ["not valid YAML"]),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES)
def test_too_large_a_file(
    text: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = refused_study(monkeypatch, capsys, tmp_path, text=text, name="bad.yaml")
    assert len(message) < 10_000
    for words in expected:
        assert words in message


def test_no_sweep_may_be_written_as_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, SMALL[: SMALL.index("sweep:")] + "sweep: null\n")
    assert run_cli("small.yaml", "--dry-run") == 0
    assert "small: 1 point, 2 runs" in capsys.readouterr().out
    write_study(tmp_path)
    assert run_cli("small.yaml", "--dry-run", "--set", "sweep=null") == 0
    assert "small: 1 point, 2 runs" in capsys.readouterr().out


def test_a_limit_of_the_process_is_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.memory_bytes() > 2**28
    monkeypatch.setattr("resource.getrlimit", lambda _: (2**30, 2**30))
    assert memory.memory_bytes() == 2**30
    assert memory.most_requests() == (2**30 - memory.PROGRAM_BYTES) // memory.REQUEST_BYTES


@pytest.mark.parametrize(
    ("model", "threads", "message"),
    [
        ("llama-3.1-405b", None, r"weights of 15\d\d\.\d GiB, but this machine has"),
        ("gpt2", 0, "threads = 0, expected 1 to"),
        ("gpt2", 10**6, "threads = 1000000, expected 1 to"),
    ],
)
def test_a_decoder_that_this_machine_cannot_build(
    model: str, threads: int | None, message: str
) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=message):
        build_decoder(model, "cpu", "float32", None, 0, threads)
