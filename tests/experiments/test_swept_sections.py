"""What a key replaces: sections of a sweep, pools of one, and keys that are set twice."""

import json
from pathlib import Path

import pytest
from study_files import refused_study, write_study

from experiments.study.document import read_raw
from experiments.study.errors import StudyError
from experiments.study.overrides import given_overrides, parse_overrides
from experiments.study.points import Plan, prepare


def plan_of(folder: Path, sweep: object) -> Plan:
    """Return the plan of the small study with another sweep."""
    return prepare(read_raw(write_study(folder), given_overrides({"sweep": sweep})))


def test_a_point_without_a_swept_section_shows_what_the_study_says_of_it(tmp_path: Path) -> None:
    engine = {"dtype": "float16", "max_num_seqs": 8}
    plan = plan_of(tmp_path, [{"engine": {**engine, "block_size": 8}}, {"cluster.gpu": "l4"}])
    assert [json.loads(point.values["engine"]) for point in plan.points] == [
        {**engine, "block_size": 8}, engine,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "section",
    [
        {"cluster": {"pools": [{"gpu": "l4"}]}},
        {"workload": {"trace": "rows.csv"}},
        {"engine": {"dtype": "float16", "max_num_seqs": 8, "block_size": 8}},
    ],
    ids=["pools for the short form", "a trace for what is drawn", "all of it"],
)
def test_a_section_may_have_what_takes_the_place_of_the_study_s(
    section: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,8,2\n1,8,2\n")
    (point,) = plan_of(tmp_path, [section]).points
    assert list(point.values) == list(section)


def test_pools_of_a_sweep_contradict_only_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        plan_of(tmp_path, {"cluster.pools": [[{"gpu": "l4"}]]})
    (problem,) = error.value.problems
    assert "cluster.gpu: expected it in each pool" in problem.text


def test_pools_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    pools = [{"gpu": "l4"}, {"gpu": "t4", "name": "slow"}]
    found = plan_of(tmp_path, [{"cluster": {"pools": pools}}])
    assert [each.title for each in found.setups] == [
        "pool1: opt-125m on 1 x l4", "pool slow: opt-125m on 1 x t4",
    ]  # fmt: skip


REFUSED = {
    "a section without what the study says": (
        ["sweep=[{engine: {block_size: 8}}]"],
        "engine: without dtype, max_num_seqs, which the study says, expected dotted keys such as "
        "engine.block_size, or all that engine is to be",
    ),
    "a section of a grid": (
        ["sweep={slo: [{tpot_s: 2}]}", "slo.ttft_s=1"],
        "sweeps slo: set sweep",
    ),
    "set twice": (
        ["engine.block_size=8", "engine.block_size=16"],
        "--set engine.block_size=16: --set engine.block_size=8 came before, expected each key once",
    ),
    "set twice in a sweep": (
        ["sweep.engine.block_size=[8]", "sweep.engine.block_size=[16]"],
        "--set sweep.engine.block_size=[8] came before",
    ),
    "set, and then undone": (
        ["engine.block_size=8", "engine={}"],
        "--set engine={}: --set engine.block_size=8 came before, expected each key once",
    ),
    "a section that there is not": (["engin.size=1"], "error: --set: engin: unknown key"),
    "stages of whole batches": (
        ["cluster.pipeline_parallel_size=2", "engine.scheduler=static"],
        "cluster.pipeline_parallel_size = 2 with engine.scheduler: static, expected chunked_",
    ),
}


@pytest.mark.parametrize(("settings", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(
    settings: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (word for setting in settings for word in ("--set", setting))
    assert expected in refused_study(monkeypatch, capsys, tmp_path, *options)


def test_a_setting_may_refine_one_before_it(tmp_path: Path) -> None:
    settings = ["engine={dtype: float16}", "engine.max_num_seqs=2", "sweep={}"]
    (point,) = prepare(read_raw(write_study(tmp_path), parse_overrides(settings))).points
    assert point.study.engine.max_num_seqs == 2
