"""What the prices of several pools rest on, in words."""

from pathlib import Path

from test_pool_studies import plan_of

from experiments.reporting.words import calibration_notes


def test_what_holds_for_all_pools_names_none(tmp_path: Path) -> None:
    told = calibration_notes(plan_of(tmp_path))
    assert sum(text.startswith("vLLM") for text in told) == 1
    (of_fast,) = [text for text in told if "applied to t4" in text]
    assert of_fast.startswith("pool fast: calibration")
