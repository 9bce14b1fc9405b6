"""``python -m experiments.validate`` as a user runs it, and the figures that it compares."""

import csv
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.validate import main
from experiments.running.folder import results_folder
from experiments.running.work_folder import held
from experiments.validation.figures import (
    ABOVE,
    BELOW,
    ONLY_SIMULATED,
    load_of,
    offered_per_s,
)
from experiments.validation.predict import plan, predict
from experiments.validation.rows import read_table, row_of
from experiments.validation.tables import ERRORS, errors_table
from hardware.calibration import DATASHEET
from sim.settings.scenario import build_scenario
from sim.simulation import simulate
from tests.experiments.measured_runs import run, write_requests, write_table

pytestmark = pytest.mark.usefixtures("without_pictures")

MEASURED = {"ttft_mean_ms": "30", "tpot_mean_ms": "8", "e2e_mean_ms": "180", "req_s": "20"}


def validate(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """What the command does, in this process."""
    words, out, err = [*map(str, arguments)], io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recorded_table(folder: Path) -> Path:
    """A run of two recorded stages, one of drawn requests, and three that cannot be predicted."""
    write_requests(
        folder / "per_request" / "a.csv.gz",
        "arrival_s,prompt_id,input_tokens,output_tokens_true,error",
        [(0.3 * number, number % 4, 100 + number % 4, 20, 0) for number in range(20)]
        + [(8 + 0.1 * number, number % 4, 100 + number % 4, 20, 0) for number in range(20)],
    )
    both = {"per_request_file": "per_request/a.csv.gz", "request_rate_rps": "", **MEASURED}
    rows = [
        run("a/all", **both),
        run("a/stage0", n_requests="20", **both),
        run("a/stage1", n_requests="20", **both),
        run("b", **MEASURED, ttft_p99_ms="60", model="Qwen/Qwen2.5-0.5B", gpu="NVIDIA L40S"),
        run("c", engine="trtllm", **MEASURED),
        run("d", tp="two", **MEASURED),
        run("e", model="nobody/knows-1b", **MEASURED),
    ]
    return write_table(folder / "runs.csv", rows)


def test_results_of_a_table(tmp_path: Path) -> None:
    table, out = recorded_table(tmp_path), tmp_path / "results" / "mine"
    words = map(str, (table, "--out", out, "--jobs", 2, "--ablation"))
    done = subprocess.run(
        [sys.executable, "-m", "experiments.validate", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 rows predicted, 3 not" in done.stdout
    assert "ablation: median absolute error %, below saturation" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "ablation.csv", "assumptions.csv", "errors.csv", "manifest.json", "parity_e2e.png",
        "parity_rates.png", "parity_tpot.png", "parity_ttft.png", "skipped.csv", "summary.csv",
    ]  # fmt: skip
    errors = rows_of(out / "errors.csv")
    assert tuple(errors[0]) == ERRORS
    assert len(errors) == 4 * 4 + 1
    for row in errors:
        error = 100 * (float(row["predicted"]) / float(row["measured"]) - 1)
        assert float(row["error_pct"]) == pytest.approx(error, abs=1e-2)
        assert float(row["abs_error_pct"]) == pytest.approx(abs(error), abs=1e-2)
        # Recorded requests leave nothing to chance; drawn ones have an interval over seeds.
        assert bool(row["predicted_lo"]) == (row["run_id"] == "b")
        if row["run_id"] == "b":
            assert float(row["predicted_lo"]) < float(row["predicted"]) < float(row["predicted_hi"])
    reasons = {row["run_id"]: row["reason"] for row in rows_of(out / "skipped.csv")}
    assert reasons.keys() == {"c", "d", "e"}
    assert "column tp = 'two'" in reasons["d"]
    assert "nobody/knows-1b" in reasons["e"]
    summary = rows_of(out / "summary.csv")
    assert {row["group"] for row in summary} == {
        "all", "gpu", "model", "dataset", "engine_version", "tier",
    }  # fmt: skip
    one = [row for row in summary if (row["value"], row["load"]) == ("l40s", "all")]
    assert {row["metric"]: row["rows"] for row in one}["ttft_p99_ms"] == "1"
    assert "on l40s" in one[0]["calibration"]
    assert json.loads((out / "manifest.json").read_text())["rows_skipped"] == 3


def test_levels_of_the_ablation_are_rows(tmp_path: Path) -> None:
    table, out = recorded_table(tmp_path), tmp_path / "mine"
    assert validate(table, "--out", out, "--only", "^a", "--ablation").returncode == 0
    rows = [row for row in rows_of(out / "ablation.csv") if row["load"] == "below saturation"]
    assert [row["level"] for row in rows] == [
        "datasheet roofline", "+ measured kernels", "+ host overhead", "+ prefix cache",
        "+ client and API",
    ]  # fmt: skip
    errors = rows_of(out / "errors.csv")
    last = np.median(
        [float(row["abs_error_pct"]) for row in errors if row["metric"] == "e2e_mean_ms"]
    )
    assert float(rows[-1]["e2e_mean_ms_median_abs_error_pct"]) == pytest.approx(last, rel=1e-3)
    assert len({row["e2e_mean_ms_median_abs_error_pct"] for row in rows}) >= 4


def test_what_it_predicts_it_finds_again(tmp_path: Path) -> None:
    table = recorded_table(tmp_path)
    assert validate(table, "--out", tmp_path / "first", "--only", "^a").returncode == 0
    predicted = {
        (row["run_id"], row["metric"]): row["predicted"]
        for row in rows_of(tmp_path / "first" / "errors.csv")
    }
    rows = [row for row in rows_of(table) if row["run_id"].startswith("a")]
    for row in rows:
        row.update({metric: predicted[row["run_id"], metric] for metric in MEASURED})
    write_table(table, rows)
    assert validate(table, "--out", tmp_path / "again").returncode == 0
    for row in rows_of(tmp_path / "again" / "errors.csv"):
        assert float(row["abs_error_pct"]) < 1e-3


def test_the_number_of_jobs_changes_nothing(tmp_path: Path) -> None:
    table = recorded_table(tmp_path)
    for jobs in (1, 2):
        assert validate(table, "--out", tmp_path / str(jobs), "--jobs", jobs).returncode == 0
    for name in ("errors.csv", "summary.csv", "skipped.csv", "assumptions.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_bare_peaks_are_told_loudly(tmp_path: Path) -> None:
    out = tmp_path / "bare"
    done = validate(recorded_table(tmp_path), "--out", out, "--only", "^a", "--calibration", "none")
    assert done.returncode == 0, done.stderr
    assert "NOT CALIBRATED: 3 rows priced at the datasheet's peaks (h100-sxm)" in done.stdout
    assert {row["calibration"] for row in rows_of(out / "summary.csv")} == {"none"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only nothing: no run_id of .* contains it"),
        (["--only", "("], r"--only \(: not a regular expression"),
        (["--jobs", "0"], "--jobs: '0', expected a whole number of at least 1"),
        (["--seeds", "0"], "--seeds: '0', expected a whole number of at least 1"),
        (["--calibration", "vlm"], "calibration = 'vlm' is no file that exists: did you mean vllm"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = validate(recorded_table(tmp_path), "--out", tmp_path / "mine", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr)
    assert not (tmp_path / "mine").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = validate(recorded_table(tmp_path), "--out", tmp_path)
    assert done.returncode == 2
    assert "is not a results folder" in done.stderr


def test_a_comparison_replaces_its_own_results_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recorded_table(tmp_path)), "--only", "^a", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--jobs", "1"]) == 0
    errors = (tmp_path / "out" / "errors.csv").read_bytes()
    (tmp_path / "out" / "notes.md").write_text("mine")
    assert main([*arguments, "--jobs", "1"]) == 0
    assert (tmp_path / "out" / "errors.csv").read_bytes() == errors
    others = [*arguments, "--seeds", "1", "--calibration", "none"]
    assert main(others) == 2
    assert "comparison with runs.csv with other settings" in capsys.readouterr().err
    assert (tmp_path / "out" / "errors.csv").read_bytes() == errors
    place = results_folder(tmp_path / "out")
    with held(place.work, place.out):
        assert main([*others, "--overwrite"]) == 2
    assert "is being written by another run" in capsys.readouterr().err
    assert main([*others, "--overwrite"]) == 0
    assert (tmp_path / "out" / "errors.csv").read_bytes() != errors
    (tmp_path / "out" / "summary.csv").write_text("mine, too")
    assert main([*others, "--overwrite"]) == 2
    assert (tmp_path / "out" / "summary.csv").read_text() == "mine, too"
    assert (tmp_path / "out" / "notes.md").read_text() == "mine"


def test_figures_are_those_of_the_requests(tmp_path: Path) -> None:
    planned = plan(read_table(recorded_table(tmp_path)), "^a")
    (task,) = planned.tasks
    found, skipped = predict([task], DATASHEET)
    assert skipped == []
    setup = task.setup
    scenario = build_scenario(setup.spec, setup.gpu, setup.cluster, setup.engine, DATASHEET)
    column = simulate(scenario, task.traffic[0].requests).requests
    for prediction, rows in zip(found, (slice(None), slice(20), slice(20, None)), strict=True):
        ttft_s = (column["first_token_s"] - column["arrival_s"])[rows]
        e2e_s = (column["finish_s"] - column["arrival_s"])[rows]
        span_s = column["finish_s"][rows].max() - column["arrival_s"][rows].min()
        values = {name: value for name, (value, _, _) in prediction.values.items()}
        assert values["ttft_mean_ms"] == pytest.approx(1e3 * ttft_s.mean())
        assert values["ttft_p99_ms"] == pytest.approx(1e3 * np.percentile(ttft_s, 99))
        assert values["e2e_p50_ms"] == pytest.approx(1e3 * np.median(e2e_s))
        assert values["tpot_mean_ms"] == pytest.approx(1e3 * (e2e_s - ttft_s).mean() / 19)
        assert values["req_s"] == pytest.approx(len(ttft_s) / span_s)
        assert values["out_tok_s"] == pytest.approx(20 * len(ttft_s) / span_s)


def test_predictions_follow_the_prices_that_are_given(tmp_path: Path) -> None:
    tasks = plan(read_table(recorded_table(tmp_path)), "^a").tasks
    slow = DATASHEET.model_copy(update={"name": "slow", "gemm_bytes": 0.5})
    fast, _ = predict(tasks, DATASHEET)
    half, _ = predict(tasks, lambda task: slow)
    assert half[0].values["e2e_mean_ms"][0] > 1.3 * fast[0].values["e2e_mean_ms"][0]
    assert half[0].calibration == "slow"


def test_an_inter_token_latency_is_what_the_notes_define(tmp_path: Path) -> None:
    plain = run("plain", itl_mean_ms="8", itl_p99_ms="9")
    defined = run("defined", itl_mean_ms="8", notes="itl_mean=(e2e-ttft)/(osl-1) as there")
    table = write_table(tmp_path / "runs.csv", [plain, defined])
    found, _ = predict(plan(read_table(table), seeds=1).tasks)
    gaps, ratio = (one.values for one in found)
    assert ratio["itl_mean_ms"] == ratio["tpot_mean_ms"]
    # Outputs are equally long, so that the mean over tokens is the mean over requests.
    assert gaps["itl_mean_ms"][0] == pytest.approx(gaps["tpot_mean_ms"][0])
    assert gaps["itl_p99_ms"][0] != gaps["tpot_p99_ms"][0]


def test_clients_that_wait_their_turn_and_give_up(tmp_path: Path) -> None:
    gone = "arrival_s,input_tokens,output_tokens_true,e2e_s,error"
    # The whole answer takes 500 steps of some 6 ms: longer than the client waits for it.
    asked = [
        (0.1 * number, 200, 500 if number == 3 else 5, 1.0, number == 3) for number in range(9)
    ]
    write_requests(tmp_path / "a.csv", gone, [(*row[:4], int(row[4])) for row in asked])
    cells = {"per_request_file": "a.csv", "request_rate_rps": "", "n_failed": "1", **MEASURED}
    rows = [run("wide", **cells), run("narrow", **cells, max_concurrency="1")]
    found, _ = predict(plan(read_table(write_table(tmp_path / "runs.csv", rows))).tasks)
    wide, narrow = (one.values for one in found)
    # One of nine is given up a second after it was sent, and nobody's latency is that of its own.
    assert wide["e2e_p99_ms"][0] < 200
    assert wide["req_s"][0] == pytest.approx(8 / 1.3, rel=0.01)
    assert narrow["ttft_p99_ms"][0] < 1.5 * wide["ttft_p99_ms"][0]  # waiting comes before sending
    assert narrow["req_s"][0] < wide["req_s"][0]


def test_what_an_engine_measures_of_itself_is_without_the_api(tmp_path: Path) -> None:
    rows = [run("a", **MEASURED), run("b", **MEASURED, notes="means from engine /metrics")]
    tasks = plan(read_table(write_table(tmp_path / "runs.csv", rows)), seeds=1).tasks
    slow = DATASHEET.model_copy(update={"name": "slow api", "api_request_s": 0.5})
    outside, inside = (one.values["ttft_mean_ms"][0] for one in predict(tasks, slow)[0])
    assert outside - inside == pytest.approx(500, rel=0.05)


def test_saturation_is_measured_where_it_can_be() -> None:
    slow = {"req_s": 1.0}

    def load(simulated: dict[str, float], grew: bool, **cells: str) -> str:
        return load_of(row_of(run("a", **cells)), 2.0, 20.0, simulated, grew)

    assert load(slow, False, req_s="1.8") == ABOVE
    assert load(slow, True, req_s="1.95") == BELOW
    assert load(slow, False, req_s="2", n_failed="4.0") == ABOVE
    closed = {"arrival_process": "closed loop", "max_concurrency": "4"}
    assert load(slow, True, **closed) == BELOW
    # 5% too much load makes requests wait 2.5% of the run in the mean, here half a second.
    assert load(slow, True, ttft_mean_ms="60") == BELOW
    assert load(slow, False, ttft_mean_ms="700") == ABOVE
    assert load(slow, True, out_tok_s="39", osl_mean="20") == BELOW
    # A client's cap hides the queue, and nobody measured anything: the simulation alone says so.
    assert load(slow, True, ttft_mean_ms="60", max_concurrency="32") == ONLY_SIMULATED
    assert load(slow, False) == ONLY_SIMULATED
    assert load({"req_s": 1.99}, False) == BELOW


def test_offered_rate() -> None:
    assert offered_per_s(np.array([1.0, 2.0, 3.0])) == 1.0
    assert np.isnan(offered_per_s(np.array([1.0])))
    assert np.isnan(offered_per_s(np.array([np.nan, np.nan])))


def test_errors_of_what_nobody_measured_are_not_there(tmp_path: Path) -> None:
    table = write_table(tmp_path / "runs.csv", [run("a", ttft_mean_ms="30", e2e_mean_ms="")])
    found, _ = predict(plan(read_table(table), seeds=1).tasks)
    assert errors_table(found).metric.tolist() == ["ttft_mean_ms"]


def test_a_table_without_a_row_that_can_be_predicted_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "runs.csv", tmp_path / "out"
    table.write_text("run_id,model,gpu,engine\nmine,Qwen/Qwen3-8B,H100-80GB-SXM,sglang\n")
    assert main([str(table), "--out", str(out)]) == 0
    assert "no row could be predicted" in capsys.readouterr().out
    (skipped,) = rows_of(out / "skipped.csv")
    assert "engine = 'sglang' is not modelled" in skipped["reason"]
    assert not rows_of(out / "errors.csv")
