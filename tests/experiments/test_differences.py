"""Differences: paired by seed and request, rarely starred by luck, and what pipelines do."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_files import SMALL, run_cli, write_study

from experiments.cli.compare import main as compare_main
from experiments.reporting.difference_table import text_of
from experiments.reporting.differences import differences_table
from experiments.reporting.page.base import data_of
from experiments.reporting.quantities import DASH
from experiments.reporting.records import Records
from experiments.reporting.significance import blocked, holm, of_shares, sectioned, welch
from experiments.reporting.student import t_tails
from experiments.running.api import load_study, run_study
from experiments.running.compared import compare, sides_of
from experiments.running.compared_settings import differing
from experiments.study.baseline import baselines
from experiments.study.errors import StudyError

pytestmark = pytest.mark.usefixtures("without_pictures")

LONGER = {"workload.num_requests": 300, "seeds": 4}


def test_tails_of_student_s_t_are_scipy_s() -> None:
    for value, freedom in ((0.0, 3), (1.0, 2), (-4.0, 1.3), (30.0, 20)):
        assert t_tails(value, freedom) == pytest.approx(2 * stats.t.sf(abs(value), freedom))
    with pytest.raises(ValueError, match="expected freedom > 0"):
        t_tails(1.0, 0)


def test_paired_parts() -> None:
    """Of a mean it is the paired t test; of a pooled figure the spread is about that."""
    parts = [1.0, 2.0, 4.0]
    found = sectioned(sum(parts) / 3, parts)
    expected = stats.ttest_1samp(parts, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    pooled = sectioned(5.0, parts)
    error = math.sqrt((16 + 9 + 1) / 2 / 3)
    assert pooled.high - 5 == pytest.approx(stats.t.ppf(0.975, 2) * error)
    same = sectioned(0.0, [0.0, 0.0])
    assert (same.low, same.high, same.p_value) == (0, 0, 1)
    assert math.isnan(sectioned(3.0, [1.0]).low)
    assert math.isnan(sectioned(math.inf, [1.0, 2.0]).low)


def test_no_difference_of_shares_is_beyond_100_points() -> None:
    """Three seeds that differ much: Student's t alone would say -64 to +134 points."""
    runs = {
        "point": [1, 1, 1, 2, 2, 2], "seed": [0, 1, 2] * 2, "saturated": [0] * 6,
        "slo_attainment": [0.1, 0.5, 0.0, 0.3, 0.6, 0.75], "ttft_mean_s": [9.0, 2, 3, 5, 5, 20],
    }  # fmt: skip
    summary = {
        "point": [1, 2], "saturated": [0, 0], "slo_attainment": [0.2, 0.55],
        "ttft_mean_s": [14 / 3, 10.0],
    }  # fmt: skip
    found = differences_table(Records(runs), Records(summary), [], {1: 1, 2: 1})
    told = {row["metric"]: row for row in found.rows()}
    share, latency = told["slo_attainment"], told["ttft_mean_s"]
    assert share["difference_hi"] == 1.0
    assert share["difference_lo"] == pytest.approx(sectioned(0.35, [0.2, 0.1, 0.75]).low)
    assert text_of(share) == "+35 (-52 to +100)"
    assert latency["difference_lo"] < -1
    cut = of_shares(sectioned(-0.5, [-0.9, -0.1, -0.5]))
    assert (cut.low, cut.p_value) == (-1.0, sectioned(-0.5, [-0.9, -0.1, -0.5]).p_value)
    assert math.isnan(of_shares(sectioned(0.5, [0.5])).low)


def test_what_differs_in_the_last_bits_is_no_digits() -> None:
    """A point whose seeds all change by the same, but for rounding."""
    row = {"metric": "tpot_p99_s", "starred": True, "difference": -1.052e-3}
    ends = {"difference_lo": -1.052e-3 - 4e-15, "difference_hi": -1.052e-3 + 4e-15}
    assert text_of(row | ends) == "-1.05200 ±0*"


