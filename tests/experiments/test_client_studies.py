"""Studies whose workload are the clients of a folder."""

from pathlib import Path

import pytest
from study_files import SMALL, write_study

from experiments.exploring.points import base_of
from experiments.planning.capacity.study import prepare_capacity
from experiments.planning.plan.reading import read_plan
from experiments.study.bundled import STUDIES
from experiments.study.document import read_raw
from experiments.study.errors import StudyError
from experiments.study.overrides import parse_overrides
from experiments.study.points import prepare
from experiments.study.requests import requests_of

OWN = SMALL[SMALL.index("  arrivals") : SMALL.index("seeds")]
CLIENTS = SMALL.replace(OWN, "  clients: {path: service, rate_scale: 0.1}\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    for file in (STUDIES / "uneven_clients").iterdir():
        (tmp_path / "service" / file.name).write_bytes(file.read_bytes())
    return write_study(tmp_path, CLIENTS)


def test_a_study_reads_clients_beside_it_and_says_what(path: Path) -> None:
    plan = prepare(read_raw(path))
    told = [note for note in plan.notes if note.startswith("service: ")]
    assert len(told) == 1
    assert told[0].startswith("service: 3 clients of ServeGen, 3 of them ask in the 1,200 s")
    names = [Path(name).name for name in plan.study.workload.files]
    assert names[:2] == ["chunk-0-dataset.json", "chunk-0-trace.csv"]


def test_a_changed_file_of_a_client_is_read_again(path: Path) -> None:
    study = prepare(read_raw(path)).study
    before = len(requests_of(study, 1))
    trace = path.parent / "service" / "chunk-0-trace.csv"
    trace.write_text("0,90,1,Gamma,1,0.1\n600,90,1,Gamma,1,0.1\n")
    assert len(requests_of(study, 1)) > 5 * before


def test_a_wrong_file_is_told_at_the_key_of_the_study(path: Path) -> None:
    (path.parent / "service" / "chunk-0-trace.csv").unlink()
    where = r"small.yaml:\d+: .*service: chunk-0-trace.csv missing"
    with pytest.raises(StudyError, match=where):
        prepare(read_raw(path))


def test_a_trace_takes_the_place_of_clients(path: Path, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,5,5\n")
    trace = parse_overrides([f"workload.trace={tmp_path / 'trace.csv'}"])
    assert prepare(read_raw(path, trace)).study.workload.clients is None


def test_clients_are_as_long_as_they_are(path: Path) -> None:
    write_study(path.parent, CLIENTS + "precision: 10%\n")
    with pytest.raises(StudyError, match="what clients ask is as long as it is"):
        prepare(read_raw(path))


def test_a_capacity_searches_how_much_more_clients_ask(path: Path) -> None:
    text = CLIENTS.replace(", rate_scale: 0.1", "")
    text = text[: text.index("sweep")].replace("seeds: 2\n", "")
    write_study(path.parent, text + "kind: capacity\nslo: {ttft_s: 1.0}\n")
    plan = prepare_capacity(read_raw(path))
    assert plan.key == "workload.clients.rate_scale"
    assert all(point.study.workload.num_requests is None for point in plan.points)


def test_a_plan_refuses_clients(path: Path) -> None:
    text = CLIENTS[: CLIENTS.index("sweep")].replace("seeds: 2\n", "")
    rest = "kind: plan\nslo: {ttft_s: 1.0}\ncandidates: {engine.max_num_seqs: [4]}\n"
    write_study(path.parent, text + rest)
    with pytest.raises(StudyError, match=r"workload.clients: plans do not know clients"):
        read_plan(read_raw(path))


def test_explore_runs_all_that_clients_ask(path: Path) -> None:
    base = base_of(read_raw(path), 1)
    assert any("the whole of workload.clients" in note for note in base.notes)
    assert base.plan({}, 1).study.workload.num_requests is None
