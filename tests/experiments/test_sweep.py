"""Sweeps: which points there are, that they share their luck, and what is left behind."""

import errno
import json
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from study_files import SMALL, run_cli, tables_of, write_study

from experiments import load_study, run_study
from experiments.running import local
from experiments.running.pieces import simulate_to
from experiments.running.requests_file import RequestsFile
from experiments.running.sweep import runs_of
from experiments.study.build import independent_replicas
from experiments.study.document import from_study, read_raw
from experiments.study.errors import Problem, StudyError
from experiments.study.grid import expand, substitute
from experiments.study.points import Plan, prepare
from sim.measuring.metrics import METRICS
from sim.recording.result import REQUEST_COLUMNS


def plan_of(folder: Path, sweep: str, **settings: object) -> Plan:
    text = SMALL.replace("  engine.max_num_seqs: [1, 4]\n", sweep)
    return prepare(from_study(load_study(write_study(folder, text), settings)))


def test_grid_is_in_written_order_the_last_key_changing_fastest() -> None:
    settings, faults = expand({"b": [1], "engine.x": [3, 1], "engine.a": ["q", "p"]})
    assert [fault for fault in faults if "cannot be swept" not in fault[1]] == []
    settings, faults = expand({"engine.x": [3, 1], "model": ["q", "p"]})
    assert faults == []
    assert [tuple(setting.values.values()) for setting in settings] == [
        (3, "q"), (3, "p"), (1, "q"), (1, "p"),
    ]  # fmt: skip
    assert settings[1].origins == {
        "engine.x": ("sweep", "engine.x", 0), "model": ("sweep", "model", 1),
    }  # fmt: skip


def test_substitution_copies() -> None:
    raw = {"engine": {"block_size": 16}, "sweep": {}}
    values = {"engine.block_size": 8, "slo.ttft_s": 1.0}
    assert substitute(raw, values) == {"engine": {"block_size": 8}, "slo": {"ttft_s": 1.0}}
    assert raw == {"engine": {"block_size": 16}, "sweep": {}}


def test_points_of_a_list_take_what_they_do_not_say_from_the_base(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "  - {engine.block_size: 8}\n  - {engine.max_num_seqs: 2}\n")
    assert plan.keys == ("engine.block_size", "engine.max_num_seqs")
    assert [point.values for point in plan.points] == [
        {"engine.block_size": 8, "engine.max_num_seqs": 8},
        {"engine.block_size": 16, "engine.max_num_seqs": 2},
    ]


def test_whole_sections_can_be_swept(tmp_path: Path) -> None:
    """A section is all that there is of it; what a file says of it would be gone: refused."""
    sections = "  engine: [{dtype: float16}, {dtype: float32, block_size: 8}]\n"
    with pytest.raises(StudyError, match="engine: without max_num_seqs, which the study says"):
        plan_of(tmp_path, sections)
    text = SMALL.replace("  max_num_seqs: 8\n", "").replace("  engine.max_num_seqs: [1, 4]\n", "")
    plan = prepare(from_study(load_study(write_study(tmp_path, text + sections))))
    assert [point.study.engine.block_size for point in plan.points] == [16, 8]
    assert plan.points[1].study.engine.max_num_seqs == 256, "a section replaces the base's"
    assert plan.points[0].values == {"engine": '{"dtype": "float16"}'}


def test_swept_key_need_not_stand_in_the_base(tmp_path: Path) -> None:
    text = SMALL.replace("model: opt-125m\n", "")
    text = text.replace("engine.max_num_seqs: [1, 4]", "model: [opt-125m, gpt2]")
    study = load_study(write_study(tmp_path, text))
    models = [point.study.model for point in prepare(from_study(study)).points]
    assert models == ["opt-125m", "gpt2"]


def test_points_share_the_random_numbers_of_a_seed(tmp_path: Path) -> None:
    requests = run_study(write_study(tmp_path)).requests
    drawn = ["arrival_s", "prompt_tokens", "output_tokens"]
    samples = {key: rows[drawn].to_numpy() for key, rows in requests.groupby(["point", "seed"])}
    assert (samples[1, 0] == samples[2, 0]).all()
    assert (samples[1, 0] != samples[1, 1]).any()


def test_run_r_has_seed_plus_r(tmp_path: Path) -> None:
    early = run_study(write_study(tmp_path), settings={"seed": 6, "sweep": {}}).runs
    late = run_study(write_study(tmp_path), settings={"seed": 7, "sweep": {}}).runs
    assert list(early["seed"]) == [6, 7]
    pd.testing.assert_series_equal(early.iloc[1], late.iloc[0], check_names=False)