def test_unpaired_samples_are_welch_s() -> None:
    before, after = [1.0, 2.0, 3.5], [4.0, 4.5, 7.0, 5.0]
    found, expected = welch(before, after), stats.ttest_ind(after, before, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert math.isnan(welch([1.0], [2.0, 3.0]).low)
    assert math.isnan(welch([1.0, 2.0], [math.nan, 3.0]).low)
    pooled = welch(before, after, (3.0, 6.0))  # the spread is about what is told
    parts = [(4 + 1 + 0.25) / 2 / 3, (4 + 2.25 + 1 + 1) / 3 / 4]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    assert pooled.value == 3.0
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert (pooled.low, pooled.high) == pytest.approx((3 - half, 3 + half))


def test_blocks_are_longer_than_what_requests_have_in_common() -> None:
    """Gaps that 1,200 requests in a row share: blocks of 500 would find 0.6 of their spread."""
    rng, stretches, length = np.random.default_rng(0), 84, 1200
    found = []
    for _ in range(4):
        gaps = np.repeat(rng.normal(size=stretches), length)
        difference = blocked(np.zeros(len(gaps)), gaps, None, float(gaps.mean()))
        found.append((difference.high - difference.low) / (2 * 1.96 / math.sqrt(stretches)))
    assert 0.68 < np.mean(found) < 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]) == [True, False, False, False]
    assert holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert holm([]) == []


def test_blocks_of_requests() -> None:
    """A shift of 1 in noise that lasts for 200 requests: blocks see it, few requests do not."""
    rng = np.random.default_rng(2)
    noise = np.repeat(rng.normal(size=400), 200)
    before = 10 + rng.normal(size=len(noise))
    found = blocked(before, before + 1 + noise, None, 1 + float(noise.mean()))
    assert found.low < 1 < found.high
    assert 0.5 < (found.high - found.low) / (2 * 1.96 / math.sqrt(400)) < 2
    assert math.isnan(blocked(before[:5000], before[:5000] + noise[:5000], 99, 1.0).low)
    same = blocked(before, before, 99, 0.0)
    assert (same.low, same.high, same.p_value) == (0, 0, 1)
    again = blocked(before, before + 1 + noise, 99, 1.0)
    assert again == blocked(before, before + 1 + noise, 99, 1.0)


def test_a_change_of_nothing_is_starred_in_at_most_a_twentieth() -> None:
    """Two settings with the same law on fresh noise, 10 metrics, 5 seeds; 600 repetitions.

    Any star at all is a false alarm; with probability 0.05 it is at most 47 of 600 but for 1e-3.
    """
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(600):
        gaps = rng.normal(size=(10, 5))
        found = [sectioned(float(row.mean()), row.tolist()).p_value for row in gaps]
        alarms += any(holm(found))
    assert alarms <= stats.binom.ppf(0.999, 600, 0.05)


def test_baselines() -> None:
    grid = [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]
    assert baselines(grid, None) == {1: 1, 2: 1, 3: 1, 4: 1}
    assert baselines(grid, 3) == dict.fromkeys((1, 2, 3, 4), 3)
    assert baselines(grid, {"b": "y"}) == {1: 2, 2: 2, 3: 4, 4: 4}
    for wrong, message in (
        (5, "number of a point, 1 to 4"),
        ({"c": 1}, "c is not swept"),
        ({"a": 7}, r"a = 7 is no value of the sweep, expected 1, 2"),
    ):
        with pytest.raises(ValueError, match=message):
            baselines(grid, wrong)
    with pytest.raises(ValueError, match="point 1 has no baseline"):
        baselines(grid[:3], {"b": "y", "a": 2})


def test_a_study_names_its_baseline(tmp_path: Path) -> None:
    path = write_study(tmp_path, SMALL + "baseline: {engine.max_num_seqs: 3}\n")
    with pytest.raises(StudyError, match=r"small.yaml:\d+: baseline = .*engine.max_num_seqs = 3"):
        load_study(path)


