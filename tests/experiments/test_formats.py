"""Tables for programs and notebooks, and how long a run takes still."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_files import run_cli, write_study

from experiments.reporting.formats import long_table, written
from experiments.reporting.records import Records
from experiments.running.api import load_study, run_study
from experiments.running.progress_bar import left_text
from experiments.running.reached import Place, Reached, places
from experiments.study.requests import requests_of

TABLE = Records({"key": ["a|b", "c"], "x": [1.5, math.nan], "x_lo": [1.0, math.nan]})


def test_tables_in_other_forms() -> None:
    assert json.loads(written(TABLE, "json")) == [
        {"key": "a|b", "x": 1.5, "x_lo": 1.0}, {"key": "c", "x": None, "x_lo": None}
    ]  # fmt: skip
    assert written(TABLE, "csv") == "key,x,x_lo\na|b,1.5,1.0\nc,,\n"
    assert written(TABLE, "markdown").splitlines() == [
        "| key | x | x_lo |", "| --- | --- | --- |", "| a\\|b | 1.5 | 1 |", "| c |  |  |"
    ]  # fmt: skip


def test_a_long_table() -> None:
    found = long_table(TABLE.having(y=[2, 2]), ["key"])
    assert list(found) == ["key", "metric", "value", "lo", "hi"]
    assert found["metric"] == ["x", "y", "x", "y"]
    assert found["lo"][:1] == [1.0]
    assert all(map(math.isnan, found["hi"]))


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_run_prints_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = tmp_path / "out"
    assert run_cli(write_study(tmp_path), "--out", out, "--format", form, "--no-figures") == 0
    printed = capsys.readouterr().out
    summary = pd.read_csv(out / "summary.csv")
    if form == "csv":
        pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed)), summary)
    elif form == "json":
        assert [row["ttft_p50_s"] for row in json.loads(printed)] == summary["ttft_p50_s"].tolist()
    else:
        assert printed.startswith("| point | engine.max_num_seqs |")
    tidy = pd.read_csv(out / "summary_long.csv")
    (value,) = tidy.query("point == 2 and metric == 'tpot_p50_s'")["value"]
    assert value == summary["tpot_p50_s"][1]


def test_results_in_a_notebook(tmp_path: Path) -> None:
    result = run_study(write_study(tmp_path))
    assert result.keys == ["engine.max_num_seqs"]
    shown = result._repr_html_()
    assert shown.count("<tr>") == 3
    assert "TPOT p50 ms" in shown
    assert (
        repr(result) == f"<StudyResult of small: 2 points, 4 runs, {len(result.requests)} requests>"
    )
    figure = result.plot("latency")
    assert figure.get_suptitle() == "small: latency percentiles"
    with pytest.raises(ValueError, match="did you mean latency"):
        result.plot("latencies")
    alone = run_study(write_study(tmp_path), settings={"sweep": {}})
    with pytest.raises(ValueError, match="nothing to draw"):
        alone.plot("utilisation")


def test_how_long_it_takes_still() -> None:
    assert left_text([], 0, 4, 10.0) == ""
    assert left_text([], 1, 3, 10.0) == "0:30 left"
    half = Place(600.0, 1200.0)
    assert left_text([half], 0, 1, 90.0) == "1:30 left, at 600 of 1,200 s of simulated time"
    assert left_text([half, half], 2, 3, 30.0) == "0:20 left, 2 runs 50% through"
    users = Place(600.0, math.nan)
    assert left_text([users], 0, 1, 9.0) == "at 600 s of simulated time"


def test_a_run_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.running.reached.PAUSE_S", -1.0)
    requests = requests_of(load_study(write_study(tmp_path), {"sweep": {}}), 0)
    scratch = Reached(tmp_path / "run.arrow", requests)
    scratch.keep(np.array([0.1, 0.25]))
    scratch.keep(np.array([3], dtype=np.int32))
    (place,) = places(tmp_path)
    assert place == Place(0.25, float(requests.arrival_s[-1]))
    assert place.share == 0.25 / requests.arrival_s[-1]
    scratch.forget()
    assert places(tmp_path) == []
