"""Percentiles that an slo limits: shown, compared, and kept in a narrow terminal."""

from pathlib import Path

import pandas as pd
import pytest
from study_files import SMALL, run_cli, write_study

from experiments.cli.compare import main as compare_main
from experiments.reporting.table import _fewer, columns_of

LIMITS = "slo: {ttft_p90_s: 0.5, tpot_p90_s: 0.05, e2e_p95_s: 2, tpot_p99_s: 1}\nseeds: 3"


def test_percentiles_that_the_slo_limits_are_shown_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = write_study(tmp_path, SMALL.replace("seeds: 2", LIMITS))
    assert run_cli(path, "--out", out, "--set", "workload.num_requests=600") == 0
    out_text = capsys.readouterr().out
    assert "E2E p99 rests on" in out_text
    shown = [line for line in out_text.splitlines() if line.startswith("┃")]
    assert [words.split() for words in shown[0].split("┃")[6:11]] == [
        ["tightest"], ["output", "tokens/s"], ["TTFT", "p50", "ms"], ["TTFT", "p90", "ms"],
        ["TPOT", "p50", "ms"],
    ]  # fmt: skip
    assert "TTFT p99" not in shown[0]
    assert "TPOT p90 ms ┃ TPOT p99 ms ┃ E2E p50 s ┃ E2E p95 s ┃" in shown[0]
    told = pd.read_csv(out / "differences.csv").set_index("metric")
    summary = pd.read_csv(out / "summary.csv")
    for metric in ("ttft_p90_s", "tpot_p90_s", "e2e_p95_s"):
        gap = summary[metric][1] - summary[metric][0]
        assert told.loc[metric, "difference"] == pytest.approx(gap)
    assert compare_main([f"{out}:1", f"{out}:2", "--fail-on", "e2e_p95_s < -1%"]) == 1
    assert "E2E p95 ms" in capsys.readouterr().out


def test_a_column_of_differences_needs_one_that_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first point is saturated; the second one not, and the third is the first again."""
    points = "\n".join(
        f"- {{engine.max_num_seqs: {seats}, engine.block_size: {size}}}"
        for seats, size in ((1, 16), (8, 16), (1, 32))
    )
    swept = f"seeds: 3\nsweep:\n{points}"
    text = SMALL.replace("seeds: 2\nsweep:\n  engine.max_num_seqs: [1, 4]", swept)
    path, out = write_study(tmp_path, text.replace("rate_per_s: 20", "rate_per_s: 60")), tmp_path
    assert run_cli(path, "--out", out / "out", "--set", "workload.num_requests=300") == 0
    table = capsys.readouterr().out.partition("Against point 1")[2]
    told = pd.read_csv(out / "out" / "differences.csv").query("metric == 'ttft_p99_s'")
    assert told["difference_lo"].isna().tolist() == [True, False]
    assert "TPOT" in table
    assert "TTFT" not in table


def test_columns_without_anything_to_show_go_first() -> None:
    """And what the slo limits stays as long as p99 would, in a narrow terminal."""
    row = {
        "saturated": 1.0, "ttft_p50_s": 1.0, "ttft_p95_s": 1.0, "tpot_p95_s": 0.1, "gpus": 2.0,
        "usd_per_hour": 3.0, "ttft_p95_s_attainment": 0.5, "tpot_p95_s_attainment": 0.5,
    }  # fmt: skip
    columns = [each for each in columns_of(row) if each.metric in row]
    names = [[each.metric for each in fewer] for fewer in _fewer(columns, [row])]
    assert names[0] == ["ttft_p50_s", "ttft_p95_s", "tpot_p95_s", "gpus", "usd_per_hour"]
    assert names[1] == ["tpot_p95_s", "gpus", "usd_per_hour"]
    assert names[-1] == []
    assert ["gpus", "usd_per_hour"] in names
