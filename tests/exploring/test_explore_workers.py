"""Workers of the live page: stopped, killed, shared by viewers, and none is left behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
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


from live_study import ROOT, STUDY, in_a_loop

from experiments.exploring.points import base_of
from experiments.exploring.server import MOST_OF_A_VIEWER
from experiments.exploring.workers import Workers, bounded
from experiments.running.sweep import runs_of
from experiments.study.document import read_raw
from experiments.study.errors import RunError


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
        in_a_loop(moves)
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
        in_a_loop(moves)
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
        in_a_loop(both)
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


@contextlib.contextmanager
def flooded(address: str, viewer: Any, count: int) -> Iterator[list[socket.socket]]:
    """So many questions of one viewer at a time, who waits for all of them."""
    import httpx

    page = httpx.URL(address)
    viewer.get(address)
    head = f"Host: {page.netloc.decode()}\r\nConnection: close\r\nCookie: " + "; ".join(
        f"{each.name}={each.value}" for each in viewer.cookies.jar
    )
    flood = []
    for place in range(count):
        flood.append(socket.create_connection(("127.0.0.1", page.port)))
        asked = f"GET /run?seeds=8&rate={1 + place / 100} HTTP/1.1\r\n{head}\r\n\r\n"
        flood[-1].sendall(asked.encode())
    yield flood
    for each in flood:
        each.close()


def test_a_flood_is_refused_and_leaves_nothing_to_do(study: Path) -> None:
    import httpx

    server, address = serve(study, "--jobs", "1")
    page = address.partition("?")[0]
    try:
        with httpx.Client(timeout=60, follow_redirects=True) as viewer:
            with flooded(address, viewer, 3 * MOST_OF_A_VIEWER) as flood:
                answers = [each.recv(12).decode()[-3:] for each in flood[-5:]]
            assert answers == ["503"] * 5
            for _ in range(100):
                busy = viewer.get(f"{page}state").json()["busy"]
                if not busy:
                    break
                time.sleep(0.05)
            assert busy == 0
            for _ in range(100):  # the last ones have left, and may not be gone yet
                answer = viewer.get(f"{page}run?seeds=1&rate=9")
                if answer.status_code != 503:
                    break
                time.sleep(0.05)
            assert [json.loads(line)["seeds"] for line in answer.text.splitlines()] == [1]
    finally:
        server.terminate()
        server.wait(20)


def test_the_flood_of_one_viewer_does_not_delay_another(study: Path) -> None:
    """All seeds of a calm viewer are there while the other one still waits for nearly all."""
    import httpx

    server, address = serve(study, "--jobs", "1")
    page = address.partition("?")[0]
    whole = MOST_OF_A_VIEWER * 8
    try:
        with (
            httpx.Client(timeout=60, follow_redirects=True) as busy,
            httpx.Client(timeout=60, follow_redirects=True) as calm,
            flooded(address, busy, MOST_OF_A_VIEWER) as flood,
        ):
            calm.get(address)
            assert busy.cookies != calm.cookies
            own = _asked(calm, f"{page}run?seeds=4&rate=9")
            assert [each["seeds"] for each in own] == [1, 2, 3, 4]
            for each in flood:
                each.setblocking(False)
            there = 0
            for each in flood:
                with contextlib.suppress(BlockingIOError):
                    there += each.recv(1 << 20).count(b'"seeds": ')
            assert there <= whole / 4  # in the order of asking a half would be there
    finally:
        server.terminate()
        server.wait(20)


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


def test_classes_of_ones_own_run_in_workers_and_on_the_page() -> None:
    import httpx

    examples = ROOT / "examples"
    study = str(examples / "shortest_remaining.yaml")
    server, address = serve(
        Path(study), "--plugin", str(examples / "shortest_remaining.py"), "--point", "3"
    )
    try:
        with httpx.Client(timeout=120, follow_redirects=True) as viewer:
            assert viewer.get(address).status_code == 200
            page = address.partition("?")[0]
            told = _asked(viewer, f"{page}run?seeds=1&rate=11")
            assert [each.get("error") for each in told] == [None]
            assert told[0]["options"] == "--set workload.arrivals.rate_per_s=11.0"
    finally:
        server.terminate()
        server.wait(20)
    refused = subprocess.run(
        [sys.executable, "-m", "experiments", "explore", study, "--point", "3"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "--plugin" in refused.stderr
