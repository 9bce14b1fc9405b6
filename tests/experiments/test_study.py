"""Reading a study: YAML, defaults, ``--set``, paths, and the way back from study.yaml."""

import json
from pathlib import Path

import pytest
from study_files import SMALL, run_cli, tables_of, write_study

from experiments import load_study, run_study
from experiments.cli.kinds import check_other
from experiments.study.build import scenario_of
from experiments.study.bundled import bundled_studies
from experiments.study.document import Study, from_study, read_raw
from experiments.study.errors import MAX_SHOWN, Problem, StudyError
from experiments.study.kinds import kind_of
from experiments.study.overrides import parse_overrides
from experiments.study.points import prepare
from experiments.study.schema import all_keys, choices_at, keys_at
from experiments.study.yaml_source import parse_yaml


def test_yaml_is_read_as_version_1_2_with_lines() -> None:
    document = parse_yaml("a: 989e12\nb: [no, 12:30:00,\n    2024-01-01]\nc: {d: 0o17}\n", "x")
    assert document.data == {
        "a": 989e12, "b": ["no", "12:30:00", "2024-01-01"], "c": {"d": 15},
    }  # fmt: skip
    assert document.lines[("b", 2)] == 3
    assert document.where(("c", "d", "unwritten")) == "x:4"
    assert document.where(("unwritten",)) == "x"


def test_yaml_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(StudyError, match="x: not valid YAML"):
        parse_yaml("[" * 1000, "x")


def test_defaults_are_written_out_and_read_back(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path))
    resolved = study.resolved()
    assert resolved["engine"]["block_size"] == 16
    assert resolved["calibration"] == "vllm-0.23"
    engine = resolved["engine"]
    # What the file says, and what vLLM 0.33 does on a T4.
    assert (engine["version"], engine["max_num_seqs"]) == ("0.33", 8)
    assert (engine["max_num_batched_tokens"], engine["gpu_memory_utilization"]) == (2048, 0.92)
    assert (engine["enable_prefix_caching"], engine["async_scheduling"]) == (True, True)
    assert (study.warmup_share, resolved["seeds"]) == (0.1, 2)
    assert Study.model_validate(resolved) == study


@pytest.mark.parametrize(
    ("file", "name"),
    [("my study.yaml", "my_study"), ("größe 数 2.yaml", "gr_e_2"), (".hidden.yaml", "hidden"),
     ("数.yaml", "study")],
)  # fmt: skip
def test_other_signs_of_a_file_are_underscores_of_its_name(
    tmp_path: Path, file: str, name: str
) -> None:
    text = "\n".join(line for line in SMALL.splitlines() if not line.startswith("name:"))
    assert load_study(write_study(tmp_path, text, file)).name == name


def test_name_defaults_to_that_of_the_file(tmp_path: Path) -> None:
    path = write_study(tmp_path, SMALL.replace("name: small\n", ""), "night_shift.yaml")
    assert load_study(path).name == "night_shift"


def test_running_the_resolved_study_reproduces_the_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_cli(write_study(tmp_path), "--out", first) == 0
    assert run_cli(first / "study.yaml", "--out", second) == 0
    assert tables_of(first) == tables_of(second)


def test_set_wins_over_the_file_and_stops_the_sweep_of_its_key(tmp_path: Path) -> None:
    overrides = parse_overrides(["engine.max_num_seqs=2", "slo.ttft_s=0.5", "seeds=1"])
    plan = prepare(read_raw(write_study(tmp_path), overrides))
    assert [point.study.engine.max_num_seqs for point in plan.points] == [2]
    assert plan.study.slo is not None
    assert plan.study.slo.ttft_s == 0.5
    assert plan.notes == ("engine.max_num_seqs is set, so it is not swept",)


