"""The benchmarks run, say what they promise, and refuse what they do not know."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        "peak_mib", "timeouts_per_request", "timeouts_per_step",
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
