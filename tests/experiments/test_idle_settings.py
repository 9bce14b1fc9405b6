"""Settings without effect: a note where they are written, an error where they are swept."""

from pathlib import Path

import pytest
from study_files import SMALL, refused, run_cli, write_study

from experiments import load_study
from experiments.study.document import from_study, read_raw
from experiments.study.errors import StudyError
from experiments.study.overrides import parse_overrides
from experiments.study.points import Plan, prepare

IDLE = {
    "workload.priorities={0: 1, 1: 2}": (
        "workload.priorities has no effect with engine.order: fcfs",
        "engine.order=priority",
    ),
    "engine.batch_timeout_s=0.5": (
        "engine.batch_timeout_s has no effect with engine.scheduler: chunked_prefill",
        "engine.scheduler=static",
    ),
    "engine.long_prefill_token_threshold=64": (
        "engine.long_prefill_token_threshold has no effect with engine.scheduler: static",
        "engine.scheduler=chunked_prefill",
    ),
    "engine.scheduler_reserve_full_isl=true": (
        "engine.scheduler_reserve_full_isl has no effect with engine.scheduler: static",
        "engine.scheduler=chunked_prefill",
    ),
    "engine.host_link={bytes_per_s: 1.0e+9}": (
        "engine.host_link has no effect with engine.kv_offloading_size: null",
        "engine.kv_offloading_size=1",
    ),
    "slo={ttft_p99_s: 1, attainment: 0.9}": (
        "slo.attainment has no effect with slo: ttft_p99_s",
        "slo.tpot_s=1",
    ),
    "cluster.router=random": (
        "cluster.router has no effect with cluster.replicas: 1",
        "cluster.replicas=2",
    ),
}


def plan_of(folder: Path, *texts: str) -> Plan:
    return prepare(read_raw(write_study(folder), parse_overrides(texts)))


@pytest.mark.parametrize(("setting", "told"), IDLE.items())
def test_what_has_no_effect_is_told(setting: str, told: tuple[str, str], tmp_path: Path) -> None:
    note, remedy = told
    start = ("engine.scheduler=static",) if "static" in note else ()
    assert note in plan_of(tmp_path, *start, setting).notes
    assert not [one for one in plan_of(tmp_path, setting, remedy).notes if "no effect" in one]


def test_keys_of_tiers_and_of_ranks_that_are_not_there(tmp_path: Path) -> None:
    config, backend = "engine.kv_connector_extra_config", "engine.all2all_backend"
    settings = (f"{config}.eviction_policy=arc", f"{backend}=deepep_low_latency")
    told = [note for note in plan_of(tmp_path, *settings).notes if "no effect" in note]
    assert told == [
        f"{config} has no effect with engine.kv_offloading_size: null",
        f"{backend} has no effect with cluster.data_parallel_size: 1",
    ]
    store = "cluster.kv_store={size_gib: 1, bandwidth_gb_s: 1}"
    plan = plan_of(tmp_path, f"{config}.blocks_per_chunk=2", store)
    assert not [note for note in plan.notes if "no effect" in note]


def test_a_resolved_study_is_not_blamed_for_its_defaults(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path))
    assert not [note for note in prepare(from_study(study)).notes if "no effect" in note]


def test_what_has_an_effect_at_one_point_is_not_told(tmp_path: Path) -> None:
    sweep = "sweep={engine.scheduler: [static, chunked_prefill]}"
    plan = plan_of(tmp_path, sweep, "engine.batch_timeout_s=0.5")
    assert not [note for note in plan.notes if "no effect" in note]
    sweep = "sweep={engine.scheduler: [prefill_first, chunked_prefill]}"
    note = "batch_timeout_s has no effect with engine.scheduler: prefill_first or chunked_prefill"
    assert f"engine.{note}" in plan_of(tmp_path, sweep, "engine.batch_timeout_s=0.5").notes


def test_the_command_line_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, SMALL.replace("engine:", "engine:\n  batch_timeout_s: 0.5"))
    assert run_cli(path, "--dry-run") == 0
    said = capsys.readouterr().err
    assert said.count("engine.batch_timeout_s has no effect with engine.scheduler: chunked") == 1


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("workload.priorities", "[{0: 1}, {0: 1, 1: 1}]"),
        ("engine.batch_timeout_s", "[0.1, 0.2]"),
        ("cluster.router", "[round_robin, random]"),
    ],
)
def test_a_sweep_without_effect_is_refused(
    key: str, values: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, SMALL.replace("engine.max_num_seqs: [1, 4]", f"{key}: {values}"))
    message = refused(capsys, tmp_path, path)
    assert f"{path}:17: {key} is swept, but has no effect with " in message


def test_a_sweep_with_effect_at_some_points_is_run(tmp_path: Path) -> None:
    grid = "{engine.scheduler: [static, prefill_first], engine.batch_timeout_s: [0.1, 0.2]}"
    assert len(plan_of(tmp_path, f"sweep={grid}").points) == 4
    points = "[{engine.long_prefill_token_threshold: 8, engine.scheduler: static}, "
    points += "{engine.scheduler: chunked_prefill}]"
    with pytest.raises(StudyError, match=r"threshold is swept, but .* engine\.scheduler: static"):
        plan_of(tmp_path, f"sweep={points}")
