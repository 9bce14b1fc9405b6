"""Worker processes: both ways of starting them, and what becomes of them."""

import os
import signal
import sys
import threading
import time
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from experiments.running import workers
from experiments.running.workers import copies_at_once, in_parallel
from experiments.study.errors import RunError

needs_copies = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process cannot be copied safely"
)


@pytest.fixture(params=[pytest.param(True, marks=needs_copies), False])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are copies of this process, or new interpreters."""
    monkeypatch.setattr(workers, "copies_at_once", lambda: request.param)


@needs_copies
def test_a_process_with_threads_is_not_copied() -> None:
    told = []
    thread = threading.Thread(target=lambda: told.append(copies_at_once()))
    thread.start()
    thread.join()
    assert told == [False]


def squared(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fails(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def is_killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def begins(folder: str, number: int) -> int:
    Path(folder, str(number)).touch()
    if number == 0:
        raise ValueError("zero")
    time.sleep(60)
    return number


@pytest.mark.usefixtures("_either_way")
def test_every_task_is_done_once_by_others() -> None:
    told: list[str] = []
    found = list(in_parallel(squared, ((i,) for i in range(20)), 2, lambda: told.append("begun")))
    assert sorted(square for square, _ in found) == [i**2 for i in range(20)]
    assert os.getpid() not in {worker for _, worker in found}
    assert told == ["begun"]


@pytest.mark.usefixtures("_either_way")
def test_what_goes_wrong_in_a_task_is_raised_here() -> None:
    with pytest.raises(ValueError, match="three"):
        list(in_parallel(fails, ((i,) for i in range(6)), 2))


@pytest.mark.usefixtures("_either_way")
def test_a_killed_worker_is_one_clear_error() -> None:
    with pytest.raises(RunError, match="a worker process was killed, perhaps for want of memory"):
        list(in_parallel(is_killed, ((i,) for i in range(6)), 2))


@needs_copies
def test_nobody_waits_for_the_others_when_a_task_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "copies_at_once", lambda: True)
    started, before = time.monotonic(), set(active_children())
    with pytest.raises(ValueError, match="zero"):
        list(in_parallel(begins, ((str(tmp_path), i) for i in range(4)), 2))
    assert time.monotonic() - started < 30  # each of the others would have slept for a minute
    assert not set(active_children()) - before


@needs_copies
def test_who_leaves_early_leaves_no_worker_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "copies_at_once", lambda: True)
    before = set(active_children())
    results = in_parallel(squared, ((i,) for i in range(500)), 2)
    next(results)
    results.close()
    assert not set(active_children()) - before


def squares_by_others(numbers: int) -> list[int]:
    return sorted(square for square, _ in in_parallel(squared, ((i,) for i in range(numbers)), 2))


@needs_copies
def test_a_process_that_may_have_none_does_it_itself() -> None:
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(squares_by_others, (5,)) == [0, 1, 4, 9, 16]


@needs_copies
def test_workers_do_not_answer_signals_as_their_parent_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "copies_at_once", lambda: True)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        answers = list(in_parallel(handlers, ((),) * 4, 2))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert answers == [(signal.SIG_IGN, signal.SIG_DFL)] * 4


def handlers() -> tuple[object, object]:
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
