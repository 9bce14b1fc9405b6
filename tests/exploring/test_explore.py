"""The live page's server: what it answers, whom it refuses, and that it leaves nothing behind."""

import asyncio
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from experiments.exploring.knobs import DEFAULT, KnobError, knobs_of, settings_of
from experiments.exploring.points import base_of
from experiments.exploring.server import Explorer, application
from experiments.exploring.workers import Workers, bounded
from experiments.running.sweep import runs_of
from experiments.study.document import read_raw
from experiments.study.errors import RunError

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret"
STUDY = """
name: small
model: llama-3-8b
cluster: {gpu: a100-80gb-sxm}
workload:
  arrivals: {process: poisson, rate_per_s: 4}
  lengths:
    prompt: {distribution: constant, value: 300}
    output: {distribution: lognormal, mean: 60, cv: 1}
  num_requests: 1500
slo: {ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9}
seeds: 3
sweep: {workload.arrivals.rate_per_s: [4, 8]}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explore") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def client(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    base = base_of(read_raw(study, []), 2)
    workers = Workers(1, tmp_path_factory.mktemp("pieces"))
    explorer = Explorer(base, knobs_of(base.study()), workers)
    with TestClient(
        application(explorer, TOKEN, 9), base_url="http://127.0.0.1", follow_redirects=False
    ) as found:
        assert found.get(f"/?token={TOKEN}").status_code == 307
        yield found


def lines(client: TestClient, address: str) -> list[dict[str, Any]]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_figures_are_those_of_run(client: TestClient, study: Path) -> None:
    """Every seed adds a line; the last has the figures of the study that run simulates."""
    subprocess.run(
        [sys.executable, "-m", "experiments.run", study.name, "--no-figures", "--jobs", "1"],
        cwd=study.parent, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with (study.parent / "results" / "small" / "summary.csv").open() as file:
        row = list(csv.DictReader(file))[1]
    told = lines(client, "/run?seeds=3")
    assert [each["seeds"] for each in told] == [1, 2, 3]
    found = told[-1]["point"]["m"]
    for metric in ("ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "slo_attainment"):
        assert found[metric][0] == float(f"{float(row[metric]):.3e}"), metric


def test_a_long_run_is_looked_at_first_by_a_shorter_one(
    client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are those of a study of so many requests, and it is told as what it is."""
    monkeypatch.setattr("experiments.exploring.points.FIRST_REQUESTS", 400)
    subprocess.run(
        [sys.executable, "-m", "experiments.run", study.name, "--no-figures", "--jobs", "1",
         "--set", "workload.num_requests=400", "--set", "workload.arrivals.rate_per_s=9",
         "--set", "seeds=1", "--set", "sweep={}", "--out", "short"],
        cwd=study.parent, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with (study.parent / "short" / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    first, *seeds = lines(client, "/run?seeds=2&rate=9&baseline.rate=8")
    assert (first["requests"], first["seeds"], first["differences"]) == (400, 1, [])
    for metric in ("ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "slo_attainment"):
        assert first["point"]["m"][metric][0] == float(f"{float(row[metric]):.3e}"), metric
    assert [each["seeds"] for each in seeds] == [1, 2]
    assert not any("requests" in each for each in seeds)
    assert seeds[0]["differences"]
    again = lines(client, "/run?seeds=2&rate=9&baseline.rate=8")
    assert [each["seeds"] for each in again] == [1, 2]
    assert "requests" not in again[0]


def test_a_baseline_gives_paired_differences(client: TestClient) -> None:
    told = lines(client, "/run?seeds=3&rate=8&baseline.rate=8")[-1]
    assert {each["difference"] for each in told["differences"]} == {0.0}
    told = lines(client, "/run?seeds=3&rate=16&baseline.rate=8")[-1]
    shown = {each["name"]: each for each in told["differences"]}
    assert shown["TTFT p99, ms"]["now"] == 1e3 * told["point"]["m"]["ttft_p99_s"][0]
    price = told["differences"][0]
    assert price["now"] < price["baseline"]
    assert price["difference_hi"] < 0
    assert told["options"] == "--set workload.arrivals.rate_per_s=16.0"


def test_what_does_not_fit_is_said_with_its_ledger(client: TestClient) -> None:
    (told,) = lines(client, "/run?seeds=1&gpu=t4")
    assert "does not fit on t4" in told["error"]
    assert "left for KV" in told["error"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/run?seeds=99", 422),
        ("/run?seeds=0", 422),
        ("/run?seeds=4.0", 422),
        ("/run?rate=nan", 422),
        ("/run?rate=inf", 422),
        ("/run?rate=-4", 422),
        ("/run?rate=", 422),
        ("/run?rate=4%00", 422),
        ("/run?rate=1e9", 422),
        ("/run?replicas=2.7", 422),
        ("/run?gpu=/etc/passwd", 422),
        ("/run?model=gpt2", 422),
        ("/run?calibration=/tmp/prices.yaml", 422),
        ("/run?workload.trace=/etc/passwd", 422),
        ("/run?baseline.calibration=x", 422),
        ("/run?baseline.rate=1e9", 422),
        ("/study?gpu=/etc/passwd", 422),
        ("/study?rate=nan", 422),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/assets/page.css", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
    ],
)
def test_nothing_but_the_list_is_answered(client: TestClient, address: str, status: int) -> None:
    assert client.get(address).status_code == status


def test_only_who_has_the_token_is_answered(client: TestClient) -> None:
    cookie = client.cookies.get("headroom_9")
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    for site in ("cross-site", "same-site"):
        assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 403
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"):
        assert client.get("/run", headers={"Origin": origin}).status_code == 403
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"):
        assert client.request(method, "/run").status_code == 405, method
    client.cookies.clear()
    assert client.get("/").status_code == 403
    for wrong in ("guessed", "", "%C3%A9", TOKEN + "x"):
        assert client.get(f"/?token={wrong}").status_code == 403
    assert client.get("/run", headers={"Cookie": "headroom_9=guessed"}).status_code == 403
    assert client.get("/state").status_code == 403
    client.cookies.set("headroom_9", cookie, domain="127.0.0.1")
    assert client.get("/").status_code == 200


def test_a_setting_can_be_kept_as_a_study(client: TestClient, tmp_path: Path) -> None:
    answer = client.get("/study?rate=16&max_num_seqs=64")
    assert "small.yaml" in answer.headers["content-disposition"]
    (tmp_path / "kept.yaml").write_text(answer.text)
    raw = read_raw(tmp_path / "kept.yaml", []).raw
    assert raw["workload"]["arrivals"]["rate_per_s"] == 16
    assert raw["engine"]["max_num_seqs"] == 64


def test_a_key_that_is_null_is_a_default_that_is_not_sent(study: Path) -> None:
    knobs = knobs_of(base_of(read_raw(study, []), 1).study())
    seats = next(knob for knob in knobs if knob.id == "max_num_seqs")
    assert seats.value == DEFAULT
    assert settings_of(knobs, {"max_num_seqs": DEFAULT}) == {}
    assert settings_of(knobs, {"max_num_seqs": "64"}) == {"engine.max_num_seqs": 64}
    with pytest.raises(KnobError, match="max_num_seqs = '65', expected one of"):
        settings_of(knobs, {"max_num_seqs": "65"})


def test_each_pool_and_each_limit_has_knobs_of_its_own(study: Path) -> None:
    text = STUDY.replace(
        "{gpu: a100-80gb-sxm}",
        "{pools: [{name: fast, gpu: h100-sxm}, {name: slow, gpu: l40s, replicas: 2}]}",
    ).replace("ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9", "ttft_p99_s: 0.5")
    (study.parent / "pools.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "pools.yaml", []), 1)
    knobs = knobs_of(base.study())
    known = {knob.id: knob.value for knob in knobs}
    assert (known["replicas_0"], known["replicas_1"]) == (1, 2)
    assert (known["gpu_0"], known["gpu_1"]) == ("h100-sxm", "l40s")
    assert known["ttft_p99_s"] == 0.5
    assert not {"replicas", "gpu", "tp", "attainment"} & known.keys()
    settings = settings_of(knobs, {"replicas_1": "3", "ttft_p99_s": "0.4"})
    point = base.plan(settings, 1).points[0].study
    assert point.cluster.gpus == 4
    assert point.slo is not None
    assert point.slo.ttft_p99_s == 0.4


def test_a_long_study_is_cut_and_that_is_said(study: Path) -> None:
    text = STUDY.replace("1500", "1000000")
    (study.parent / "long.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "long.yaml", []), 1)
    assert base.notes == ("each run has 20,000 requests here",)
    assert base.raw["workload"]["num_requests"] == 20_000
    with pytest.raises(ValueError, match="--point 7, expected 1 to 2"):
        base_of(read_raw(study, []), 7)


def test_a_run_that_takes_too_long_is_stopped_and_the_worker_lives(
    study: Path, tmp_path: Path
) -> None:
    base = base_of(read_raw(study, []), 1)
    (run,) = runs_of(base.plan({}, 1), tmp_path)
    with pytest.raises(RunError, match=r"more than 0\.005 s of CPU"):
        bounded(run, 0.005)
    assert not run.path.exists()
    bounded(run, 60.0)
    assert run.path.exists()


def test_who_has_gone_leaves_no_queue(study: Path, tmp_path: Path) -> None:
    """What waits for a turn is never begun, what runs is stopped; and can be asked for again."""
    text = STUDY.replace("1500", "20000")
    (study.parent / "slow.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "slow.yaml", []), 1)
    plans = [base.plan({"workload.arrivals.rate_per_s": rate}, 1) for rate in (9, 10, 11)]
    runs = [runs_of(plan, tmp_path)[0] for plan in plans]
    workers = Workers(1, tmp_path)

    async def moves() -> None:
        gone = [asyncio.create_task(workers.run(run)) for run in runs]
        await asyncio.sleep(0.05)
        for each in gone:
            each.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert workers.busy == 1
        while workers.busy:
            await asyncio.sleep(0.01)
        assert [run.path.exists() for run in runs] == [False, False, False]
        again = [asyncio.create_task(workers.run(runs[0])) for _ in range(2)]
        await asyncio.sleep(0.05)
        again[0].cancel()  # the other one still waits
        await again[1]
        assert workers.busy == 0

    try:
        asyncio.run(moves())
    finally:
        workers.close()
    assert [run.path.exists() for run in runs] == [True, False, False]


def test_a_worker_that_is_killed_is_replaced_and_its_run_done_again(
    study: Path, tmp_path: Path
) -> None:
    """A real process is killed by a real signal; the other worker's run goes on meanwhile."""
    text = STUDY.replace("1500", "20000")
    (study.parent / "slow.yaml").write_text(text)
    base = base_of(read_raw(study.parent / "slow.yaml", []), 1)
    rates = (9, 10, 11, 12)
    first, second, third, fourth = (
        runs_of(base.plan({"workload.arrivals.rate_per_s": rate}, 1), tmp_path)[0] for rate in rates
    )
    workers = Workers(2, tmp_path)

    killed: set[int] = set()

    async def kill(*places: int) -> None:
        """Kill workers that were not killed before, while they simulate."""
        wanted = set()
        while len(wanted) < len(places):
            await asyncio.sleep(0.05)
            found = {pid for place in places for pid in workers._pools[place]._processes or ()}
            wanted = found - killed
        await asyncio.sleep(0.1)
        for pid in wanted:
            os.kill(pid, signal.SIGKILL)
        killed.update(wanted)

    async def moves() -> None:
        begun = [asyncio.create_task(workers.run(run)) for run in (first, second)]
        await kill(1)  # who began first
        assert await asyncio.gather(*begun) == [True, False]
        assert await workers.run(third) is False  # the new one goes on
        doomed = asyncio.create_task(workers.run(fourth))
        await kill(0, 1)
        await kill(workers._idle[0] ^ 1)
        with pytest.raises(RunError, match="two worker processes were killed"):
            await doomed
        assert await workers.run(fourth) is False
        assert workers.busy == 0

    try:
        asyncio.run(moves())
    finally:
        workers.close()
    assert all(run.path.exists() for run in (first, second, third, fourth))


def test_a_viewer_is_told_of_a_worker_that_was_killed(study: Path) -> None:
    import httpx

    text = STUDY.replace("1500", "20000")
    (study.parent / "slow.yaml").write_text(text)
    server, address = serve(study.parent / "slow.yaml", "--jobs", "1")
    try:
        with httpx.Client(timeout=120, follow_redirects=True) as viewer:
            viewer.get(address)
            page = address.partition("?")[0]
            own = _asked(viewer, f"{page}run")  # nothing else runs any more
            assert not any(each["again"] for each in own)
            told: list[dict[str, Any]] = []
            with viewer.stream("GET", f"{page}run?seeds=2&rate=9") as answer:
                for line in answer.iter_lines():
                    told.append(json.loads(line))
                    if "requests" in told[-1]:  # the first look is there, the first seed runs
                        processes = _descendants(server.pid)
                        for pid in processes:
                            if _forked(pid, processes):
                                os.kill(pid, signal.SIGKILL)
            assert [each["again"] for each in told] == [False, True, True]
            assert not any(each["again"] for each in _asked(viewer, f"{page}run?rate=11"))
    finally:
        server.terminate()
        server.wait(20)


def _asked(viewer: Any, address: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in viewer.get(address).text.splitlines()]


def test_the_same_run_is_not_begun_twice(study: Path, tmp_path: Path) -> None:
    base = base_of(read_raw(study, []), 1)
    (run,) = runs_of(base.plan({}, 1), tmp_path)
    workers = Workers(2, tmp_path)

    async def both() -> None:
        first, second = (asyncio.create_task(workers.run(run)) for _ in range(2))
        await asyncio.sleep(0.01)
        assert workers.busy == 1
        await asyncio.gather(first, second)

    try:
        asyncio.run(both())
    finally:
        workers.close()
    assert run.path.exists()


def serve(study: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it and its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "experiments", "explore", str(study), *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert server.stdout is not None
    found = re.match(r"open (http://127\.0\.0\.1:\d+/\?token=\S+)", server.stdout.readline())
    assert found is not None
    return server, found[1]


def test_three_viewers_are_served_side_by_side(study: Path) -> None:
    """Each gets all of its seeds, and nobody waits until another has all of theirs."""
    import httpx

    server, address = serve(study, "--point", "2", "--jobs", "2")
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    seeds: dict[int, list[int]] = {}

    def view(rate: int) -> None:
        with httpx.Client(timeout=120, follow_redirects=True) as viewer:
            assert viewer.get(address).status_code == 200
            page = address.partition("?")[0]
            ready.wait()
            with viewer.stream("GET", f"{page}run?seeds=6&rate={rate}") as answer:
                for line in answer.iter_lines():
                    begun.setdefault(rate, time.perf_counter())
                    seeds.setdefault(rate, []).append(json.loads(line)["seeds"])
            ended[rate] = time.perf_counter()

    ready = threading.Barrier(3)
    viewers = [threading.Thread(target=view, args=(rate,)) for rate in (9, 10, 11)]
    try:
        for each in viewers:
            each.start()
        for each in viewers:
            each.join(120)
    finally:
        server.terminate()
        server.wait(20)
    assert seeds == {rate: [1, 2, 3, 4, 5, 6] for rate in (9, 10, 11)}
    assert max(begun.values()) < min(ended.values())


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server, _ = serve(study, "--jobs", "2")
    workers = _workers(server.pid, 2)
    server.send_signal(ending)
    server.wait(20)
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{workers} outlived the server")
    left = [path.name for path in tmp_path.glob("headroom-explore-*")]
    assert ending == signal.SIGKILL or left == []


def _descendants(parent: int) -> list[int]:
    """Every process that a process started, and what these started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        found = [int(pid) for pid in listed.read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [*found, *(pid for each in found for pid in _descendants(each))]


def _workers(server: int, count: int) -> list[int]:
    """Wait until so many workers are there; return them, and whoever started them."""
    for _ in range(300):
        found = _descendants(server)
        if sum(1 for each in found if _forked(each, found)) >= count:
            return found
        time.sleep(0.1)
    pytest.fail(f"{found}: expected {count} workers")


def _forked(pid: int, others: list[int]) -> bool:
    return any(pid in _descendants(other) for other in others)