@pytest.mark.parametrize(("router", "seeds"), [("random", 2), ("round_robin", 1)])
def test_one_seed_is_enough_when_nothing_is_random(
    router: str, seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace("process: poisson", "process: deterministic")
    text = text.replace(
        "distribution: uniform, min: 10, max: 60", "distribution: constant, value: 9"
    )
    text = text.replace(
        "distribution: uniform, min: 2, max: 30", "distribution: constant, value: 7"
    )
    path = write_study(tmp_path, text)
    note = "nothing is random: one seed is run instead of 2"
    out = tmp_path / "out"
    settings = ("--set", f"cluster.router={router}", "--set", "cluster.replicas=2")
    assert run_cli(path, "--out", out, *settings) == 0
    output = capsys.readouterr()
    assert (note in output.err, note in output.out) == (seeds == 1, seeds == 1)
    assert len(pd.read_csv(out / "runs.csv")) == 2 * seeds
    assert (note in json.loads((out / "manifest.json").read_text())["notes"]) == (seeds == 1)


def test_what_a_study_leaves_behind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_study(write_study(tmp_path), out=out)
    names = {path.name for path in out.iterdir() if path.suffix != ".png"}
    assert names >= {"study.yaml", "manifest.json", "summary.csv", "runs.csv", "requests.parquet"}
    runs, summary = pd.read_csv(out / "runs.csv"), pd.read_csv(out / "summary.csv")
    assert list(runs.columns) == ["point", "engine.max_num_seqs", "seed", *METRICS]
    assert list(runs["point"]) == [1, 1, 2, 2]
    assert list(summary.columns[:3]) == ["point", "engine.max_num_seqs", "seeds"]
    assert {"ttft_p99_s", "ttft_p99_s_lo", "ttft_p99_s_hi"} <= set(summary.columns)
    pd.testing.assert_frame_equal(runs, result.runs)
    pd.testing.assert_frame_equal(summary, result.summary)
    parquet = pq.ParquetFile(out / "requests.parquet")
    keys = ["point", "seed", "engine.max_num_seqs"]
    assert parquet.schema_arrow.names == [*keys, *REQUEST_COLUMNS, "measured", "status_name"]
    requests = result.requests
    assert requests.groupby("point")["engine.max_num_seqs"].unique().map(list).tolist() == [
        [1],
        [4],
    ]
    assert (requests["status_name"] == "finished").all()
    measured = runs["measured_requests"].astype(int).tolist()
    assert requests.groupby(["point", "seed"])["measured"].sum().tolist() == measured
    assert parquet.num_row_groups == 1, "short runs share one"
    pd.testing.assert_frame_equal(pd.read_parquet(out / "requests.parquet"), result.requests)
    manifest = json.loads((out / "manifest.json").read_text())
    assert {"headroom", "python", "numpy", "simpy", "pandas"} <= set(manifest["versions"])
    assert manifest["seeds"] == [0, 1]
    assert manifest["calibrations"]["vllm-0.23 on t4 (borrowed)"]["sha256"]
    assert manifest["wall_s"] > 0


def test_results_in_memory_equal_those_on_disk(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    kept = run_study(path, out=tmp_path / "out")
    memory = run_study(path)
    assert (memory.folder, kept.folder) == (None, tmp_path / "out")
    pd.testing.assert_frame_equal(memory.summary, kept.summary)
    pd.testing.assert_frame_equal(memory.requests, kept.requests)


def test_tables_are_the_same_bytes_for_any_number_of_jobs(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert run_cli(path, "--out", tmp_path / "one", "--jobs", 1) == 0
    assert run_cli(path, "--out", tmp_path / "two", "--jobs", 2) == 0
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "two")


def test_requests_lie_in_the_order_of_the_runs_whenever_these_end(tmp_path: Path) -> None:
    plan = prepare(read_raw(write_study(tmp_path)))
    runs = runs_of(plan, tmp_path)
    for run in runs:
        simulate_to(run.path, run.study, run.seed)
    with RequestsFile(runs, tmp_path / "growing") as requests:
        for place in (2, 0, 3):
            requests.add(runs[place])
        with pytest.raises(ValueError, match="1 of 4 runs are there, expected all"):
            requests.publish(tmp_path / "requests.parquet")
        requests.add(runs[1])
        requests.publish(tmp_path / "requests.parquet")
    assert not (tmp_path / "growing").exists()
    table = pd.read_parquet(tmp_path / "requests.parquet")
    order = table[["point", "seed"]].drop_duplicates()
    assert order.to_numpy().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert len(table) == 80


def test_row_groups_hold_short_runs_together_and_long_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(prepare(read_raw(write_study(tmp_path))), tmp_path)
    for run in runs:
        simulate_to(run.path, run.study, run.seed)
    for rows, groups in ((1000, [80]), (45, [40, 40]), (20, [20] * 4), (10, [20] * 4)):
        monkeypatch.setattr("experiments.running.requests_file.ROWS", rows)
        path = tmp_path / f"{rows}.parquet"
        with RequestsFile(runs, tmp_path / "growing") as requests:
            for run in runs:
                requests.add(run)
            requests.publish(path)
        found = pq.ParquetFile(path).metadata
        assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == groups
        whole = pd.read_parquet(tmp_path / "1000.parquet")
        pd.testing.assert_frame_equal(pd.read_parquet(path), whole)


def test_of_requests_that_are_not_complete_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.running.requests_file.ROWS", 1)
    runs = runs_of(prepare(read_raw(write_study(tmp_path))), tmp_path)
    for run in runs[:2]:
        simulate_to(run.path, run.study, run.seed)
    with RequestsFile(runs, tmp_path / "growing") as requests, suppress(KeyError):
        for run in runs[:2]:
            requests.add(run)
        assert (tmp_path / "growing").exists()
        raise KeyError
    assert not (tmp_path / "growing").exists()


def test_a_file_that_a_full_disk_cannot_end_goes_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: pq.ParquetWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("experiments.running.requests_file.ROWS", 1)
    runs = runs_of(prepare(read_raw(write_study(tmp_path))), tmp_path)
    for run in runs[:2]:
        simulate_to(run.path, run.study, run.seed)
    with monkeypatch.context() as patch, RequestsFile(runs, tmp_path / "growing") as requests:
        for run in runs[:2]:
            requests.add(run)
        assert (tmp_path / "growing").exists()
        patch.setattr(pq.ParquetWriter, "close", full)
    assert not (tmp_path / "growing").exists()


def test_error_within_a_run_names_the_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr("experiments.running.pieces.simulate", fail)
    with pytest.raises(StudyError, match=r"point 1 \(engine.max_num_seqs=1\), seed 0: no luck"):
        run_study(write_study(tmp_path))


def test_errors_survive_the_way_back_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(StudyError([Problem("here", "wrong"), Problem("", "too")])))
    assert str(error) == "2 problems\n  here: wrong\n  too"


def test_point_with_a_different_trace_is_a_different_run(tmp_path: Path) -> None:
    from experiments.running.identity import run_key

    rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n"
    trace = tmp_path / "trace.csv"
    trace.write_text(rows)
    text = "model: opt-125m\ncluster: {gpu: t4}\nengine: {dtype: float16}\n"
    path = write_study(tmp_path, text + "workload: {trace: trace.csv}\nsweep: {}\n")
    point = prepare(read_raw(path)).points[0].study
    keys = [run_key(point, 0), run_key(point, 1)]
    trace.write_text(rows + "2023-11-16 18:15:47,374,44\n")
    keys.append(run_key(point, 0))
    renamed = point.model_copy(update={"name": "other", "description": "words"})
    assert len(set(keys)) == 3
    assert run_key(renamed, 0) == keys[2], "a name changes no result"


@pytest.mark.parametrize("router", ["round_robin", "random"])
def test_a_long_run_is_split_over_its_replicas_and_is_the_same_bytes(
    router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.running.pages.draw", lambda *_: [])
    monkeypatch.setattr(local, "LONG", 300)
    parts: list[str] = []
    split = local._simulate_split
    monkeypatch.setattr(
        local, "_simulate_split", lambda run, *how: (parts.append(run.label), split(run, *how))
    )
    path = write_study(tmp_path, SMALL.replace("num_requests: 20", "num_requests: 300"))
    settings = [f"cluster.router={router}", "cluster.replicas=3", "sweep={}"]
    words = [word for setting in settings for word in ("--set", setting)]
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        assert run_cli(path, "--seeds", 1, "--jobs", jobs, "--out", out, *words) == 0
        assert len(parts) == jobs - 1
    short = ("--set", "workload.num_requests=299", "--out", tmp_path / "3")
    assert run_cli(path, "--seeds", 1, "--jobs", 2, *words, *short) == 0
    assert len(parts) == 1, "a short run is not worth it"
    assert tables_of(tmp_path / "1") == tables_of(tmp_path / "2")
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "small.yaml"]


def test_only_replicas_that_know_nothing_of_each_other_are_split(tmp_path: Path) -> None:
    closed = SMALL.replace(
        "{process: poisson, rate_per_s: 20}", "{process: closed_loop, users: 3, think_s: 0}"
    )
    for text, router, expected in (
        (SMALL, "round_robin", 4), (SMALL, "random", 4), (SMALL, "least_requests", 1),
        (closed, "round_robin", 1),
    ):  # fmt: skip
        settings = {"cluster.router": router, "cluster.replicas": 4}
        study = load_study(write_study(tmp_path, text), settings)
        assert independent_replicas(study) == expected
