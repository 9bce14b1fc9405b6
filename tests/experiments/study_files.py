"""A study small enough to simulate in milliseconds, and ways to run it."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.cli.headroom import main as any_command
from experiments.cli.run import main

ROOT = Path(__file__).resolve().parents[2]

SMALL = """\
name: small
description: Twenty requests on a small model.
model: opt-125m
cluster:
  gpu: t4
engine:
  dtype: float16
  max_num_seqs: 8
workload:
  arrivals: {process: poisson, rate_per_s: 20}
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
  num_requests: 20
seeds: 2
sweep:
  engine.max_num_seqs: [1, 4]
"""

TABLES = ("summary.csv", "runs.csv", "requests.parquet", "study.yaml")
"""Files that are the same bytes however often, and with however many jobs, a study is run."""


def write_study(folder: Path, text: str = SMALL, name: str = "small.yaml") -> Path:
    """Write a study file and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run_cli(*argv: object, figures: bool = False) -> int:
    """Run the command line in this process, on one core unless told otherwise.

    Pictures take longer than all else that most tests want of it.
    """
    words = [str(word) for word in argv]
    told = "--jobs" in words or "--executor" in words
    words += [] if told else ["--jobs", "1"]
    return main(words if figures else [*words, "--no-figures"])


def start_cli(*argv: object, cwd: Path) -> "subprocess.Popen[str]":
    """Start the command line as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *map(str, argv)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Done(NamedTuple):
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str


def headroom(*words: object) -> Done:
    """Run any command in this process, from the root of the checkout."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(ROOT), redirect_stdout(out), redirect_stderr(err):
        status = any_command([str(word) for word in words])
    return Done(status, out.getvalue(), err.getvalue())


def tables_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every table of a results folder."""
    return {name: (folder / name).read_bytes() for name in TABLES}


def refused_study(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    *options: object,
    text: str = SMALL,
    name: str = "small.yaml",
) -> str:
    """Write a study into a folder and run it there, as ``refused`` does. Return the message."""
    monkeypatch.chdir(folder)
    return refused(capsys, folder, write_study(folder, text, name).name, *options)


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *argv: object) -> str:
    """Run a command that must fail: status 2, one message, nothing written. Return the message."""
    before = sorted(folder.rglob("*"))
    status = run_cli(*argv)
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("error: ") == 1
    assert "Traceback" not in output.err
    assert sorted(folder.rglob("*")) == before
    return output.err
