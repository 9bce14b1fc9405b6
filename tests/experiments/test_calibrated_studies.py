"""Studies priced by a calibration: its device, its range, its notes, draws from its covariance."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_files import SMALL, refused, run_cli, tables_of, write_study

from experiments.reporting.differences import paired_difference
from experiments.reporting.means import crossed_interval
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.reporting.words import calibration_notes
from experiments.running.api import run_study
from experiments.running.sweep import runs_of
from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.points import prepare
from hardware.calibration import Calibration
from hardware.calibration_file import save_calibration
from hardware.evidence import Covariance, CoveredRange, Residuals
from hardware.gpu import Gpu, load_gpu
from sim.caveats import caveats

DEVICE = Gpu(
    name="my card",
    memory_bytes=16 * 2**30,
    bandwidth_bytes_per_s=2e11,
    peak_flops_per_s={"fp16": 2e13},
)
FITTED = Calibration(
    name="bench",
    source="a made-up measurement",
    gpu="my card",
    device=DEVICE,
    gemm_bytes=0.5,
    step_overhead_s=2e-3,
    covariance=Covariance(
        parameters=("gemm_bytes", "step_overhead_s"), matrix=((2.5e-3, 0.0), (0.0, 4e-8))
    ),
    residuals=Residuals(mean_absolute=0.03, worst_absolute=0.1, points=40),
    covered=CoveredRange(max_step_tokens=2048, max_context_tokens=4096, max_decodes=64),
)
BARE = FITTED.model_copy(update={"name": "bare", "covariance": None, "device": None, "gpu": "t4"})


@pytest.fixture(autouse=True)
def _without_drawings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "report" not in request.node.name:
        monkeypatch.setattr("experiments.running.pages.draw", lambda *_: [])


def study(folder: Path, calibration: Calibration | None = FITTED, **keys: object) -> Path:
    """Write the small study and its calibration; ``keys`` are lines of its top level."""
    text = SMALL
    if calibration is None:
        text += "calibration: none\n"
    else:
        save_calibration(calibration, folder / "prices.yaml")
        text += "calibration: prices.yaml\n"
    for key, value in keys.items():
        if f"\n{key}:" in text:
            lines = text.splitlines()
            start = next(n for n, line in enumerate(lines) if line.startswith(f"{key}:"))
            stop = start + 1
            while stop < len(lines) and lines[stop].startswith(" "):
                stop += 1
            text = "\n".join([*lines[:start], *lines[stop:]]) + "\n"
        text += f"{key}: {value}\n"
    return write_study(folder, text)


def notes_of(path: Path) -> list[str]:
    return calibration_notes(prepare(read_raw(path)))


def test_calibrated_gpu_is_the_device_of_the_calibration(tmp_path: Path) -> None:
    path = study(tmp_path, cluster="{gpu: calibrated, gpu_usd_per_hour: 0.5}")
    point = prepare(read_raw(path)).points[0].study
    scenario = scenario_of(point, 0)
    assert scenario.pool.gpu == DEVICE
    assert scenario.pool.ledger.total_bytes == DEVICE.memory_bytes
    assert notes_of(path) == []
    result = run_study(path)
    assert result.summary["usd_per_hour"].tolist() == [0.5, 0.5]


def test_calibrated_gpu_may_be_swept_with_its_calibration(tmp_path: Path) -> None:
    save_calibration(BARE, tmp_path / "bare.yaml")
    sweep = "[{calibration: prices.yaml, cluster.gpu: calibrated}, {calibration: bare.yaml}]"
    plan = prepare(read_raw(study(tmp_path, sweep=sweep)))
    assert [scenario_of(p.study, 0).pool.gpu.name for p in plan.points] == ["my card", "t4"]


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        (None, "calibration none holds none, expected a calibration file with a device"),
        (BARE, "calibration bare holds none, expected the gpu that it was measured on: t4"),
    ],
)
def test_calibrated_gpu_without_a_device_is_refused(
    calibration: Calibration | None,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = study(tmp_path, calibration, cluster="{gpu: calibrated}")
    message = refused(capsys, tmp_path, path, "--out", tmp_path / "out")
    assert "small.yaml:" in message
    assert f"cluster.gpu = 'calibrated' is the device of the calibration, but {expected}" in message


def test_prices_of_another_gpu_are_told(tmp_path: Path) -> None:
    assert notes_of(study(tmp_path)) == [
        "calibration bench: prices measured on my card are applied to t4"
    ]
    assert notes_of(study(tmp_path, BARE)) == []
    alias = BARE.model_copy(update={"gpu": "h100"})
    assert load_gpu("h100").name == "h100-sxm"
    assert notes_of(study(tmp_path, alias, cluster="{gpu: h100-sxm}")) == []
    assert notes_of(study(tmp_path, BARE, cluster="{gpu: {like: t4, usd_per_hour: 9}}")) == [
        "calibration bare: prices measured on t4 are applied to t4-modified"
    ]


def test_poor_calibration_and_tensor_parallel_model_are_told(tmp_path: Path) -> None:
    poor = BARE.model_copy(
        update={"residuals": Residuals(mean_absolute=0.05, worst_absolute=0.3, points=12)}
    )
    swept = study(
        tmp_path, poor, cluster="{gpu: t4}", sweep="{cluster.tensor_parallel_size: [1, 2, 4]}"
    )
    poor_note = (
        "calibration bare is poor: its held-out errors are 5.0% in the mean and 30.0% at worst, "
        "of 12 points; a good one has at most 8% and 25%"
    )
    group = "calibration bare was measured on one device: prices of a group of"
    notes = notes_of(swept)
    assert notes[0] == poor_note
    assert [note[: note.index(" are a model")] for note in notes[1:]] == [
        f"point 2: {group} 2", f"point 3: {group} 4"
    ]  # fmt: skip
    linked = BARE.model_copy(update={"all_reduce_bytes": 0.7})
    assert notes_of(study(tmp_path, linked, cluster="{gpu: t4, tensor_parallel_size: 2}")) == []


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("", "host time is assumed: 1 ms per step and 10 us per sequence (set engine.step_over"),
        (", step_overhead_s: 0", "host time is assumed: 10 us per sequence (set engine.sequence_"),
        (", step_overhead_s: 0, sequence_overhead_s: 0", "host time is what the study gives ("),
    ],
)
def test_note_of_the_datasheet_tells_what_is_assumed(
    engine: str, words: str, tmp_path: Path
) -> None:
    [note] = notes_of(study(tmp_path, None, engine=f"{{dtype: float16, max_num_seqs: 8{engine}}}"))
    assert note.startswith("calibration none: kernels run at the datasheet's peaks, which real")
    assert words in note


NARROW = FITTED.model_copy(
    update={"covered": CoveredRange(max_step_tokens=60, max_context_tokens=70, max_decodes=2)}
)


def test_steps_outside_the_calibration_are_counted(tmp_path: Path) -> None:
    """With one sequence at a time a step has its prompt, or one decode: none is outside."""
    out = tmp_path / "out"
    result = run_study(study(tmp_path, NARROW), out=out)
    one, four = result.summary.to_dict("records")
    assert one["steps_outside_calibration"] == one["share_steps_outside_calibration"] == 0
    assert one["step_decodes_max"] == 1
    assert 0 < four["share_steps_outside_calibration"] < 1
    assert four["step_decodes_max"] == 4
    lengths = result.requests["prompt_tokens"] + result.requests["output_tokens"]
    first = result.requests["point"] == 1
    assert one["requests_outside_calibration"] == (lengths[first] > 70).sum() / 2
    assert one["context_tokens_max"] == lengths[first].groupby(result.requests["seed"]).max().mean()
    text = [row["notes"] for row in (one, four)]
    assert "decoding sequences" not in text[0]
    assert "4 decoding sequences are 2 times the 2 that calibration bench covers" in text[1]
    assert pd.read_csv(out / "summary.csv")["notes"].tolist() == text


def test_covered_run_has_no_such_note_and_the_datasheet_no_counts(tmp_path: Path) -> None:
    covered = run_study(study(tmp_path)).summary
    assert (covered["steps_outside_calibration"] == 0).all()
    assert not covered["notes"].str.contains("extrapolated").any()
    bare = run_study(study(tmp_path, None)).summary
    assert bare["steps_outside_calibration"].isna().all()
    assert not bare["notes"].str.contains("extrapolated").any()


def test_caveat_says_by_how_much_and_how_often() -> None:
    values = {
        "saturated": 0.0, "measured_requests": 1000.0, "unfinished": 0.0, "rejected": 0.0,
        "timed_out": 0.0,
        "step_tokens_max": 240.0, "step_decodes_max": 2.0, "context_tokens_max": 140.0,
        "steps_outside_calibration": 25.0, "share_steps_outside_calibration": 0.125,
        "requests_outside_calibration": 3.0,
    }  # fmt: skip
    assert caveats(values) == []
    assert caveats(values, FITTED) == []
    assert caveats(values, NARROW) == [
        "prices are extrapolated for 25 steps (12.5%) and 3 requests: 240 tokens of a step "
        "are 4 times the 60 that calibration bench covers, 140 tokens of context are 2 times the "
        "70 that calibration bench covers"
    ]


def test_terminal_and_report_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(tmp_path, NARROW, sweep="{engine.max_num_seqs: [1, 4, 8]}")
    assert run_cli(path, "--out", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert shown.count("prices are extrapolated") == 1, "the worst point speaks for all"
    assert "note: point 2: prices are extrapolated for" in shown
    assert "(points 1 to 3, this one most)" in shown
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("prices are extrapolated for") == 1
    assert "prices measured on my card are applied to t4" in page
    assert "prices measured on my card are applied to t4" in shown


DRAWN: dict[str, Any] = {"calibration_draws": 3, "cluster": "{gpu: calibrated}"}


def test_draws_are_run_with_every_seed_and_shared_by_the_points(tmp_path: Path) -> None:
    plan = prepare(read_raw(study(tmp_path, **DRAWN)))
    runs = runs_of(plan, tmp_path)
    assert plan.runs == len(runs) == 2 * 3 * 2
    assert [(run.point, run.draw, run.seed) for run in runs[:7]] == [
        (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), (1, 2, 0), (1, 2, 1), (2, 0, 0)
    ]  # fmt: skip
    assert runs[1].label.endswith("draw 0, seed 1")
    assert len({run.path for run in runs}) == len(runs)
    prices = [scenario_of(run.study, run.seed, run.draw).pool.calibration for run in runs]
    assert prices[0] == prices[1] == prices[6]
    assert len({one.gemm_bytes for one in prices}) == 3
    assert FITTED.gemm_bytes not in {one.gemm_bytes for one in prices}
    more = prepare(read_raw(study(tmp_path, **{**DRAWN, "calibration_draws": 4})))
    assert {run.path for run in runs} < {run.path for run in runs_of(more, tmp_path)}
    other = prepare(read_raw(study(tmp_path, **DRAWN, seed=100)))
    assert not {run.path for run in runs} & {run.path for run in runs_of(other, tmp_path)}


def test_draws_in_the_tables_whatever_the_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(tmp_path, **DRAWN)
    assert run_cli(path, "--out", tmp_path / "one") == 0
    shown = capsys.readouterr().out
    assert "3 drawn calibrations with 2 seeds, ± or (low" in shown
    assert "is a 95% interval, prices included)" in shown
    assert "every seed is run with 3 calibrations drawn from the fit's covariance" in shown
    assert run_cli(path, "--out", tmp_path / "two", "--jobs", 2) == 0
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "two")
    runs = pd.read_csv(tmp_path / "one" / "runs.csv")
    assert list(runs)[:4] == ["point", "engine.max_num_seqs", "draw", "seed"]
    assert runs["draw"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    requests = pd.read_parquet(tmp_path / "one" / "requests.parquet")
    assert list(requests)[:3] == ["point", "draw", "seed"]
    assert len(requests.groupby(["point", "draw", "seed"])) == 12
    summary = pd.read_csv(tmp_path / "one" / "summary.csv")
    assert summary["draws"].tolist() == [3, 3]
    assert summary["seeds"].tolist() == [2, 2]
    assert summary["tpot_p50_s_lo"].notna().all()
    # The folder's own study.yaml gives the same tables.
    again = tmp_path / "again"
    assert run_cli(tmp_path / "one" / "study.yaml", "--out", again) == 0
    assert tables_of(tmp_path / "one") == tables_of(again)


def test_report_says_what_its_intervals_hold(tmp_path: Path) -> None:
    run_study(study(tmp_path, **{**DRAWN, "calibration_draws": 2}), out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 drawn calibrations with 2 seeds each a point" in page
    assert "intervals hold the uncertainty of prices and that of the traffic." in page


def test_draws_of_a_study_without_randomness_give_the_interval_of_prices(tmp_path: Path) -> None:
    workload = (
        "{arrivals: {process: deterministic, rate_per_s: 5}, num_requests: 10, lengths: {prompt: "
        "{distribution: constant, value: 9}, output: {distribution: constant, value: 5}}}"
    )
    summary = run_study(study(tmp_path, **DRAWN, workload=workload)).summary
    assert summary["seeds"].tolist() == [1, 1]
    assert summary["draws"].tolist() == [3, 3]
    assert (summary["tpot_mean_s_lo"] < summary["tpot_mean_s_hi"]).all()
    noted = prepare(read_raw(study(tmp_path, **DRAWN, seeds=1)))
    assert noted.notes == (
        "one seed: intervals hold the uncertainty of prices, not that of the traffic",
    )


def test_draws_need_a_covariance_and_more_than_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for calibration, name in ((None, "none"), (BARE, "bare")):
        path = study(tmp_path, calibration, calibration_draws=4)
        message = refused(capsys, tmp_path, path, "--out", tmp_path / "out")
        assert f"calibration = {name!r} has no covariance to draw from, expected one" in message
    path = study(tmp_path, calibration_draws=1)
    message = refused(capsys, tmp_path, path, "--out", tmp_path / "out")
    assert "calibration_draws = 1: expected 0 or at least 2" in message
    path = study(tmp_path, sweep="{calibration_draws: [2, 4]}")
    assert "cannot be swept" in refused(capsys, tmp_path, path, "--out", tmp_path / "out")


def misses(prices: float, traffic: float, both: float, draws: int, seeds: int) -> float:
    """Share of intervals that miss the truth, in a world where all standard deviations are known.

    The truth is 0. The fit is off by an error of which the draws are further examples; seeds
    move all draws alike, or each its own way (``both``).
    """
    rng = np.random.default_rng(3)
    count, missed = 1500, 0
    for _ in range(count):
        table = (
            prices * rng.normal(size=(draws, 1))
            + traffic * rng.normal(size=(1, seeds))
            + both * rng.normal(size=(draws, seeds))
            + prices * rng.normal()
        )
        _, low, high = crossed_interval(table.tolist())
        missed += not low <= 0 <= high
    return missed / count


@pytest.mark.parametrize(
    ("prices", "traffic", "both", "seeds", "most"),
    [(1, 0, 0, 1, 0.07), (1, 0, 0, 4, 0.07), (0.001, 1, 0, 4, 0.07), (1, 1.5, 0, 4, 0.07),
     (1, 1, 0.3, 4, 0.07), (0.2, 0.2, 1, 4, 0.05)],
)  # fmt: skip
def test_interval_holds_the_truth(
    prices: float, traffic: float, both: float, seeds: int, most: float
) -> None:
    """5% of the intervals miss; fewer where draws and seeds interact, as documented."""
    missed = misses(prices, traffic, both, 5, seeds)
    assert missed <= most
    assert both or missed >= 0.035


def test_interval_of_known_parts() -> None:
    """Draw means 9, 10, 11 and seed means 9, 11: both parts of the variance by hand."""
    from scipy import stats

    values = [[8.0, 10.0], [9.0, 11.0], [10.0, 12.0]]
    prices, traffic = 1.0 * (1 + 1 / 3), 2.0 / 2
    freedom = (prices + traffic) ** 2 / (prices**2 / 2 + traffic**2 / 1)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(prices + traffic)
    assert crossed_interval(values) == pytest.approx((10, 10 - half, 10 + half))
    # More draws of the same spread do not shrink it, as they would a standard error.
    wide = crossed_interval([[9.0], [11.0]] * 50)
    assert wide[2] - wide[1] > 3.9


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[2.0], [2.0]], [[1.0, 2.0], [2.0, 1.0]]])
def test_no_interval_without_knowledge_of_draws(values: list[list[float]]) -> None:
    mean, low, high = crossed_interval(values)
    assert mean == np.mean(values)
    assert math.isnan(low)
    assert math.isnan(high)


def drawn_runs() -> pd.DataFrame:
    """Two points; draws move both by the same factor, so that their difference hardly varies."""
    rows = [
        {"k": k, "draw": draw, "seed": seed, "ttft_p50_s": 10 * draw + seed + k + 0.01 * k * draw}
        for k in (0, 1)
        for draw in range(3)
        for seed in range(2)
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_by_draw_and_seed() -> None:
    table = paired_difference(Records.of_frame(drawn_runs()), ["k"], "ttft_p50_s", {"k": 0})
    base, other = table.rows()
    assert base["difference"] == 0
    assert other["seeds"] == 2
    assert 0.9 < other["difference_lo"] < 1.01 < other["difference_hi"] < 1.1
    summary = summarise_points(Records.of_frame(drawn_runs()), ["k"], ["ttft_p50_s"]).frame()
    assert (summary["ttft_p50_s_hi"] - summary["ttft_p50_s_lo"]).min() > 40


def test_draws_with_different_seeds_are_refused() -> None:
    runs = drawn_runs()
    with pytest.raises(ValueError, match=r"draw 2 has seeds \['0'\], expected \[0, 1\]"):
        summarise_points(Records.of_frame(runs[:5]), ["k"], ["ttft_p50_s"])
    with pytest.raises(ValueError, match="seed 0 occurs twice in point"):
        summarise_points(Records.of_frame(pd.concat([runs, runs])), ["k"], ["ttft_p50_s"])
    with pytest.raises(ValueError, match=r"values has rows of \[2, 1\]"):
        crossed_interval([[1.0, 2.0], [1.0]])
    with pytest.raises(ValueError, match=r"values has rows of \[\]"):
        crossed_interval([])
