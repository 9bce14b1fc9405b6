"""Service level objectives: who keeps them, and what a reader is told of it."""

import math
from pathlib import Path

import numpy as np
import pytest
from study_files import SMALL, run_cli, write_study

from experiments.reporting.basis import Basis
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.reporting.verdict import KEPT, MISSED, UNDECIDED, criteria, verdict, window_notes
from experiments.running.api import run_study
from sim.measuring.slo import Slo, attainments, good, is_met, windows

COLUMNS = {
    "status": np.array([1, 1, 1, 2, 3, 0]),
    "sent_s": np.zeros(6),
    "reached_s": np.zeros(6),
    "first_scheduled_s": np.zeros(6),
    "first_token_s": np.array([0.1, 0.3, 0.6, np.nan, np.nan, 0.1]),
    "finish_s": np.array([1.1, 2.3, 0.6, np.nan, np.nan, np.nan]),
    "output_tokens": np.array([11, 11, 1, 5, 5, 5]),
}
"""TTFT 0.1, 0.3 and 0.6 s, TPOT 0.1 and 0.2 s and none; rejected, given up and unfinished."""


def test_limits_of_requests_and_of_percentiles() -> None:
    every = np.ones(6, dtype=np.bool_)
    joint = Slo(ttft_s=0.5, tpot_s=0.15)
    assert good(COLUMNS, joint).tolist() == [True, False, False, False, False, False]
    assert attainments(COLUMNS, every, joint) == {
        "ttft_s_attainment": 2 / 6, "tpot_s_attainment": 2 / 6
    }  # fmt: skip
    each = Slo(ttft_p50_s=0.2, ttft_p90_s=0.5, e2e_p99_s=2)
    assert attainments(COLUMNS, every, each) == {
        "ttft_p50_s_attainment": 1 / 6, "ttft_p90_s_attainment": 2 / 6,
        "e2e_p99_s_attainment": 2 / 6,
    }  # fmt: skip
    assert good(COLUMNS, each).tolist() == [True, False, False, False, False, False]
    assert good(COLUMNS, Slo()).tolist() == [True, True, True, False, False, False]
    finished = np.arange(6) < 3
    shares = attainments(COLUMNS, finished, Slo(ttft_p50_s=0.5)) | {"slo_attainment": 0.0}
    assert is_met(shares, Slo(ttft_p50_s=0.5))
    assert not is_met(shares | {"ttft_p50_s_attainment": 0.4}, Slo(ttft_p50_s=0.5))


def test_criteria() -> None:
    found = criteria(Slo(ttft_s=1, tpot_s=0.1, attainment=0.9, e2e_p95_s=5))
    assert [(one.metric, one.required) for one in found] == [
        ("slo_attainment", 0.9), ("e2e_p95_s_attainment", 0.95)
    ]  # fmt: skip
    assert criteria(Slo()) == []


@pytest.mark.parametrize(
    ("low", "high", "more", "expected"),
    [
        (0.991, 0.999, {}, KEPT),
        (0.95, 0.989, {}, MISSED),
        (0.95, 0.99, {}, UNDECIDED),
        (0.98, 0.995, {}, UNDECIDED),
        (math.nan, math.nan, {}, UNDECIDED),
        (0.995, 1.0, {"load": 0.98}, UNDECIDED),
        (0.995, 1.0, {"saturated": 1.0}, MISSED),
        (
            0.995,
            1.0,
            {"load": 0.9, "measured_requests": 999, "relaxation_requests": 100},
            UNDECIDED,
        ),
        (0.995, 1.0, {"load": 0.9, "measured_requests": 1000, "relaxation_requests": 100}, KEPT),
    ],
)
def test_verdicts(low: float, high: float, more: dict[str, float], expected: str) -> None:
    row = {"ttft_p99_s_attainment": 0.985, "ttft_p99_s_attainment_lo": low}
    row |= {"ttft_p99_s_attainment_hi": high, **more}
    assert verdict(row, Slo(ttft_p99_s=1), exact=False) == (expected, "ttft_p99_s")


