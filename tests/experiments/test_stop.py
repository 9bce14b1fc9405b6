"""Studies that stop at a time of their own: who is left over is counted, and told."""

import math
from pathlib import Path

import pytest
from study_files import SMALL, refused, write_study

from experiments import run_study
from experiments.study.document import Study

CLOSED = "{process: closed_loop, users: 3, think_s: 0.01}"


@pytest.mark.parametrize("arrivals", ["{process: poisson, rate_per_s: 20}", CLOSED])
def test_who_has_no_answer_is_counted_as_unfinished(arrivals: str, tmp_path: Path) -> None:
    text = SMALL.replace("{process: poisson, rate_per_s: 20}", arrivals)
    path = write_study(tmp_path, text.replace("seeds: 2", "seeds: 2\nstop_s: 0.3"))
    result = run_study(path)
    assert any("simulated until stop_s = 0.3 s" in note for note in result.notes)
    runs = result.runs
    assert (runs["requests"] == runs["finished"] + runs["rejected"] + runs["unfinished"]).all()
    assert (runs["unfinished"] > 0).any()
    assert (runs["requests"] < 20).any()  # others would have come later
    finished = result.requests[result.requests["finish_s"] >= 0]
    assert finished["finish_s"].max() <= 0.3


def test_late_enough_a_stop_changes_nothing(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    whole = run_study(path, settings={"seeds": 1})
    stopped = run_study(path, settings={"seeds": 1, "stop_s": 1000})
    for name in ("finished", "ttft_p99_s", "e2e_mean_s"):
        assert whole.runs[name].tolist() == stopped.runs[name].tolist()


def test_the_stop_can_be_swept(tmp_path: Path) -> None:
    settings = {"seeds": 1, "engine.max_num_seqs": 1, "sweep": {"stop_s": [0.5, 50]}}
    result = run_study(write_study(tmp_path), settings=settings)
    assert result.summary["finished"].iloc[0] < result.summary["finished"].iloc[1] == 20
    assert math.isinf(result.summary["e2e_p99_s"].iloc[0])
    assert any("stop_s = 0.5 or 50 s" in note for note in result.notes)


def test_a_stop_before_anybody_comes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, SMALL + "stop_s: 1.0e-6\n")
    message = refused(capsys, tmp_path, path)
    assert f"{path}:18: " in message
    assert "stop_s = 1e-06 is before any request arrives, expected more than 0.16" in message
    assert "greater than 0" in refused(capsys, tmp_path, path, "--set", "stop_s=0")


def test_by_default_nothing_stops() -> None:
    assert Study.model_fields["stop_s"].default is None
