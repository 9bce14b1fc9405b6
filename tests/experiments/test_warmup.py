"""What a run leaves out at its beginning: a share, seconds, or nothing of a day or a trace."""

from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from experiments.cli.run import main
from experiments.running.api import load_study, run_study
from experiments.study.document import from_study
from experiments.study.points import prepare

pytestmark = pytest.mark.usefixtures("without_pictures")

POISSON = {"process": "poisson", "rate_per_s": 20}
DAY = {"process": "diurnal", "mean_rate_per_s": 20, "peak_to_trough": 4, "period_s": 60}
RAMP = {
    "process": "piecewise",
    "steps": [{"duration_s": 2, "rate_per_s": 5}, {"duration_s": 2, "rate_per_s": 30}],
}
TRACE = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{s},20,4\n" for s in range(0, 100, 5))


def study(folder: Path, arrivals: dict[str, object] | None, **settings: object) -> Path:
    """A study of 60 requests, or of the 20 of a trace from 0 to 95 s."""
    lengths = {
        "prompt": {"distribution": "constant", "value": 20},
        "output": {"distribution": "constant", "value": 4},
    }
    workload: dict[str, object] = {"arrivals": arrivals, "lengths": lengths, "num_requests": 60}
    if arrivals is None:
        (folder / "trace.csv").write_text(TRACE)
        workload = {"trace": "trace.csv"}
    path = folder / "study.yaml"
    data = {
        "model": "opt-125m", "cluster": {"gpu": "t4"},
        "engine": {"dtype": "float16", "num_gpu_blocks": 500}, "workload": workload, **settings,
    }  # fmt: skip
    YAML(typ="safe").dump(data, path)
    return path


def measured(path: Path) -> tuple[int, list[str]]:
    """How many requests of one run count, and what the plan says."""
    loaded = load_study(path)
    notes = [note for note in prepare(from_study(loaded)).notes if "measured" in note]
    return int(run_study(loaded).runs["measured_requests"][0]), notes


@pytest.mark.parametrize(
    ("arrivals", "settings", "count", "note"),
    [
        (POISSON, {}, 54, ""),
        (DAY, {}, 60, "from the first request on, when the engine is still empty"),
        (RAMP, {}, 60, "from the first request on"),
        (None, {}, 20, "from the first request on"),
        (None, {"warmup_fraction": 0.25}, 15, "the first 0.25 of the requests"),
        (None, {"warmup_s": 50}, 10, "who arrives before warmup_s = 50 s is not measured"),
        (None, {"warmup_s": 95}, 1, "before warmup_s = 95 s"),
        (POISSON, {"warmup_s": 0}, 60, ""),
        ({"process": "closed_loop", "users": 2}, {}, 54, ""),
    ],
)
def test_what_is_measured(
    tmp_path: Path, arrivals: dict[str, object], settings: dict[str, float], count: int, note: str
) -> None:
    found, notes = measured(study(tmp_path, arrivals, **settings))
    assert found == count
    assert len(notes) == bool(note)
    assert note in "".join(notes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warmup_s": 5, "warmup_fraction": 0.1}, "expected either warmup_fraction or warmup_s"),
        ({"warmup_s": -1}, "warmup_s = -1: expected greater than or equal to 0"),
        ({"warmup_s": 96}, "warmup_s = 96 leaves nothing to measure, expected at most 95 s"),
        ({"warmup_s": 60, "stop_s": 52}, "expected at most 50 s, when the last request arrives"),
    ],
)
def test_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, float], words: str
) -> None:
    assert main([str(study(tmp_path, None, **settings)), "--dry-run"]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("error:") == 1


def test_a_closed_loop_that_ends_before_is_refused_when_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(tmp_path, {"process": "closed_loop", "users": 2}, warmup_s=1e6)
    assert main([str(path), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 2
    assert "warmup_s = 1e+06 leaves nothing to measure" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({}, (0.0, None)),
        ({"warmup_s": 50}, (None, 50.0)),
        ({"sweep": {"warmup_s": [0, 20]}}, (None, None)),
    ],
)
def test_the_resolved_study_says_what_was_left_out_and_runs_alike(
    tmp_path: Path, settings: dict[str, object], written: tuple[float | None, float | None]
) -> None:
    run_study(load_study(study(tmp_path, None, **settings)), out=tmp_path / "out")
    resolved = YAML(typ="safe").load(tmp_path / "out" / "study.yaml")
    assert (resolved["warmup_fraction"], resolved["warmup_s"]) == written
    run_study(load_study(tmp_path / "out" / "study.yaml"), out=tmp_path / "again")
    for name in ("summary.csv", "report.html", "study.yaml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_seconds_can_be_swept(tmp_path: Path) -> None:
    result = run_study(load_study(study(tmp_path, None, sweep={"warmup_s": [0, 20.1]})))
    assert result.runs["measured_requests"].tolist() == [20, 15]
    assert isinstance(result.summary, pd.DataFrame)
