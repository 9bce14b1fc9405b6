"""Workers of the live page: stopped, killed, replaced, and none is left behind."""

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")


from live_study import ROOT, STUDY, asked, descendants, forked, in_a_loop, served

from experiments.exploring.points import base_of
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


def test_a_run_is_not_stopped_while_it_imports(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module left half imported would be missing to every later run of the same process."""
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nuntil = time.process_time() + 0.05\nwhile time.process_time() < until: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)

    def simulated(*_: object) -> None:
        importlib.import_module("slow_to_import")
        until = time.process_time() + 10
        while time.process_time() < until:
            pass

    monkeypatch.setattr("experiments.running.local.simulate_to", simulated)
    (run,) = runs_of(base_of(read_raw(study, []), 1).plan({}, 1), tmp_path)
    with pytest.raises(RunError, match=r"more than 0\.005 s of CPU"):
        bounded(run, 0.005)
    assert "slow_to_import" in sys.modules


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
    with (
        served(study.parent / "slow.yaml", "--jobs", "1") as (server, address),
        httpx.Client(timeout=120, follow_redirects=True) as viewer,
    ):
        viewer.get(address)
        page = address.partition("?")[0]
        own = asked(viewer, f"{page}run")  # nothing else runs any more
        assert not any(each["again"] for each in own)
        told: list[dict[str, Any]] = []
        with viewer.stream("GET", f"{page}run?seeds=2&rate=9") as answer:
            for line in answer.iter_lines():
                told.append(json.loads(line))
                if "requests" in told[-1]:  # the first look is there, the first seed runs
                    processes = descendants(server.pid)
                    for pid in processes:
                        if forked(pid, processes):
                            os.kill(pid, signal.SIGKILL)
        assert [each["again"] for each in told] == [False, True, True]
        assert not any(each["again"] for each in asked(viewer, f"{page}run?rate=11"))


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


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with served(study, "--jobs", "2") as (server, _):
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


def _workers(server: int, count: int) -> list[int]:
    """Wait until so many workers are there; return them, and whoever started them."""
    for _ in range(300):
        found = descendants(server)
        if sum(1 for each in found if forked(each, found)) >= count:
            return found
        time.sleep(0.1)
    pytest.fail(f"{found}: expected {count} workers")


def test_classes_of_ones_own_run_in_workers_and_on_the_page() -> None:
    import httpx

    examples = ROOT / "examples"
    study, own = examples / "shortest_remaining.yaml", str(examples / "shortest_remaining.py")
    with (
        served(study, "--plugin", own, "--point", "3") as (_, address),
        httpx.Client(timeout=120, follow_redirects=True) as viewer,
    ):
        assert viewer.get(address).status_code == 200
        page = address.partition("?")[0]
        told = asked(viewer, f"{page}run?seeds=1&rate=11")
        assert [each.get("error") for each in told] == [None]
        assert told[0]["options"] == "--set workload.arrivals.rate_per_s=11.0"
    refused = subprocess.run(
        [sys.executable, "-m", "experiments", "explore", str(study), "--point", "3"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "--plugin" in refused.stderr
