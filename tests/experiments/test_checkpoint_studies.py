"""Studies of checkpoints on disk: what is taken from their files, told, and refused."""

import json
from pathlib import Path

import pytest
from study_files import SMALL, run_cli, write_study

from experiments.reporting.words import calibration_notes
from experiments.running.api import run_study
from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.points import prepare
from experiments.texts.models import wide_spec

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 1024,
    "max_position_embeddings": 1024,
    "rope_scaling": {"type": "linear", "factor": 2.0},
}
FP8 = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
LINEAR = 4 * (4 * 512 * 512 + 3 * 512 * 1024)


def checkpoint(folder: Path) -> Path:
    place = folder / "models--some-org--Tiny-8M" / "snapshots" / "0a1b2c"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "hf_quant_config.json").write_text(json.dumps(FP8))
    return place


def study(folder: Path, text: str = SMALL) -> Path:
    place = checkpoint(folder)
    text = text.replace("model: opt-125m", f"model: {place}").replace("gpu: t4", "gpu: l4")
    return write_study(folder, text.replace("dtype: float16", "dtype: auto"))


def test_a_study_says_what_it_took_from_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(study(tmp_path), "--dry-run") == 0
    output = capsys.readouterr().out
    assert "Tiny-8M, fp8, from hf_quant_config.json" in output
    assert "KiB each, fp8" in output or "MiB each, fp8" in output


def test_a_changed_file_beside_the_config_is_read_again(tmp_path: Path) -> None:
    path = study(tmp_path)
    point = prepare(read_raw(path)).points[0].study
    first = scenario_of(point, 0).pool
    scales = 4 * 4 * 7
    assert first.max_model_len == 2048
    assert first.precision.kv_bytes == 1.0
    beside = next(tmp_path.rglob("hf_quant_config.json"))
    beside.unlink()
    second = scenario_of(point, 0).pool
    assert second.ledger.weights_bytes - first.ledger.weights_bytes == LINEAR - scales
    assert second.precision.kv_bytes == 2.0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("engine.quantization=awq", "'awq' contradicts the checkpoint: Tiny-8M is fp8, from hf_q"),
        ("engine.max_model_len=2049", "2049 is longer than Tiny-8M allows, expected at most 2048"),
        ("engine.quantization=aqlm", "engine.quantization = aqlm: not modelled, expected"),
        ("engine.quantization=torchao", "'torchao' contradicts the checkpoint: Tiny-8M is fp8"),
        ("engine.kv_cache_dtype=nvfp4", "engine.kv_cache_dtype = nvfp4: not modelled, expected"),
        ("model=./Tiny-8M", "no such file or folder"),
        ("cluster.gpu=h700", "'h700' is not in the catalogue"),
    ],
)
def test_what_contradicts_the_checkpoint_is_one_clear_error(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(study(tmp_path), "--dry-run", "--set", option) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --set: ")
    assert message in error


def test_a_gpu_without_a_price_has_no_costs_and_says_so(tmp_path: Path) -> None:
    path = write_study(tmp_path, SMALL.replace("gpu: t4", "gpu: l20"))
    result = run_study(path)
    assert result.summary["usd_per_hour"].isna().all()
    assert result.summary["usd_per_million_output_tokens"].isna().all()
    note = "gpu l20 has no price, so costs are empty (set cluster.gpu_usd_per_hour)"
    assert note in calibration_notes(prepare(read_raw(path)))


def test_tables_of_16_bits_refuse_quantized_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is quantized \(fp8, from hf_quant_config.json\)"):
        wide_spec(str(checkpoint(tmp_path)))