def test_every_table_shows_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL + "baseline: {engine.max_num_seqs: 4}\n"
    path, out = write_study(tmp_path, text), tmp_path / "out"
    words = [w for key, value in LONGER.items() for w in ("--set", f"{key}={value}")]
    assert run_cli(path, "--out", out, *words) == 0
    shown = capsys.readouterr().out
    assert "Against point 2 (max_num_seqs 4), paired by seed" in shown
    table = pd.read_csv(out / "differences.csv")
    assert set(table["point"]) == {1}
    assert set(table["baseline"]) == {2}
    row = table.set_index("metric").loc["tpot_p50_s"]
    summary = pd.read_csv(out / "summary.csv").set_index("point")["tpot_p50_s"]
    assert row["difference"] == pytest.approx(summary[1] - summary[2])
    assert row["difference_lo"] < row["difference"] < row["difference_hi"]
    runs = pd.read_csv(out / "runs.csv")
    rows = Records.of_frame(pd.read_csv(out / "summary.csv"))
    again = differences_table(Records.of_frame(runs), rows, ["engine.max_num_seqs"], {1: 2, 2: 2})
    pd.testing.assert_frame_equal(again.frame(), table)
    alone = run_study(path, out=tmp_path / "alone", settings={"sweep": {}, "baseline": None})
    assert not (tmp_path / "alone" / "differences.csv").exists()
    assert len(alone.differences) == 0


def results(folder: Path, name: str, **settings: object) -> Path:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    run_study(write_study(folder), out=folder / name, settings={**LONGER, "sweep": {}, **given})
    return folder / name


def test_compare_pairs_what_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = results(tmp_path, "wide", engine__max_num_seqs=8)
    same = results(tmp_path, "same", engine__max_num_seqs=8)
    tight = results(tmp_path, "tight", engine__max_num_seqs=1)
    ((before, after),) = sides_of(str(wide), str(same))
    nothing = compare(before, after)
    assert nothing.pairing == "the same requests"
    assert {line.difference.value for line in nothing.lines} == {0.0}
    assert not any(line.starred for line in nothing.lines)
    assert [spread.better + spread.worse for spread in nothing.spreads] == [0, 0, 0]
    rule = ["--fail-on", "tpot_p50_s < -1%"]
    assert compare_main([str(wide), str(tight), *rule]) == 1
    output = capsys.readouterr()
    assert "the same requests" in output.out
    assert "  engine.max_num_seqs: 8 -> 1\n" in output.out
    assert "'tpot_p50_s < -1%' holds" in output.err
    assert compare_main([str(wide), str(same), *rule]) == 0
    capsys.readouterr()
    page = tmp_path / "compared.html"
    assert compare_main([str(wide), str(tight), "--report", str(page)]) == 0
    told = page.read_text(encoding="utf-8")
    assert "beyond noise" in data_of(told)["verdict"]["text"]
    capsys.readouterr()
    assert compare_main([str(wide), str(tight), "--report", str(page)]) == 2
    assert "it exists, expected the name of a new file" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == told
    assert compare_main([str(wide), str(tight), "--format", "json"]) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["ttft_p50_s"]["difference"] > 0
    assert rows["ttft_p50_s"]["pairing"] == "the same requests"


def test_pairs_are_called_as_their_points_are(tmp_path: Path) -> None:
    text = SMALL.replace("seeds: 2", "slo: {ttft_s: 0.5}\nseeds: 2")
    folders = []
    for name, gpu in (("slow", "t4"), ("fast", "l40s")):
        given = {**LONGER, "cluster.gpu": gpu}
        run_study(write_study(tmp_path, text), out=tmp_path / name, settings=given)
        folders.append(str(tmp_path / name))
    page = tmp_path / "compared.html"
    assert compare_main([*folders, "--report", str(page)]) == 0
    told = page.read_text(encoding="utf-8")
    labels = [each["label"] for each in data_of(told)["figures"]]
    assert labels == ["Changes, max_num_seqs 1", "Changes, max_num_seqs 4"]
    assert "<h2>max_num_seqs 4</h2>" in told
    assert f"Before: {folders[0]}. After: {folders[1]}. 2 pairs of points" in told
    assert "TPOT p99: better at 2, worse at 0 of 2 pairs" in data_of(told)["verdict"]["worst"]


