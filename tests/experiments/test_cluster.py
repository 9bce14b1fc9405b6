"""Sweeps on a cluster: a real scheduler and real workers, on the loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from study_files import ROOT, SMALL, refused, run_cli, start_cli, tables_of, write_study

from experiments import run_study
from experiments.running import cluster
from experiments.running.cluster import Cluster
from experiments.running.identity import run_identity
from experiments.running.pieces import read_piece
from experiments.running.sweep import Run, runs_of
from experiments.study.document import read_raw
from experiments.study.errors import RunError
from experiments.study.points import prepare

pytestmark = pytest.mark.usefixtures("without_pictures")

LONG = SMALL.replace("num_requests: 20", "num_requests: 3000").replace("[1, 4]", "[1, 2, 3, 4, 5]")


class RealCluster:
    """A scheduler, and workers of one thread each, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file))
        self.workers: list[subprocess.Popen[bytes]] = []
        deadline = time.monotonic() + 60
        while not file.exists() or "}" not in file.read_text():  # it is written after it is there
            assert time.monotonic() < deadline, "the scheduler did not start within a minute"
            time.sleep(0.02)
        self.address = json.loads(file.read_text())["address"].removeprefix("tcp://")

    def _start(self, role: str, *options: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "dask", role, "--host", "127.0.0.1", "--no-dashboard", *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def of_workers(self, count: int) -> str:
        """Let so many workers run, and return the scheduler's address."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < count:
            options = (self.address, "--no-nanny", "--nthreads", "1")
            self.workers.append(self._start("worker", *options))
        return self.address

    def stop(self) -> None:
        """End every process."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    started = RealCluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


def some_run(folder: Path) -> Run:
    return runs_of(prepare(read_raw(write_study(folder))), folder / "elsewhere")[0]


def test_a_cluster_leaves_the_bytes_of_a_local_sweep(real: RealCluster, tmp_path: Path) -> None:
    path = write_study(tmp_path)
    address = real.of_workers(2)
    assert run_cli(path, "--out", tmp_path / "local") == 0
    dask = ("--executor", "dask", "--scheduler-address", address)
    assert run_cli(path, "--out", tmp_path / "dask", *dask) == 0
    assert tables_of(tmp_path / "dask") == tables_of(tmp_path / "local")
    manifest = json.loads((tmp_path / "dask" / "manifest.json").read_text())
    assert manifest["executor"] == "dask"
    assert address not in json.dumps(manifest)


def test_a_worker_killed_in_mid_sweep_costs_nothing_but_time(
    real: RealCluster, tmp_path: Path
) -> None:
    path = write_study(tmp_path, LONG)
    address = real.of_workers(2)
    dask = ("--executor", "dask", "--scheduler-address", address)
    process = start_cli(path, "--out", "killed", *dask, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed" / ".headroom-work").glob("*.arrow"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    victim = real.workers[0]
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(timeout=10) == -signal.SIGKILL
    assert process.poll() is None, "the sweep ended before a worker could be killed"
    _, message = process.communicate(timeout=120)
    assert process.returncode == 0, message
    assert "10 runs, " in message
    assert len(run_study(path, out=tmp_path / "whole").runs) == 10
    assert tables_of(tmp_path / "killed") == tables_of(tmp_path / "whole")


def test_studies_from_python_can_use_a_cluster(real: RealCluster, tmp_path: Path) -> None:
    path = write_study(tmp_path)
    there = run_study(path, scheduler_address=real.of_workers(2))
    assert there.summary.equals(run_study(path).summary)
    with pytest.raises(ValueError, match="jobs = 2 beside scheduler_address"):
        run_study(path, jobs=2, scheduler_address=real.address)


def test_code_of_one_s_own_is_sent_along(real: RealCluster, tmp_path: Path) -> None:
    module = tmp_path / "own.py"
    ordered = SMALL.replace("max_num_seqs: 8", "max_num_seqs: 8\n  order: own:Longest")
    path = write_study(tmp_path, ordered.replace("rate_per_s: 20", "rate_per_s: 2000"))
    tables = []
    for sign in ("-", ""):  # the workers live on: the second module takes the name of the first
        module.write_text(
            "from sim.engine.waiting import Ranked\n\n\nclass Longest(Ranked):\n"
            f"    def rank(self, sequence):\n        return {sign}sequence.prompt_tokens\n"
        )
        here = run_study(path, plugins=[module])
        there = run_study(path, plugins=[module], scheduler_address=real.of_workers(2))
        pd.testing.assert_frame_equal(there.requests, here.requests)
        tables.append(here.requests)
    assert not tables[0].equals(tables[1])


def test_a_cluster_without_workers_is_given_up(
    real: RealCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "WITHOUT_WORKERS_S", 0.5)
    monkeypatch.setattr(cluster, "ASK_S", 0.1)
    for worker in real.workers:
        worker.kill()
        worker.wait()
    path = write_study(tmp_path)
    dask = ("--executor", "dask", "--scheduler-address", real.of_workers(0))
    status = run_cli(path, "--out", tmp_path / "out", *dask)
    message = capsys.readouterr().err
    assert status == 2
    assert message.startswith(f"error: the cluster at {real.address} has had no worker for ")
    assert f"start some with: dask worker {real.address}" in message
    assert message.count("\n") == 1


def test_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    dask = ("--executor", "dask", "--scheduler-address", "127.0.0.1:9")
    message = refused(capsys, tmp_path, write_study(tmp_path), *dask)
    assert message == (
        "error: --scheduler-address 127.0.0.1:9: no scheduler answers within 0.2 s; "
        "start one with: dask scheduler\n"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--executor dask", "--executor dask needs --scheduler-address HOST:PORT"),
        ("--scheduler-address a:1", "--scheduler-address a:1 is for --executor dask"),
        ("--executor dask --scheduler-address a:1 --jobs 2", "--jobs 2 is for --executor local"),
        ("--executor ray", "invalid choice: 'ray' (choose from 'local', 'dask')"),
        ("--executor dask --scheduler-address host", "host: expected HOST:PORT"),
        ("--executor dask --scheduler-address http://a:1", "http://a:1: expected HOST:PORT"),
    ],
)
def test_options_that_do_not_go_together(
    options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path)
    process = start_cli("small.yaml", *options.split(), cwd=tmp_path)
    output, message = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert message.startswith("error: ")
    assert words in message
    assert os.listdir(tmp_path) == ["small.yaml"]


def test_only_simulations_go_to_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    dask = ("--executor", "dask", "--scheduler-address", "127.0.0.1:9")
    assert run_cli("a100_bounds", *dask) == 2
    assert capsys.readouterr().err == "error: --executor dask is for studies of kind serving\n"


def test_missing_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    dask = ("--executor", "dask", "--scheduler-address", "127.0.0.1:9")
    message = refused(capsys, tmp_path, write_study(tmp_path), *dask)
    assert "needs the package distributed: pip install '.[dask]' in the checkout" in message


def test_a_worker_gives_back_a_whole_piece_and_leaves_nothing(tmp_path: Path) -> None:
    run = some_run(tmp_path)
    identity = run_identity(run.study, run.seed, run.draw)
    (tmp_path / "piece").write_bytes(cluster._simulate(run, identity, ()))
    assert read_piece(tmp_path / "piece").metrics["finished"] == 20
    assert not run.path.parent.exists()


def test_a_worker_with_other_code_refuses(tmp_path: Path) -> None:
    run = some_run(tmp_path)
    identity = run_identity(run.study, run.seed, run.draw) | {"code": "x", "versions": "y"}
    with pytest.raises(RunError, match=r"seed 0: a worker has other code, versions than this"):
        cluster._simulate(run, identity, ())


def test_a_worker_without_the_trace_says_so(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n")
    text = "model: opt-125m\ncluster: {gpu: t4}\nengine: {dtype: float16}\n"
    path = write_study(tmp_path, text + "workload: {trace: trace.csv}\nsweep: {}\n")
    run = runs_of(prepare(read_raw(path)), tmp_path)[0]
    identity = run_identity(run.study, run.seed)
    trace.unlink()
    with pytest.raises(RunError, match=r"seed 0: on a worker: .*No such file.*trace.csv"):
        cluster._simulate(run, identity, ())


def failing(error: BaseException, status: str = "running") -> tuple[Cluster, SimpleNamespace]:
    def result() -> None:
        raise error

    client = SimpleNamespace(status=status)
    return Cluster(client, "host:1"), SimpleNamespace(result=result)


def test_what_a_cluster_can_do_to_a_run_is_told_in_a_line(tmp_path: Path) -> None:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    run = some_run(tmp_path)
    unknown = RuntimeError("deserialization")
    unknown.__cause__ = ModuleNotFoundError("No module named 'experiments'", name="experiments")
    for error, status, words in (
        (KilledWorker("key", "worker", 3), "running", "seed 0: lost with every worker"),
        (CancelledError(), "running", "seed 0: cancelled"),
        (CancelledError(), "closed", "the scheduler at host:1 is gone"),
        (unknown, "running", "the cluster at host:1 cannot import experiments, expected this"),
    ):
        there, future = failing(error, status)
        with pytest.raises(RunError, match=words):
            there._outcome(future, run)
    there, future = failing(RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        there._outcome(future, run)