@pytest.mark.parametrize(
    ("share", "seeds", "limit", "expected"),
    [
        (0.0, 1, "ttft_p99_s", MISSED),
        (0.0, 1, "tpot_p90_s", MISSED),
        (0.7, 1, "ttft_p99_s", MISSED),
        (0.9, 1, "ttft_p99_s", UNDECIDED),
        (0.0, 1, "ttft_p50_s", UNDECIDED),  # an unlucky run of a good median can look like that,
        (0.0, 4, "ttft_p50_s", MISSED),  # four of them cannot
        (1.0, 1, "ttft_p99_s", UNDECIDED),
        (1.0, 9, "ttft_p99_s", UNDECIDED),
        (math.nan, 1, "ttft_p99_s", UNDECIDED),
    ],
)
def test_without_an_interval_a_run_is_one_trial(
    share: float, seeds: int, limit: str, expected: str
) -> None:
    row = {f"{limit}_attainment": share, "seeds": seeds}
    assert verdict(row, Slo.model_validate({limit: 1}), exact=False)[0] == expected


@pytest.mark.parametrize("rate_per_s", [9.99, 10.0, 12.0])
def test_one_run_at_capacity_that_nobody_was_content_with_misses(rate_per_s: float) -> None:
    from experiments.reporting.support import Load

    runs = Records(
        {"seed": [0], "measured_requests": [1350.0], "saturated": [0.0], "slo_attainment": [0.0],
         "ttft_s_attainment": [0.0]}
    )  # fmt: skip
    basis = Basis(load=Load(rate_per_s, 10, 1, 1), slo=Slo(ttft_s=1, attainment=0.9))
    (point,) = summarise_points(runs, [], bases=[basis]).rows()
    assert point["slo_verdict"] == MISSED


def test_what_is_not_random_needs_no_interval_and_the_tightest_limit_is_named() -> None:
    row = {"slo_attainment": 0.995, "ttft_s_attainment": 0.996, "tpot_s_attainment": 0.999}
    assert verdict(row, Slo(ttft_s=1, tpot_s=1), exact=True) == (KEPT, "ttft_s")
    assert verdict(row, Slo(), exact=True) == ("", "")
    row |= {"e2e_p50_s_attainment": 0.1}
    assert verdict(row, Slo(ttft_s=1, e2e_p50_s=1), exact=True) == (MISSED, "e2e_p50_s")
    # 0.8% of the 1% that may miss is less room than 30% of 50%.
    row = {"ttft_p99_s_attainment": 0.992, "e2e_p50_s_attainment": 0.7}
    assert verdict(row, Slo(ttft_p99_s=1, e2e_p50_s=1), exact=True) == (KEPT, "ttft_p99_s")
    # Where nobody may miss, one who does leaves less room than any share of others.
    row = {"slo_attainment": 0.9999, "tpot_s_attainment": 0.9999, "e2e_p50_s_attainment": 0.1}
    slo = Slo(tpot_s=1, attainment=1.0, e2e_p50_s=1)
    assert verdict(row, slo, exact=True) == (MISSED, "tpot_s")
    row |= {"slo_attainment": 1.0, "tpot_s_attainment": 1.0}
    assert verdict(row, slo, exact=True) == (MISSED, "e2e_p50_s")


def test_a_share_of_one_run_has_an_interval_by_its_load() -> None:
    from experiments.reporting.support import Load

    runs = Records(
        {"seed": [0], "measured_requests": [9000.0], "saturated": [0.0], "slo_attainment": [0.995],
         "ttft_s_attainment": [0.995]}
    )  # fmt: skip
    load = Load(5, 10, 1, 1)
    (point,) = summarise_points(runs, [], bases=[Basis(load=load, slo=Slo(ttft_s=1))]).rows()
    assert load.effect == pytest.approx(8.8)
    assert 0.98 < point["slo_attainment_lo"] < 0.99 < 0.997 < point["slo_attainment_hi"] < 1
    assert point["slo_verdict"] == UNDECIDED


SETTINGS = "slo: {ttft_p95_s: 5, e2e_p50_s: 1e-6}\nseeds: 2"


