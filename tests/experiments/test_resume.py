"""A sweep that was killed goes on, and ends in the same bytes as one that was not."""

import errno
import json
import os
import signal
import subprocess
import time
from multiprocessing import active_children
from pathlib import Path

import pytest
from study_files import SMALL, run_cli, start_cli, tables_of, write_study

from experiments.running.folder import results_folder
from experiments.running.local import run_one
from experiments.running.requests_file import RequestsFile
from experiments.running.sealed import SEAL
from experiments.running.sweep import Run, runs_of, unfinished
from experiments.running.work_folder import WORK, held
from experiments.study.document import read_raw
from experiments.study.points import prepare

pytestmark = pytest.mark.usefixtures("without_pictures")

LONG = SMALL.replace("num_requests: 20", "num_requests: 2000").replace(
    "[1, 4]", "[1, 2, 3, 4, 5, 6]"
)
"""Twelve runs that take longer than it takes to kill them."""
ENDLESS = LONG.replace("num_requests: 2000", "num_requests: 20000").replace(
    "[1, 2, 3, 4, 5, 6]", str(list(range(1, 61)))
)
"""Of which nobody waits for the last one."""


def wait_for_pieces(work: Path, count: int, process: "subprocess.Popen[str]") -> list[str]:
    """Wait until so many runs are finished, and return their files."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [path.name for path in work.glob("*.arrow")]
        if len(found) >= count:
            return found
        assert process.poll() is None, "the sweep ended before it could be stopped"
        time.sleep(0.005)
    raise AssertionError(f"{count} runs did not finish within a minute")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of LONG, run without a break."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_cli(write_study(folder, LONG), "--out", folder / "out") == 0
    return tables_of(folder / "out")


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_sweep_goes_on(jobs: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = write_study(tmp_path, LONG)
    process = start_cli(path, "--out", "killed", "--jobs", jobs, "--no-figures", cwd=tmp_path)
    kept = wait_for_pieces(tmp_path / "killed" / WORK, 3, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path / "killed") == [WORK], "results are whole or not there"

    before = {name: (tmp_path / "killed" / WORK / name).stat().st_mtime_ns for name in kept}
    process = start_cli(path, "--out", "killed", "--jobs", jobs, "--no-figures", cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    manifest = json.loads((tmp_path / "killed" / "manifest.json").read_text())
    assert len(before) <= manifest["resumed_runs"] < 12
    assert tables_of(tmp_path / "killed") == whole
    assert sorted(os.listdir(tmp_path)) == ["killed", "small.yaml"]


def test_interrupt_keeps_finished_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = write_study(tmp_path, ENDLESS)
    process = start_cli(path, "--out", "out", "--jobs", 2, "--no-figures", cwd=tmp_path)
    kept = wait_for_pieces(tmp_path / "out" / WORK, 2, process)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message == "interrupted; finished runs are kept, run the same command to go on\n"
    assert set(kept) <= set(os.listdir(tmp_path / "out" / WORK))
    assert os.listdir(tmp_path / "out") == [WORK]


def test_changed_study_uses_no_stale_piece(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    plan = prepare(read_raw(path))
    changed = prepare(read_raw(write_study(tmp_path, SMALL.replace("max: 30", "max: 31"))))
    more = prepare(read_raw(write_study(tmp_path, SMALL.replace("[1, 4]", "[1, 4, 8]"))))
    files = [{run.path.name for run in runs_of(one, tmp_path)} for one in (plan, changed, more)]
    assert not files[0] & files[1]
    assert files[0] < files[2], "a longer sweep keeps what it has"


def test_damaged_pieces_are_noticed_and_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path)
    assert run_cli(path, "--out", tmp_path / "whole") == 0
    place = results_folder(tmp_path / "out")
    runs = runs_of(prepare(read_raw(path)), place.work)
    with held(place.work, place.out):
        for run in runs:
            run_one(run)
    assert not unfinished(runs)
    torn, flipped, unsigned = (run.path for run in runs[:3])
    torn.write_bytes(torn.read_bytes()[:-20])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 3] ^= 1
    flipped.write_bytes(content)
    unsigned.write_bytes(unsigned.read_bytes()[:-SEAL])
    assert [run.path for run in unfinished(runs)] == [torn, flipped, unsigned]
    capsys.readouterr()
    assert run_cli(path, "--out", tmp_path / "out") == 0
    message = capsys.readouterr().err
    for run in runs[:3]:
        assert f"{run.label} was finished but is damaged; simulated again\n" in message
    assert "4 runs, 1 of them from an interrupted call" in message
    assert tables_of(tmp_path / "out") == tables_of(tmp_path / "whole")


def test_killed_worker_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, LONG)
    process = start_cli(path, "--out", "out", "--jobs", 2, "--no-figures", cwd=tmp_path)
    wait_for_pieces(tmp_path / "out" / WORK, 1, process)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 2
    assert message.startswith("error: a worker process was killed")
    assert "run the same command to go on" in message
    assert "Traceback" not in message


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started, from /proc."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("needs Linux's /proc")
    return [int(child) for child in found.read_text().split()]


def test_full_disk_stops_the_workers_and_keeps_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: RequestsFile, run: Run) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path, before = write_study(tmp_path, LONG), set(active_children())
    with monkeypatch.context() as patch:
        patch.setattr(RequestsFile, "_write", full)
        assert run_cli(path, "--out", tmp_path / "out", "--jobs", 2) == 2
    message = capsys.readouterr().err
    assert "No space left on device; finished runs are kept, run the same command" in message
    assert not set(active_children()) - before
    assert sorted(os.listdir(tmp_path)) == ["out", "small.yaml"]
    assert os.listdir(tmp_path / "out") == [WORK]
    assert "requests.growing" not in os.listdir(tmp_path / "out" / WORK)
    assert list((tmp_path / "out" / WORK).glob("*.arrow"))