def test_set_of_the_sweep(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert load_study(path, {"sweep": {}}).sweep == {}
    one_key = load_study(path, {"sweep.engine.block_size": [8, 16]})
    assert one_key.sweep == {"engine.max_num_seqs": [1, 4], "engine.block_size": [8, 16]}


def test_set_takes_its_key_out_of_a_list_of_points(tmp_path: Path) -> None:
    points = "  - {engine.block_size: 8, engine.max_num_seqs: 1}\n"
    points += "  - {engine.block_size: 8, engine.max_num_seqs: 4}\n"
    points += "  - {engine.block_size: 16, engine.max_num_seqs: 4}\n"
    path = write_study(tmp_path, SMALL.replace("  engine.max_num_seqs: [1, 4]\n", points))
    study = load_study(path, {"engine.max_num_seqs": 2})
    assert study.sweep == [{"engine.block_size": 8}, {"engine.block_size": 16}]
    both = load_study(path, {"engine.max_num_seqs": 2, "engine.block_size": 32})
    assert both.sweep == {}


def test_a_list_of_points_cannot_be_extended_by_a_key(tmp_path: Path) -> None:
    points = "  - {engine.max_num_seqs: 1}\n  - {engine.max_num_seqs: 4}\n"
    path = write_study(tmp_path, SMALL.replace("  engine.max_num_seqs: [1, 4]\n", points))
    with pytest.raises(
        StudyError,
        match=r"--set sweep\.engine\.block_size=.*: the study's sweep is a list of points, which "
        "cannot be extended by a key",
    ):
        load_study(path, {"sweep.engine.block_size": [16, 32]})
    whole = {"sweep": [{"engine.block_size": 16}]}
    assert load_study(path, whole).sweep == whole["sweep"]


def test_set_below_a_swept_section_is_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, SMALL.replace("engine.max_num_seqs: [1, 4]", "engine: [{}]"))
    with pytest.raises(StudyError, match=r"the study sweeps engine: set sweep as well"):
        load_study(path, {"engine.block_size": 8})


TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02}.0000000,{50 + second},{5 + second}\n" for second in range(12)
)


def test_trace_replaces_the_synthetic_workload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = "  workload.arrivals.rate_per_s: [1, 2]\n"
    path = write_study(tmp_path, SMALL + sweep)
    (tmp_path / "trace.csv").write_text(TRACE)
    monkeypatch.chdir(tmp_path)
    overrides = parse_overrides(["workload.trace=trace.csv", "workload.limit=10"])
    plan = prepare(read_raw(path, overrides))
    workload = plan.study.workload
    assert (workload.trace, workload.limit) == (str(tmp_path / "trace.csv"), 10)
    assert plan.keys == ("engine.max_num_seqs",)
    assert plan.notes == (
        "the trace replaces workload.arrivals, workload.lengths, workload.num_requests of the "
        "study",
        "workload.arrivals.rate_per_s is not swept: the trace replaces it",
        "trace.csv: format azure (CSV), 12 requests over 11 s (1 per second); mean prompt 55.5 and "
        "output 10.5 tokens; times read as dates; replayed: 10 of them over 9 s",
        "measured is from the first request on, when the engine is still empty; warmup_s leaves a "
        "beginning out",
        "nothing is random: one seed is run instead of 2",
    )


def test_trace_with_a_sweep_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    settings = {
        "workload.trace": str(tmp_path / "trace.csv"),
        "sweep": {"workload.rate_scale": [1, 2]},
    }
    plan = prepare(from_study(load_study("arrival_rate", settings)))
    assert [point.study.workload.rate_scale for point in plan.points] == [1, 2]


def test_paths_of_a_file_are_relative_to_it_and_those_of_set_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "trace.csv").write_text(TRACE)
    monkeypatch.chdir(here)
    text = "model: opt-125m\ncluster: {gpu: t4}\nengine: {dtype: float16}\n"
    path = write_study(there, text + "workload: {trace: trace.csv}\n")
    assert load_study(path).workload.trace == str(there / "trace.csv")
    changed = load_study(path, {"workload.trace": "trace.csv"})
    assert changed.workload.trace == str(here / "trace.csv")
    swept = load_study(path, {"sweep": {"workload.trace": ["trace.csv"]}})
    assert swept.sweep == {"workload.trace": [str(here / "trace.csv")]}


