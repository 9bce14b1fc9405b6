"""The tool that lays vLLM's scheduler beside ours, as far as it goes without vLLM."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cli.witness import main
from experiments.witness import goldens, kept
from experiments.witness.comparison import Tally, blank, compare, differences, name_of, running
from experiments.witness.drawing import draw
from experiments.witness.environment import (
    MARKER,
    Environment,
    NoEnvironmentError,
    open_environment,
    set_up,
)
from experiments.witness.features import FEATURES
from experiments.witness.ours import simulated
from experiments.witness.scenario import Outcome, Scenario
from experiments.witness.table import markdown


def an_environment(folder: Path) -> Path:
    (folder / "releases" / "0.9.1" / "vllm").mkdir(parents=True)
    (folder / "releases" / "0.10.2" / "vllm").mkdir(parents=True)
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / "env" / "bin" / "python").symlink_to(sys.executable)
    (folder / MARKER).write_text(json.dumps({"newest": "0.32.0"}))
    return folder


@pytest.mark.parametrize("feature", FEATURES)
def test_scenarios_are_the_same_again_and_survive_the_way_to_the_driver(feature: str) -> None:
    scenario = draw(feature, 7)
    assert scenario == draw(feature, 7)
    assert Scenario.of(json.loads(json.dumps(scenario.data(7)))) == scenario


def test_what_a_release_lacks_is_not_asked_for() -> None:
    lacks = ["watermark", "scheduler_reserve_full_isl", "long_prefill_token_threshold"]
    drawn = [draw("all", number, lacks) for number in range(40)]
    assert not any(one.watermark or one.scheduler_reserve_full_isl for one in drawn)
    assert not any(one.long_prefill_token_threshold for one in drawn)
    assert any(draw("all", number).watermark for number in range(40))


@pytest.mark.parametrize(
    ("said", "answered"),
    [("asynk", "did you mean async?"), ("qqqq", "docs/witness.md has their names")],
)
def test_a_feature_that_is_not_compared_is_told_the_nearest(
    said: str, answered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--feature", said]) == 2
    told = capsys.readouterr().err
    assert f"argument --feature: {said!r}: no such feature; {answered}" in told
    assert len(told) < 400


def test_differences_are_named_by_column() -> None:
    outcome = simulated(draw("plain", 0), "0.32.0")
    other = Outcome(outcome.first, outcome.finish, outcome.hits, outcome.preemptions, [])
    assert differences(outcome, outcome) == []
    assert differences(outcome, other) == ["steps"]
    later = [None if tick is None else tick + 1 for tick in outcome.finish]
    late = Outcome(outcome.first, later, outcome.hits, outcome.preemptions, outcome.steps)
    assert differences(outcome, late) == ["finish"]


def test_versions_are_sorted_as_numbers(tmp_path: Path) -> None:
    made = open_environment(an_environment(tmp_path))
    assert made.versions() == ["0.9.1", "0.10.2", "0.32.0"]
    with pytest.raises(NoEnvironmentError, match=r"does not hold vLLM 0\.11\.0, expected one of"):
        made.release("0.11.0")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(NoEnvironmentError, match="is not empty, expected a new folder"):
        set_up(tmp_path, "0.32.0", [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_setup_that_failed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], check: bool = False) -> subprocess.CompletedProcess[str]:
        asked.append(command[-2:])
        if command[-2] == "venv":
            (tmp_path / "new" / "env" / "bin").mkdir(parents=True, exist_ok=True)
            (tmp_path / "new" / "env" / "bin" / "python").touch()
        (tmp_path / "new" / "env" / "lib" / "python3.11" / "site-packages").mkdir(
            parents=True, exist_ok=True
        )
        if "install" in command and len([each for each in asked if "venv" in each]) == 1:
            raise subprocess.CalledProcessError(1, command)
        return subprocess.CompletedProcess(command, int("show" in command))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        set_up(tmp_path / "new", "0.32.0", [])
    assert set_up(tmp_path / "new", "0.32.0", []).newest == "0.32.0"
    (named,) = (tmp_path / "new" / "env" / "lib").glob("python3*/site-packages/vllm-*/METADATA")
    assert "Version: 0.32.0+cpu" in named.read_text().splitlines()
    assert [command for command in asked if command[0] == "venv"] == 2 * [
        ["venv", str(tmp_path / "new" / "env")]
    ]


def test_a_release_that_fails_tells_why(tmp_path: Path) -> None:
    made = Environment(an_environment(tmp_path), "0.32.0")
    failed = pytest.raises(RuntimeError, match=r"(?s)vLLM 0\.10\.2 failed:.*Error")
    with failed, running(made, "0.10.2"):
        pass


def test_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["compare"], ["goldens", "0.32.0", "--out", str(tmp_path)], ["table", "here"]):
        assert main(["--folder", str(tmp_path / "none"), *command]) == 2
        assert "expected" in capsys.readouterr().err or command[0] == "table"


def test_the_table_sums_up(tmp_path: Path) -> None:
    for version, different in (("0.9.1", []), ("0.10.2", ["3: hits"])):
        tally = Tally(compared=10, preempted=4, different=different)
        rows = {"priority": tally, "plain": tally, "watermark": Tally(lacks="watermark")}
        kept.write(tmp_path / f"{version}.json", 0, rows)
    overview, heading, table = markdown(tmp_path).split("\n\n")
    assert overview.splitlines()[2:] == [
        "| 0.10.2 | 20 | 8 | 1 | **1** |",
        "| 0.9.1 | 20 | 8 | 0 | **0** |",
    ]
    assert heading == "One group:"
    assert table.splitlines() == [
        "| vLLM | priority | plain |",
        "|---|---|---|",
        "| 0.10.2 | 10 / 4 / 1 (named) | 10 / 4 / 1 |",
        "| 0.9.1 | 10 / 4 / 0 | 10 / 4 / 0 |",
    ]


def test_differences_have_a_name_in_some_releases_only() -> None:
    assert "in the step that it was in" in name_of("0.10.2", "priority")
    assert name_of("0.10.2", "plain") == name_of("0.11.2", "priority") == ""
    assert "loses the token" in name_of("0.29.0", "async, handover, prefix cache")
    assert name_of("0.32.0", "handover") == ""
    assert name_of("0.30.0", "async, handover") == ""
    assert name_of("1.4.0", "async, shared store")


def test_families_of_features_have_tables_of_their_own(tmp_path: Path) -> None:
    found = {"drafts": Tally(compared=3, different=["0: steps"]), "plain": Tally(compared=2)}
    kept.write(tmp_path / "0.32.0.json", 0, found)
    kept.write(tmp_path / "0.29.0.json", 0, {"drafts": Tally(lacks="drafts")})
    parts = markdown(tmp_path).split("\n\n")
    assert parts[0].splitlines()[2:] == [
        "| 0.32.0 | 5 | 0 | 0 | **1** |",
        "| 0.29.0 | 0 | 0 | 0 | **0** |",
    ]
    assert parts[3:] == ["Drafts:", "| vLLM | drafts |\n|---|---|\n| 0.32.0 | 3 / 0 / 1 |"]


class Echo:
    """A release that schedules as we do; of some scenarios it says otherwise."""

    def __init__(self, version: str, lacks: list[str], wrong: set[int]) -> None:
        self.version, self.lacks, self.wrong = version, lacks, wrong
        self.asked = 0

    def serve(self, scenario: Scenario) -> Outcome:
        self.asked += 1
        outcome = simulated(scenario, self.version)
        return replace(outcome, finish=[]) if self.asked - 1 in self.wrong else outcome


def test_what_a_release_does_not_have_is_not_compared() -> None:
    release = Echo("0.17.1", ["watermark", "scheduler_reserve_full_isl"], set())
    assert blank(release, "watermark").lacks == "watermark"
    assert blank(release, "groups, aborts").lacks == "scheduler_reserve_full_isl"
    assert blank(release, "async, handover").lacks == "handover"
    assert blank(release, "host memory").lacks == "host"
    assert not blank(Echo("0.18.1", [], set()), "handover, priority").lacks
    assert blank(release, "all") == blank(release, "plain") == Tally()
    tally = blank(release, "watermark")
    compare(release, "watermark", range(3), tally)
    assert (tally.compared, release.asked) == (0, 0)


def test_a_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out" / "0.32.0.json"
    tally = Tally()
    compare(Echo("0.32.0", [], {1}), "plain", range(2), tally)
    kept.write(path, 0, {"plain": tally})
    found = kept.read(path, 0)
    assert found == {"plain": Tally(compared=2, different=["1: finish"])}
    compare(Echo("0.32.0", [], set()), "plain", range(2, 4), found["plain"])
    assert (found["plain"].compared, found["plain"].different) == (4, ["1: finish"])
    assert kept.read(tmp_path / "none.json", 0) == {}


def test_a_comparison_of_other_code_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "0.32.0.json"
    kept.write(path, 0, {"plain": Tally()})
    with pytest.raises(kept.OtherCodeError, match="with first 0, expected 7: give another --out"):
        kept.read(path, 7)
    path.write_text(path.read_text().replace(kept.digest(), "0" * 64))
    with pytest.raises(kept.OtherCodeError, match="with code_sha256 0000"):
        kept.read(path, 0)


def test_goldens_leave_out_what_differs_by_a_name(tmp_path: Path) -> None:
    every_second = set(range(1, 4000, 2))
    older = Echo("0.30.0", [], every_second)
    path = goldens.write(older, tmp_path, each=2, most=12)
    found = list(goldens.read(path))
    assert not {each.feature for each in found} & {"host memory", "stages"}  # not compared there
    named = [each for each in found if name_of("0.30.0", each.feature)]
    others = [each for each in found if not name_of("0.30.0", each.feature)]
    assert named
    assert all(each.outcome.finish for each in named)
    assert not all(each.outcome.finish for each in others)
