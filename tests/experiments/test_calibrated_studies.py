"""Studies priced by a calibration: its device, its range, its notes, draws from its covariance."""

from pathlib import Path

import pandas as pd
import pytest
from study_files import SMALL, refused, run_cli, write_study

from experiments.reporting.words import calibration_notes
from experiments.running.api import run_study
from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.points import prepare
from hardware.calibration import Calibration
from hardware.calibration_file import save_calibration
from hardware.evidence import Covariance, CoveredRange, Residuals
from hardware.gpu import Gpu, load_gpu
from sim.measuring.caveats import caveats

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
