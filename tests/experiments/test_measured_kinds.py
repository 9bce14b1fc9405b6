"""Studies that run a real decoder, and ``experiments.calibrate``, on a tiny model for a second."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")

from experiments.calibrating import measure
from experiments.cli import calibrate, run
from experiments.reporting.page.base import data_of
from hardware.calibration import load_calibration

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 100, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": True,
}  # fmt: skip
MEASURING = "measuring: {budget_s: 1.5, max_decodes: 4, max_context_tokens: 60, max_tokens: 64}\n"
SERVING = (
    "kind: decoder_vs_simulation\nmodel: tiny.json\nthreads: 1\n"
    + MEASURING
    + """
engine: {max_num_seqs: 4, max_num_batched_tokens: 64, max_model_len: 60, num_gpu_blocks: 40}
schedulers: [prefill_first, chunked_prefill]
loads: [0.5]
workload:
  arrivals: {process: poisson, rate_per_s: 1}
  lengths:
    prompt: {distribution: uniform, min: 4, max: 30}
    output: {distribution: uniform, min: 2, max: 8}
  num_requests: 30
"""
)
CACHING = (
    "kind: kv_cache_latency\nmodel: tiny.json\nthreads: 1\n"
    + MEASURING
    + "prompt_tokens: [5, 40]\noutput_tokens: 10\nrepeats: 1\n"
)


@pytest.fixture(scope="module", autouse=True)
def _a_small_probe() -> Iterator[None]:
    """Peaks of the device, which only anchor what is fitted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "PROBED_ROWS", 256)
        patch.setattr(measure, "PROBED_BYTES", 2**22)
        yield


def written(folder: Path) -> Path:
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    (folder / "serving.yaml").write_text(SERVING)
    (folder / "caching.yaml").write_text(CACHING)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The results of generation with and without a cache, and what was printed."""
    folder = written(tmp_path_factory.mktemp("generated"))
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert run.main([str(folder / "caching.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out", printed.getvalue()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


COMMON = {"study.yaml", "manifest.json", "calibration.yaml", "calibration.png", "report.html"}


def test_real_serving_is_laid_beside_its_simulation(folder: Path, capsys) -> None:
    out = folder / "out"
    assert run.main([str(folder / "serving.yaml"), "--out", str(out)]) == 0
    assert names(out) == COMMON | {"comparison.csv", "distributions.png"}
    told = data_of((out / "report.html").read_text(encoding="utf-8"))
    assert "of the real engine" in told["verdict"]["text"]
    assert {figure["kind"] for figure in told["figures"]} == {"bars", "lines"}
    table = pd.read_csv(out / "comparison.csv")
    assert set(table["scheduler"]) == {"prefill_first", "chunked_prefill"}
    assert {"ttft_mean_s", "tpot_p95_s", "itl_mean_s", "e2e_p50_s", "mean_batch_size"} < set(
        table["metric"]
    )
    assert (table[["real", "real_again", "simulated"]] > 0).all().all()
    expected = table["simulated"] / ((table["real"] + table["real_again"]) / 2) - 1
    assert table["error"].to_numpy() == pytest.approx(expected.to_numpy())
    printed = capsys.readouterr()
    assert "TTFT" in printed.out.upper()
    assert "held-out error: mean" in printed.err
    assert load_calibration(out / "calibration.yaml").device is not None


def test_generation_with_and_without_cache(generated: tuple[Path, str]) -> None:
    out, printed = generated
    assert names(out) == COMMON | {"latency.csv", "latency.png"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "times as fast" in data_of(page)["verdict"]["text"]
    residuals = load_calibration(out / "calibration.yaml").residuals
    assert residuals is not None
    assert ("POOR FIT: do not rely on it; held-out error" in page) is residuals.poor
    table = pd.read_csv(out / "latency.csv")
    assert table[["prompt_tokens", "output_tokens"]].to_numpy().tolist() == [
        [5, 1], [5, 8], [5, 10], [40, 1], [40, 8], [40, 10],
    ]  # fmt: skip
    assert "speed-up" in printed


def test_the_resolved_study_can_be_run_again(
    generated: tuple[Path, str], tmp_path: Path, capsys
) -> None:
    out = shutil.copytree(generated[0], tmp_path / "out")
    assert run.main([str(out / "study.yaml"), "--dry-run"]) == 0
    measured = (out / "latency.csv").read_bytes()
    assert run.main([str(out / "study.yaml"), "--out", str(out)]) == 2
    assert "holds earlier results, which new ones would not equal" in capsys.readouterr().err
    assert (out / "latency.csv").read_bytes() == measured
    (out / "notes.md").write_text("mine")
    assert run.main([str(out / "study.yaml"), "--out", str(out), "--overwrite"]) == 0
    assert names(out) == COMMON | {"latency.csv", "latency.png", "notes.md"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["kind=decoder_vs_simulaton"], "did you mean decoder_vs_simulation"),
        (["device=gpu0"], "device 'gpu0' is unknown, expected cpu or cuda"),
        (["device=cuda"], "this machine has no CUDA device"),
        (["model=no-such-model"], "no-such-model"),
        (["engine.max_num_seq=3"], "did you mean max_num_seqs"),
        (["loads=[-1]"], "loads[0] = -1"),
        (["engine.num_gpu_blocks=0"], "engine.num_gpu_blocks = 0"),
        (["schedulers=[lifo]"], "schedulers[0] = lifo"),
    ],
)
def test_mistakes_end_in_one_message_and_no_folder(
    folder: Path, capsys, settings: list[str], message: str
) -> None:
    if settings == ["device=cuda"] and __import__("torch").cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    options = [option for setting in settings for option in ("--set", setting)]
    out = folder / "out"
    assert run.main([str(folder / "serving.yaml"), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_calibrate_writes_a_file_and_a_picture(folder: Path, capsys) -> None:
    out = folder / "tiny.yaml"
    options = ["--model", str(folder / "tiny.json"), "--budget-s", "1.5", "--max-decodes", "4"]
    limits = ["--max-context-tokens", "60", "--max-tokens", "64", "--threads", "1"]
    assert calibrate.main([*options, *limits, "--out", str(out)]) == 0
    assert "held-out error" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000
    calibration = load_calibration(out)
    assert calibration.covered is not None
    assert calibration.covered.max_decodes == 4
    assert calibration.covariance is not None
    assert "1 layers" in calibration.source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.txt"], "expected a name that ends in .yaml"),
        (["--out", "/no/such/folder/x.yaml"], "its folder does not exist"),
        (
            ["--out", "x.yaml", "--budget-s", "-1"],
            "--budget-s: '-1', expected seconds: more than 0",
        ),
        (["--out", "x.yaml", "--gpu", "h1000"], "h1000"),
    ],
)
def test_calibrate_refuses(folder: Path, capsys, options: list[str], message: str) -> None:
    model = ["--model", str(folder / "tiny.json")]
    assert calibrate.main([*model, *options]) == 2
    assert message in capsys.readouterr().err
