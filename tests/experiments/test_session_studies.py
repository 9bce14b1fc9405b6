"""Studies with sessions: run, told, written down, and refused where nothing knows them yet."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from study_files import SMALL, TABLES, run_cli, write_study

from experiments.calibrating.decoder_vs_simulation import DecoderStudy
from experiments.planning.capacity.study import prepare_capacity
from experiments.planning.keys import validated
from experiments.planning.plan.reading import read_plan
from experiments.running.api import run_study
from experiments.running.pooling import load_of
from experiments.study.build import independent_replicas
from experiments.study.document import read_raw
from experiments.study.errors import StudyError
from experiments.study.points import prepare
from sim.recording.result import REQUEST_COLUMNS, SESSION_COLUMNS

SESSIONS = "  sessions: {turns: 4, think_s: 0.1, think_law: constant, system_tokens: 40}\n"
OPEN = SMALL.replace("  num_requests: 20\n", f"  num_requests: 20\n{SESSIONS}")
OPEN_ARRIVE = "{process: poisson, rate_per_s: 20}"
USERS_ARRIVE = "{process: closed_loop, users: 3, think_s: 0.2, think_law: constant}"
USERS = OPEN.replace(OPEN_ARRIVE, USERS_ARRIVE)
SWEEP = "sweep:\n  engine.max_num_seqs: [1, 4]\n"


@pytest.mark.parametrize("text", [OPEN, USERS])
def test_the_same_bytes_however_they_are_run(tmp_path: Path, text: str) -> None:
    path = write_study(
        tmp_path, text.replace("max_num_seqs: 8", "max_num_seqs: 8\n  max_model_len: 200")
    )
    for name, jobs in (("one", 1), ("two", 2)):
        assert run_cli(path, "--out", tmp_path / name, "--jobs", jobs, "--no-figures") == 0
    for table in TABLES:
        assert (tmp_path / "one" / table).read_bytes() == (tmp_path / "two" / table).read_bytes()
    columns = pq.read_schema(tmp_path / "one" / "requests.parquet").names
    keys = ["point", "seed", "engine.max_num_seqs"]
    assert columns == [*keys, *REQUEST_COLUMNS, *SESSION_COLUMNS, "measured", "status_name"]


def test_a_cache_saves_what_was_said_before(tmp_path: Path) -> None:
    text = USERS.replace(SWEEP, "sweep:\n  engine.enable_prefix_caching: [false, true]\n")
    result = run_study(write_study(tmp_path, text))
    rates = result.summary["prefix_cache_hit_rate"].tolist()
    assert rates[0] == 0
    assert rates[1] > 0.5
    asked = result.requests[result.requests["point"] == 2]
    later = asked[asked["turn"] > 0]
    before = asked.set_index(["seed", "session", "turn"])["finish_s"]
    due_s = [before[row.seed, row.session, row.turn - 1] + 0.1 for row in later.itertuples()]
    assert later["arrival_s"].tolist() == due_s


def test_points_with_and_without_sessions_share_a_table(tmp_path: Path) -> None:
    swept = SESSIONS.replace("sessions", "workload.sessions")
    points = f"sweep:\n- {{workload.num_requests: 8}}\n-{swept[1:]}"
    result = run_study(write_study(tmp_path, SMALL.replace(SWEEP, points)))
    found = result.requests.groupby("point")["turn"].unique().map(sorted).tolist()
    assert found == [[-1], [0, 1, 2, 3]]


def test_the_rules_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = OPEN.replace("system_tokens: 40", "max_context_tokens: 300")
    assert run_cli(write_study(tmp_path, text), "--dry-run") == 0
    told = capsys.readouterr().err
    assert "sessions: a turn that is rejected or times out ends its session; so does one" in told


def test_replicas_depend_on_each_other_and_no_load_is_known(tmp_path: Path) -> None:
    """How many turns come in a second depends on the answers."""
    text = OPEN.replace("gpu: t4", "gpu: t4\n  replicas: 2\n  router: round_robin")
    study = prepare(read_raw(write_study(tmp_path, text))).points[0].study
    assert independent_replicas(study) == 1
    assert load_of(study) is None


def test_one_clear_error(tmp_path: Path) -> None:
    for old, new, message in (
        ("think_s: 0.1, think_law: constant, ", "", "sessions.think_s is missing"),
        ("system_tokens", "system_token", "did you mean system_tokens"),
        ("turns: 4", "turns: 0", "workload.sessions.turns = 0"),
        ("num_requests: 20", "num_requests: 20\n  trace: t.csv", "sessions is for generated"),
    ):
        with pytest.raises(StudyError, match=message):
            prepare(read_raw(write_study(tmp_path, OPEN.replace(old, new))))


def test_searches_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    slo = "slo: {ttft_s: 0.1, tpot_s: 0.05, attainment: 0.9}\n"
    length = "  num_requests: 20\n"  # which a search decides
    text = OPEN.replace("seeds: 2\n", slo).replace(SWEEP, "").replace(length, "")
    with pytest.raises(StudyError, match=r"workload\.sessions: .* begin by themselves yet"):
        prepare_capacity(read_raw(write_study(tmp_path, f"kind: capacity\n{text}")))
    users = USERS.replace("seeds: 2\n", slo).replace(SWEEP, "").replace(length, "")
    prepare_capacity(read_raw(write_study(tmp_path, f"kind: capacity\n{users}")))
    plan = users.replace("  gpu: t4\n", "  router: least_requests\n")
    plan = f"kind: plan\n{plan}candidates:\n  cluster.gpu: [t4]\n"
    read_plan(read_raw(write_study(tmp_path, plan)))
    plan = plan.replace(USERS_ARRIVE, OPEN_ARRIVE)
    with pytest.raises(StudyError, match=r"workload\.sessions: .* begin by themselves yet"):
        read_plan(read_raw(write_study(tmp_path, plan)))


def test_the_real_engine_refuses_them(tmp_path: Path) -> None:
    text = USERS.replace(SWEEP, "").replace("seeds: 2\n", "").replace("cluster:\n  gpu: t4\n", "")
    text = text.replace("  dtype: float16\n", "")
    loaded = read_raw(write_study(tmp_path, f"kind: decoder_vs_simulation\n{text}"))
    with pytest.raises(StudyError, match="sessions are not served by the real engine"):
        validated(DecoderStudy, loaded, loaded.raw)
