"""Goodput and the share within the limits of two results: compared under the same limits alone."""

from pathlib import Path

import pytest
from study_files import SMALL, write_study

from experiments.cli.compare import main
from experiments.running.api import run_study
from experiments.running.compared import OF_SLO, compare, sides_of


def results(folder: Path, name: str, slo: str) -> str:
    text = SMALL.replace("[1, 4]", "[4]").replace("seeds: 2", f"{slo}seeds: 1")
    (folder / name).mkdir()
    run_study(write_study(folder / name, text), out=folder / name / "out")
    return str(folder / name / "out")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Results without limits, with one of 500 ms (twice), and with one of 1 ms."""
    folder = tmp_path_factory.mktemp("limits")
    limits = {"none": "", "loose": "slo: {ttft_s: 0.5}\n", "tight": "slo: {ttft_s: 0.001}\n"}
    found = {name: results(folder, name, slo) for name, slo in limits.items()}
    return found | {"again": results(folder, "again", limits["loose"])}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("loose", "again", True), ("loose", "tight", False), ("none", "loose", False),
        ("none", "none", False),
    ],
)  # fmt: skip
def test_what_an_slo_counts_is_compared_where_both_have_it(
    folders: dict[str, str], before: str, after: str, told: bool
) -> None:
    ((one, other),) = sides_of(folders[before], folders[after])
    found = {line.metric for line in compare(one, other).lines}
    assert found.issuperset(OF_SLO) is told
    assert told or found.isdisjoint(OF_SLO)
    assert "ttft_p99_s" in found


def test_it_is_said_that_they_are_left_out(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ["--fail-on", "slo_attainment < -1%"]
    assert main([folders["none"], folders["tight"], *rule]) == 0
    said = capsys.readouterr()
    assert "without goodput and SLO: an slo has to be the same on both sides" in said.out
    assert "goodput/s" not in said.out
    assert "cannot be told: an slo has to be the same on both sides" in said.err