def test_compare_says_how_far_requests_agree(tmp_path: Path) -> None:
    base = results(tmp_path, "base")
    faster = results(tmp_path, "faster", workload__arrivals__rate_per_s=10)
    others = results(tmp_path, "others", seed=50)
    ((before, after),) = sides_of(str(base), str(faster))
    assert compare(before, after).pairing == "the same lengths"
    ((before, after),) = sides_of(str(base), str(others))
    found = compare(before, after)
    assert found.pairing == "not paired"
    line = next(line for line in found.lines if line.metric == "tpot_mean_s")
    assert line.difference.low < 0 < line.difference.high
    for each in found.lines:  # what is shown adds up, of percentiles too
        if not math.isnan(each.before + each.after):
            assert each.before + each.difference.value == pytest.approx(each.after), each.metric
    assert found.settings == (("seed", "0", "50"),)
    assert compare(before, before).settings == ()


def test_users_who_wait_are_paired_by_seed(tmp_path: Path) -> None:
    """They ask at other times, in another order, and other requests of theirs are measured."""
    users = {"workload__arrivals": {"process": "closed_loop", "users": 6, "think_s": 0.02}}
    folders = [
        str(results(tmp_path, name, engine__max_num_seqs=seats, **users))
        for name, seats in (("wide", 8), ("tight", 2))
    ]
    ((before, after),) = sides_of(*folders)
    order = [side.requests["request"].tolist() for side in (before, after)]
    assert order[0] != order[1]
    assert compare(before, after).pairing == "the same lengths"


def test_compare_lists_the_settings_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Swept ones as the points have them, mappings in words, and files by their digests."""
    laws = "[{distribution: uniform, min: 2, max: 30}, {distribution: constant, value: 5}]"
    swept = f"workload.lengths.output: {laws}"
    path = write_study(tmp_path, SMALL.replace("engine.max_num_seqs: [1, 4]", swept))
    out = tmp_path / "sweep"
    run_study(path, out=out)
    page = tmp_path / "compared.html"
    assert compare_main([f"{out}:1", f"{out}:2", "--report", str(page)]) == 0
    printed = capsys.readouterr().out
    for line in ("distribution: uniform -> constant", f"min: 2 -> {DASH}", f"value: {DASH} -> 5"):
        assert f"  workload.lengths.output.{line}\n" in printed
    told = page.read_text(encoding="utf-8")
    assert "What was set differently" in told
    assert "workload.lengths.output.distribution" in told
    assert compare_main([f"{out}:1", f"{out}:1"]) == 0
    assert "  no setting differs\n" in capsys.readouterr().out
    assert differing(({"a": "1", "b.c": "2", "b.d": "3"}, {"a": "1", "b": "null"}), ({}, {})) == [
        ("b", "c 2 d 3", "null")
    ]
    digests = ({"file x": "1" * 64, "file y": "2" * 64}, {"file x": "3" * 64})
    assert differing(({}, {}), digests) == [("file x", "1" * 8, "3" * 8)]


def test_compare_points_of_one_folder_and_sweeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    run_study(write_study(tmp_path), out=out)
    pairs = sides_of(str(out), str(out))
    assert [(one.point, two.point) for one, two in pairs] == [(1, 1), (2, 2)]
    capsys.readouterr()
    rules = ["--fail-on", "preemptions > 5%"]
    assert compare_main([f"{out}:1", f"{out}:2", *rules]) == 0
    assert "cannot be told: it was 0 before" in capsys.readouterr().err
    for wrong, message in (
        ([f"{out}:1", f"{out}:7"], "expected a point from 1 to 2"),
        ([str(tmp_path), str(out)], "no results of headroom run in it"),
        ([str(out), str(out), "--fail-on", "ttft_p9_s > 5%"], "did you mean ttft_p9"),
        ([str(out), str(out), "--fail-on", "slow"], "expected e.g."),
        ([str(out), str(out), "--fail-on", "busy_share < -5"], "'busy_share < -0.05' for 5 points"),
        ([str(out), str(out), "--format", "xml"], "--format"),
    ):
        capsys.readouterr()
        assert compare_main(wrong) == 2
        assert message in capsys.readouterr().err
