"""Runs whose servers drafted: what their notes say, and what is assumed."""

import pytest

from experiments.validation.drafting import drafted
from experiments.validation.rows import row_of
from experiments.validation.settings import Setup, setup_of
from hardware.gpu import load_gpu
from model.acceptance import measured_acceptance
from tests.experiments.measured_runs import run

GLM = {"model": "zai-org/GLM-5-FP8", "gpu": "H200", "tp": "8", "n_gpus": "8", "precision": "fp8"}


def of_notes(notes: str, **cells: str) -> Setup:
    empty = dict.fromkeys(("max_num_seqs", "max_num_batched_tokens"), "")
    return setup_of(row_of(run("a", **GLM | empty | {"notes": notes} | cells)), 1000)


def test_notes_tell_how_many_drafts_a_server_made() -> None:
    setup = of_notes("tp8; glm5 uses MTP spec-decode k=1", engine_version="0.16.0")
    speculative = setup.engine.speculative
    assert speculative is not None
    assert (speculative.method, speculative.num_speculative_tokens) == ("mtp", 1)
    assert speculative.rates == pytest.approx([0.84])  # GLM-5.2, SPEED-Bench
    told = [note for note in setup.notes if note.startswith("drafts: 1 by MTP")]
    assert len(told) == 1
    assert "1.84 (glm-5.2-fp8)" in told[0]
    assert "as in vLLM 0.30" in told[0]
    # The oldest version whose drafts are modelled, with the memory share of its own.
    assert (setup.engine.version, setup.engine.gpu_memory_utilization) == ("0.30", 0.9)


def test_newer_versions_stay_themselves() -> None:
    assert of_notes("MTP k=2", engine_version="0.31.0").engine.version == "0.31.0"


@pytest.mark.parametrize(
    "notes", ["qwen3.5 uses MTP spec-decode k=1", "MTP layers are not used", ""]
)
def test_notes_of_other_models_or_without_a_number_mean_nothing(notes: str) -> None:
    assert of_notes(notes, engine_version="0.16.0").engine.speculative is None


def test_a_model_without_a_table_has_the_mean_of_all() -> None:
    row = row_of(run("a", model="XiaomiMiMo/MiMo-V2.5", notes="MTP k=1"))
    told: list[str] = []
    settings = drafted(row, "0.31", load_gpu("h200-sxm"), told)
    tables = [each for each in measured_acceptance().values() if each.method == "mtp"]
    mean = sum(each.rates(1)[0] for each in tables) / len(tables)
    assert isinstance(settings["speculative"], dict)
    assert settings["speculative"]["synthetic_acceptance_rates"] == [pytest.approx(mean)]
    assert all(each.model in told[0] for each in tables)
