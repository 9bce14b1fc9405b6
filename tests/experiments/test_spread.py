"""That a router sends nearly everything to one of its replicas is told."""

from math import nan
from pathlib import Path

import pandas as pd
import pytest
from study_files import run_cli, write_study

from experiments.reporting.spread import spread_notes

STUDY = """
name: small
model: gpt2
cluster: {gpu: t4, replicas: 4, router: round_robin}
engine: {max_model_len: 1024}
workload:
  arrivals: {process: closed_loop, users: 1}
  sessions:
    turns: {distribution: constant, value: 60}
    added: {distribution: constant, value: 5}
    think_s: 1
  lengths:
    prompt: {distribution: constant, value: 30}
    output: {distribution: constant, value: 5}
  num_requests: 60
sweep: {cluster.router: [round_robin, session_affinity]}
"""


@pytest.mark.parametrize(
    ("shares", "requests", "replicas", "percent"),
    [
        ([0.76, 0.74], [1000, 1000], 4, "75"),
        ([0.45], [1000], 4, ""),
        ([0.85], [1000], 2, ""),
        ([0.97], [1000], 2, "97"),
        ([0.08], [100], 40, ""),  # as chance has it
        ([0.09], [10_000], 40, "9"),
        ([nan], [0], 4, ""),
        ([1.0], [1000], 1, ""),
    ],
)
def test_shares_that_are_told(
    shares: list[float], requests: list[float], replicas: int, percent: str
) -> None:
    told = spread_notes(shares, requests, replicas)
    if not percent:
        assert told == []
        return
    (note,) = told
    assert note.startswith(f"one of {replicas} replicas was sent {percent}% of the requests")


def test_one_session_that_stays_where_it_began(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_cli(write_study(tmp_path, STUDY), "--out", out) == 0
    spread, kept = pd.read_csv(out / "summary.csv")["notes"].fillna("").tolist()
    assert "one of 4 replicas was sent 100% of the requests" in kept
    assert "was sent" not in spread
