"""The benchmarks run, say what they promise, and refuse what they do not know."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import measure, processes
from benchmarks.workloads import BENCHMARKS, capacity_per_s, study, synthetic
from experiments.study.document import Study
from sim.simulation import simulate

ROOT = Path(__file__).resolve().parents[1]


def bench(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_object_is_the_last_line_and_agrees_with_itself() -> None:
    done = bench("W4", "--requests", "60", "--json")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert list(figures) == [
        "workload", "requests", "seconds", "requests_per_s", "steps", "steps_per_s",
        "peak_mib", "timeouts_per_request", "timeouts_per_step", "offered_per_s", "saturated",
        "process_s", "process_mib",
    ]  # fmt: skip
    assert (figures["workload"], figures["requests"]) == ("W4", 60)
    assert figures["requests_per_s"] == pytest.approx(60 / figures["seconds"])
    assert figures["steps_per_s"] == pytest.approx(figures["steps"] / figures["seconds"])
    timeout_s = figures["seconds"] / 60 / figures["timeouts_per_request"]
    assert 1e-8 < timeout_s < 1e-4
    per_step = figures["seconds"] / figures["steps"] / timeout_s
    assert figures["timeouts_per_step"] == pytest.approx(per_step)
    assert 20 < figures["peak_mib"] < 1024
    assert not any(line.startswith("{") for line in lines)
    for words in ("max_num_seqs 64", "output_share 0.25", "preemptions a request", "start-up: "):
        assert words in "\n".join(lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["W9"], "'W9', expected one of W1, W2, W3, W4, W5"),
        (["--requests", "0"], "'0', expected a whole number of at least 1"),
        (["W3", "--trace", "nowhere.csv"], "--trace nowhere.csv: no such file"),
    ],
)
def test_what_they_refuse(options: list[str], words: str) -> None:
    done = bench(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize("name", ["W1", "W2", "W4"])
def test_capacity_is_the_rate_at_which_a_long_overload_is_served(name: str) -> None:
    """60,000 requests at twice that rate: the setup ends them at it, to 4%.

    Outputs have a cv of 0.8, so the rates of 5,000 and 30,000 of them differ by 1.2% (one sd).
    """
    benchmark = BENCHMARKS[name]
    scenario = benchmark.scenario()
    told_per_s = capacity_per_s(benchmark, scenario)
    result = simulate(scenario, synthetic(benchmark, 60_000, 2 * told_per_s))
    finish_s = sorted(result.requests["finish_s"].tolist())
    served_per_s = 30_000 / (finish_s[45_000] - finish_s[15_000])
    assert told_per_s == pytest.approx(served_per_s, rel=0.04)


@pytest.mark.parametrize(
    ("name", "saturated", "words"),
    [
        ("W2", 0.0, ""),
        ("W2", 1.0, "W2 is to be offered 75% of its capacity, but the queue grows"),
        ("W3", 1.0, "W3 is to be offered less than its capacity, but the queue grows"),
        ("W4", 1.0, ""),
        ("W4", 0.0, "W4 is to be offered 130% of its capacity, but the queue does not grow"),
        ("W2", float("nan"), ""),
    ],
)
def test_a_benchmark_that_is_not_loaded_as_it_says_fails(
    name: str, saturated: float, words: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "_one", lambda *_: {"workload": name, "saturated": saturated})
    monkeypatch.setattr(command, "help_s", lambda: 0.0)
    monkeypatch.setattr(command, "smallest_study_s", lambda: 0.0)
    monkeypatch.setattr(sys, "argv", ["benchmarks", name])
    assert command.main() == bool(words)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_benchmark_is_the_same_setup_as_a_study(name: str) -> None:
    asked = Study.model_validate({"name": name, **study(name, 10, 1.0)})
    scenario = BENCHMARKS[name].scenario()
    served, config = scenario.pool, asked.cluster.all_pools[0]
    assert asked.cluster.router == scenario.router
    assert (config.gpu, config.replicas) == (served.gpu.name, served.replicas)
    assert config.tensor_parallel_size == served.tensor_parallel_size
    assert asked.engine.num_gpu_blocks == served.engine.num_gpu_blocks


def test_whole_processes_are_rows_of_a_table(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    row = {"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}
    trace.write_text("".join(json.dumps({**row, "timestamp": n}) + "\n" for n in range(9)), "utf-8")
    command = [sys.executable, "-m", "benchmarks.processes", "--short", "--runs", "1"]
    done = subprocess.run(
        [*command, "--mooncake", trace], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    engine, *table = done.stdout.splitlines()
    assert engine.startswith("Engine: ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [row[0] for row in rows[2:]] == [
        "one point, no pictures",
        "one point",
        "Mooncake trace, four replicas, prefix caching, no pictures",
    ]
    assert all(0.1 < float(row[2].removesuffix(" s")) < 60 for row in rows[2:])


def test_whole_processes_are_told_beside_the_least_timeout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([1.2, 0.9, 1.1, 2.4, 2.2, 1.92])
    timeouts = iter([1.5e-6, 1.6e-6, 1.3e-6, 1.2e-6])
    monkeypatch.setattr(processes, "process_cost", lambda *_: (next(seconds), 100.0))
    monkeypatch.setattr(processes, "bare_timeout_s", lambda: next(timeouts))
    assert processes.main(["--runs", "3", "--short"]) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "| 0.90 s | 100 MiB | 1.50 us | 600 thousand | 0.39 s |" in first
    assert "| 1.92 s | 100 MiB | 1.20 us | 1,600 thousand | 1.04 s |" in second


def test_a_measured_process_may_write_byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is forbidden, it would read and check everything anew each time."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import sys; sys.exit(sys.dont_write_bytecode)"
    monkeypatch.setattr(measure, "COMMAND", (sys.executable, "-c", code))
    assert measure.process_cost()[0] > 0.0


def test_a_day_of_two_million_requests_is_as_busy_on_a_thousand_replicas() -> None:
    """Sessions of five turns, 23 requests per second on 40 replicas."""
    seen = []
    for asked in (processes.DAY, processes.MANY):
        known = Study.model_validate({"name": "day", **asked})
        assert known.workload.num_requests is not None
        rate = 5 * asked["workload"]["arrivals"]["rate_per_s"]
        seen.append((rate / known.cluster.replicas, known.workload.num_requests / rate))
    (day, day_s), (many, many_s) = seen
    assert day == pytest.approx(many) == pytest.approx(0.579, rel=0.01)
    assert day_s == pytest.approx(86_400, rel=0.01)
    assert many_s == pytest.approx(173, rel=0.01)