def test_model_by_path(tmp_path: Path) -> None:
    from model.spec import CATALOGUE

    config = json.loads((CATALOGUE / "opt-125m.json").read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    path = write_study(tmp_path, SMALL.replace("opt-125m", "./mine"))
    assert load_study(path).model == str(tmp_path / "mine")


def test_a_bare_folder_beside_the_study_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.spec import CATALOGUE

    config = (CATALOGUE / "opt-125m.json").read_text()
    for name in ("mine", "opt-125m"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write_study(tmp_path, SMALL.replace("model: opt-125m", "model: mine"))
    assert load_study(path).model == str(tmp_path / "mine")
    out = tmp_path / "out"
    assert run_cli(path, "--out", out) == 0
    assert f"model: {tmp_path / 'mine'}\n" in (out / "study.yaml").read_text()
    swept = load_study(path, {"sweep": {"model": ["../mine", "opt-125m"]}})
    assert swept.sweep == {"model": [str(tmp_path / "mine"), "opt-125m"]}
    # A name of the catalogue stays one, whatever lies beside the study.
    assert load_study(write_study(tmp_path)).model == "opt-125m"


def test_a_bare_calibration_beside_the_study_is_a_path(tmp_path: Path) -> None:
    from hardware.calibration import DATASHEET
    from hardware.calibration_file import save_calibration

    save_calibration(DATASHEET.model_copy(update={"name": "mine"}), tmp_path / "mine")
    path = write_study(tmp_path, SMALL + "calibration: mine\n")
    assert load_study(path).calibration == str(tmp_path / "mine")


def test_an_edited_config_of_a_folder_is_read_again(tmp_path: Path) -> None:
    from model.spec import CATALOGUE

    config = json.loads((CATALOGUE / "opt-125m.json").read_text())
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "config.json"
    file.write_text(json.dumps(config))
    study = load_study(write_study(tmp_path, SMALL.replace("model: opt-125m", "model: mine")))
    assert scenario_of(study, 0).spec.num_layers == 12
    file.write_text(json.dumps(config | {"num_hidden_layers": 6}))
    assert scenario_of(study, 0).spec.num_layers == 6


def test_study_made_in_python(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path)).model_copy(update={"seeds": 1})
    assert prepare(from_study(study)).runs == 2
    with pytest.raises(ValueError, match="settings apply to a study file"):
        run_study(study, settings={"seeds": 2})
    with pytest.raises(ValueError, match="jobs = 0, expected a whole number of at least 1"):
        run_study(study, jobs=0)


@pytest.mark.parametrize("name", bundled_studies())
def test_bundled_studies_are_valid_described_and_commented(name: str) -> None:
    loaded = read_raw(f"{name}.yaml")
    study = load_study(name) if kind_of(loaded) == "serving" else check_other(loaded)
    assert study.name == name
    assert study.description
    comments = [line for line in bundled_studies()[name].read_text().splitlines() if "#" in line]
    assert len(comments) >= 5


def test_a_study_on_the_wall_clock_is_not_simulated() -> None:
    with pytest.raises(StudyError, match="is of kind kv_cache_latency, expected serving"):
        load_study("kv_cache_latency")


def test_many_problems_are_counted() -> None:
    error = StudyError(Problem(f"f:{line}", "wrong") for line in range(MAX_SHOWN + 5))
    assert str(error).startswith(f"{MAX_SHOWN + 5} problems\n  f:0: wrong\n")
    assert str(error).endswith("... and 5 more")


def test_schema_follows_the_choices_of_the_data() -> None:
    data = {"workload": {"arrivals": {"process": "closed_loop"}}}
    assert "users" in keys_at(Study, ("workload", "arrivals"), data)
    assert "rate_per_s" not in keys_at(Study, ("workload", "arrivals"), data)
    assert "gamma" in choices_at(Study, ("workload", "arrivals", "process"), {})
    assert {"engine.block_size", "workload.arrivals.users"} <= set(all_keys(Study, data))