def test_the_verdict_stands_in_tables_files_and_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace("seeds: 2", SETTINGS)
    path, out = write_study(tmp_path, text), tmp_path / "out"
    result = run_study(path, out=out)
    assert result.summary["slo_verdict"].tolist() == [MISSED, MISSED]
    assert result.summary["slo_binds"].tolist() == ["e2e_p50_s", "e2e_p50_s"]
    assert result.runs["slo_met"].tolist() == [0, 0, 0, 0]
    assert {"ttft_p95_s_attainment", "e2e_p50_s_attainment"} <= set(result.runs)
    assert MISSED in (out / "report.html").read_text()
    assert run_cli(path, "--out", out, "--fail-on-slo") == 1
    output = capsys.readouterr()
    assert "missed" in output.out
    assert "slo: missed at points 1, 2" in output.err
    kept = ("--set", "slo={ttft_p50_s: 60}", "--set", "workload.num_requests=400",
            "--set", "workload.arrivals.rate_per_s=10")  # fmt: skip
    assert run_cli(path, "--out", tmp_path / "kept", "--fail-on-slo", *kept) == 0
    none = ("--set", "slo=null")
    assert run_cli(path, "--out", tmp_path / "none", "--fail-on-slo", *none) == 2
    assert "--fail-on-slo needs an slo" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_keeps_words_whole_and_the_verdict(columns: int) -> None:
    import io

    from rich.console import Console

    from experiments.reporting.table import print_summary
    from experiments.running.api import _plan

    plan = _plan("tensor_parallel", {"workload.num_requests": 40, "seeds": 1})
    summary = Records.of_frame(run_study(plan.study).summary)
    stream = io.StringIO()
    print_summary(plan, summary, Console(file=stream, width=columns, highlight=False))
    lines = [line for line in stream.getvalue().splitlines() if line[:1] in "┃│"]
    assert max(map(len, lines)) <= columns
    assert any("SLO" in line for line in lines)
    assert sum("│" in line for line in lines) == 6, "a line for each point"
    assert all(line.split("│")[-3].split()[0] != "" for line in lines if "│" in line)


def test_windows_and_the_worst_hour_by_hand() -> None:
    """Four windows of 1,800 s, one of them empty: half of the second misses, none of the fourth."""
    columns = {
        "status": np.ones(6, dtype=np.int8), "output_tokens": np.full(6, 2),
        "sent_s": np.array([0.0, 100.0, 2000.0, 2100.0, 5400.0, 7300.0]),
    }  # fmt: skip
    columns["first_token_s"] = columns["sent_s"] + np.array([0.1, 0.1, 0.1, 9.0, 0.1, 0.1])
    columns["finish_s"] = columns["first_token_s"] + 0.1
    every = np.ones(6, dtype=np.bool_)
    found = windows(columns, every, Slo(ttft_s=1, attainment=0.9), 1800.0)
    assert found == {
        "slo_windows": 4, "slo_windows_kept": 0.75, "worst_hour": 0, "worst_hour_missed": 0.25
    }  # fmt: skip
    assert windows(columns, every, Slo(ttft_p50_s=1), 1800.0)["slo_windows_kept"] == 1
    assert math.isnan(windows(columns, ~every, Slo(), 60.0)["slo_windows_kept"])


def test_a_window_is_judged_by_its_share_as_a_run_is() -> None:
    """243 of 300 are 81%; 0.81 times 300 is a little more than 243."""
    sent_s = np.arange(300.0)
    first_s = sent_s + np.where(np.arange(300) < 243, 0.1, 9.0)
    columns = {
        "status": np.ones(300, dtype=np.int8), "output_tokens": np.full(300, 2),
        "sent_s": sent_s, "first_token_s": first_s, "finish_s": first_s + 0.1,
    }  # fmt: skip
    slo, every = Slo(ttft_s=1, attainment=0.81), np.ones(300, dtype=np.bool_)
    assert attainments(columns, every, slo)["ttft_s_attainment"] >= slo.attainment
    assert windows(columns, every, slo, 300.0)["slo_windows_kept"] == 1


def test_seeds_with_different_worst_hours_have_none_together() -> None:
    row = {"slo_windows": 8.0, "slo_windows_kept": 0.75, "worst_hour_missed": 0.25}
    (told,) = window_notes(row | {"worst_hour": 2.0}, exact=False)
    assert told == "75% of 8 windows kept the slo, worst hour 2 to 3 of the run: 25% missed"
    (told,) = window_notes(row | {"worst_hour": 2.5}, exact=False)
    assert told == "75% of 8 windows kept the slo"


def test_a_trace_tells_its_windows_and_its_worst_hour(tmp_path: Path) -> None:
    rows = [f"{second},{40},{4}" for second in range(0, 4000, 20)]
    rows += [f"{4000 + place / 100},{60},{20}" for place in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]))
    settings = {
        "sweep": {}, "workload": {"trace": str(tmp_path / "t.csv")}, "seeds": 1,
        "slo": {"ttft_p99_s": 0.05}, "engine.max_num_seqs": 2,
    }  # fmt: skip
    (point,) = run_study(write_study(tmp_path), settings=settings).summary.to_dict("records")
    assert point["slo_windows"] == 14
    assert point["slo_windows_kept"] == pytest.approx(13 / 14)
    assert "92.9% of 14 windows kept the slo, worst hour 1 to 2 of the run" in point["notes"]
    assert "says nothing about other days" in point["notes"]
