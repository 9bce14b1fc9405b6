"""``precision``: the length of runs follows from the load and a pilot, whatever is done with it."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_files import SMALL, refused, run_cli, tables_of, write_study

from experiments.reporting.basis import Asked
from experiments.reporting.quantities import significant
from experiments.reporting.support import needed
from experiments.running.api import load_study, run_study
from experiments.running.pooling import load_of
from experiments.study.errors import StudyError
from experiments.study.precision import PILOT, Precision

pytestmark = pytest.mark.usefixtures("without_pictures")

UNSIZED = SMALL.replace("  num_requests: 20\n", "").replace("seeds: 2\n", "")
SHORT = {
    "precision": {"target": 0.05, "metrics": ["output_tokens_per_s"], "max_requests": 10_000},
    "engine.max_num_seqs": 8,
    "sweep": {},
}


def test_without_a_length_a_precision_is_the_default(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, UNSIZED))
    assert study.precision == Precision(target=0.1)
    assert (study.seeds, study.workload.num_requests) == (10, PILOT)
    fixed = load_study(write_study(tmp_path))
    assert (fixed.precision, fixed.seeds) == (None, 2)
    told = load_study(write_study(tmp_path), {"precision": "5 %", "seeds": 6})
    assert told.precision == Precision(target=0.05)
    assert (told.seeds, told.workload.num_requests) == (6, 20)
    named = load_study(write_study(tmp_path), {"precision": {"target": "5%"}, "seeds": 6})
    assert named.precision == told.precision
    assert load_study(write_study(tmp_path), {"precision": "none"}).precision is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "ten"}, r"precision = ten: expected a share such as 10%, or none"),
        ({"precision": 0.9}, r"precision.*less than or equal to 0.5"),
        ({"precision": {"target": "ten"}}, "precision.target = ten: expected a share such as 10%"),
        ({"precision": {"target": "90%"}}, r"precision.target = 90%: .*less than or equal to 0.5"),
        ({"precision": "10%", "seeds": 3}, r"precision = 10%: expected seeds: 5 or more beside it"),
        ({"precision": {"metrics": ["ttft_p9_s"]}}, r"no metric; did you mean ttft_p90_s\?"),
        ({"precision": {"metric": ["ttft_p99_s"]}}, r"unknown key.*did you mean metrics\?"),
        (
            {"precision": "10%", "workload.arrivals": {"process": "all_at_once"}},
            "precision = 10%: expected none: process all_at_once is as long as it is",
        ),
        (
            {"precision": "10%", "workload.num_requests": None, "workload.duration_s": 10},
            "expected none beside workload.duration_s",
        ),
        ({"precision": "none", "workload.num_requests": None}, "expected either num_requests or"),
    ],
)
def test_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    settings = {"seeds": 10, **settings}
    with pytest.raises(StudyError, match=message):
        load_study(write_study(tmp_path), settings)


def test_refused_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL.replace("seeds: 2", "seeds: 2\nprecision: 10%")
    message = refused(capsys, tmp_path, write_study(tmp_path, text), "--out", tmp_path / "out")
    assert "small.yaml:" in message
    assert "found 2" in message


def test_the_length_follows_from_the_load(tmp_path: Path) -> None:
    """A p90 of TTFT at 35% load: the floor is below the pilot, which is all that is run."""
    settings = {**SHORT, "precision": {"target": 0.5, "metrics": ["ttft_p90_s"]}}
    result = run_study(write_study(tmp_path, UNSIZED), settings=settings)
    (point,) = result.summary.to_dict("records")
    assert (point["seeds"], point["requests"]) == (10, PILOT)
    load = load_of(result.study)
    assert load is not None
    assert point["load"] == load.share
    assert needed(90, load.effect) < 40_000


def test_near_capacity_the_floor_decides_and_a_limit_is_told(tmp_path: Path) -> None:
    precision = {"target": 0.5, "metrics": ["ttft_p90_s"], "max_requests": 10_000}
    settings = {**SHORT, "precision": precision, "workload.arrivals.rate_per_s": 110}
    result = run_study(write_study(tmp_path, UNSIZED), settings=settings)
    (point,) = result.summary.to_dict("records")
    assert 0.7 < point["load"] < 0.97
    assert point["requests"] == 1000
    need = needed(90, point["design_effect"]) / 0.9
    told = "not reached at 10,000 requests (precision.max_requests), about "
    assert f"{told}{significant(need, 2)} would do" in point["notes"]


def test_what_was_asked() -> None:
    asked = Asked(0.1, ("ttft_p99_s", "slo_attainment"), 1000, 1000, {"slo_attainment": 0.99})
    row = {"ttft_p99_s": 2.0, "ttft_p99_s_lo": 1.8, "ttft_p99_s_hi": 2.2} | {
        "slo_attainment": 0.99, "slo_attainment_lo": 0.985, "slo_attainment_hi": 0.993,
    }  # fmt: skip
    assert asked.half_width(row, "ttft_p99_s") == pytest.approx(0.1)
    assert asked.wanted("slo_attainment") == pytest.approx(0.0025)
    assert asked.note(row) == "asked ±10%, came out slo_attainment ±0.4 points"
    assert asked.note({"ttft_p99_s": 2.0}) == ""
    assert math.isnan(asked.half_width({}, "tpot_p99_s"))


def test_the_same_bytes_for_any_jobs_and_from_its_own_study(tmp_path: Path) -> None:
    path = write_study(tmp_path, UNSIZED)
    words = [w for k, v in SHORT.items() for w in ("--set", f"{k}={v}")]
    assert run_cli(path, "--out", tmp_path / "one", *words) == 0
    assert run_cli(path, "--out", tmp_path / "two", "--jobs", 2, *words) == 0
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "two")
    assert run_cli(tmp_path / "one" / "study.yaml", "--out", tmp_path / "three") == 0
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "three")
    assert len(pd.read_csv(tmp_path / "one" / "runs.csv")) == 10
    assert not list((tmp_path / "one").glob(".headroom-work*"))


def test_a_pilot_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.running import local

    path, out = write_study(tmp_path, UNSIZED), tmp_path / "out"
    whole = run_study(path, out=tmp_path / "whole", settings=SHORT)
    run_one, done = local.run_one, []

    def stops(run: Any) -> Any:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(run.path)
        return run_one(run)

    with monkeypatch.context() as patch:
        patch.setattr(local, "run_one", stops)
        with pytest.raises(KeyboardInterrupt):
            run_study(path, out=out, settings=SHORT)
    result = run_study(path, out=out, settings=SHORT)
    pd.testing.assert_frame_equal(result.summary, whole.summary)
    assert tables_of(out) == tables_of(tmp_path / "whole")
