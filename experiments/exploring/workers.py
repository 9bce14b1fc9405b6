"""Processes that simulate for the live page, and end with it, however it ends."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from experiments.running.local import run_one
from experiments.running.pieces import is_whole
from experiments.running.sweep import Run
from experiments.study.errors import RunError

MOST_KEPT = 500
"""Runs whose outcome is kept for when they are asked again."""
MOST_CPU_S = 60.0
"""Of one run: what takes longer is for ``headroom run``."""
LOOK_S = 0.03
"""CPU time after which a run looks whether somebody still waits for it."""


class Workers:
    """Simulates runs side by side; whoever asks first is served first, a seed at a time."""

    def __init__(self, jobs: int, folder: Path) -> None:
        self.folder = folder
        parent = os.getpid()
        self._pool = ProcessPoolExecutor(
            jobs, get_context("fork"), initializer=_leave_with, initargs=(parent,)
        )
        for _ in self._pool.map(_warm, range(jobs)):  # forked now, before there are threads
            pass
        self._turns = asyncio.Semaphore(jobs)
        self._kept: OrderedDict[Path, None] = OrderedDict()
        self._under_way: dict[Path, asyncio.Future[None]] = {}
        self._waiting: Counter[Path] = Counter()

    @property
    def busy(self) -> int:
        """Runs under way, whether or not somebody still waits for them."""
        return len(self._under_way)

    def has(self, run: Run) -> bool:
        """Whether the piece of a run is there already."""
        return run.path in self._kept and is_whole(run.path)

    async def run(self, run: Run) -> None:
        """Leave the piece of a run behind.

        A turn lasts as long as its run, and a run that nobody waits for any more is stopped:
        whoever has gone leaves no queue behind.

        Raises:
            StudyError, RunError: as ``run_one``.
        """
        while not self.has(run):
            under_way = self._under_way.get(run.path)
            if under_way is None:
                await self._turns.acquire()
                self._begin(run)
            elif abandoned(run).exists():  # it is being stopped
                await asyncio.wait([under_way])
            else:
                await self._wait(run)
                break
        self._kept[run.path] = None
        self._kept.move_to_end(run.path)
        while len(self._kept) > MOST_KEPT:
            old, _ = self._kept.popitem(last=False)
            for path in (old, old.with_suffix(".sha256")):
                path.unlink(missing_ok=True)

    async def _wait(self, run: Run) -> None:
        """Wait for a run, and stop it if that was the last who did."""
        self._waiting[run.path] += 1
        try:
            await asyncio.shield(self._under_way[run.path])
        finally:
            self._waiting[run.path] -= 1
            if not self._waiting[run.path]:
                del self._waiting[run.path]
                if run.path in self._under_way:
                    abandoned(run).touch()

    def _begin(self, run: Run) -> None:
        """Give a turn to a run; it is given back when the run ends."""
        if run.path in self._under_way:  # somebody else was first while we waited
            self._turns.release()
            return
        loop = asyncio.get_running_loop()
        try:
            begun = loop.run_in_executor(self._pool, bounded, run, MOST_CPU_S)
        except RuntimeError:  # the pool is closed, or a worker was killed
            self._turns.release()
            raise
        self._under_way[run.path] = begun

        def ended(done: asyncio.Future[None]) -> None:
            del self._under_way[run.path]
            abandoned(run).unlink(missing_ok=True)
            self._turns.release()
            if not done.cancelled():
                done.exception()  # nobody may be left to hear of it

        begun.add_done_callback(ended)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list((self._pool._processes or {}).values()):
            process.terminate()


def bounded(run: Run, most_cpu_s: float) -> None:
    """Leave the piece of a run behind, or stop it.

    Raises:
        StudyError, RunError: as ``run_one``; or it takes more CPU than that, or nobody waits for
            it any more.
    """
    began_s, gone = time.process_time(), abandoned(run)

    def look(*_: object) -> None:
        if time.process_time() - began_s >= most_cpu_s:
            raise RunError(f"it takes more than {most_cpu_s:g} s of CPU: too long for this page")
        if gone.exists():
            raise RunError("nobody waits for it any more")

    before = signal.signal(signal.SIGVTALRM, look)
    each_s = min(LOOK_S, most_cpu_s)
    signal.setitimer(signal.ITIMER_VIRTUAL, each_s, each_s)
    try:
        run_one(run)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def abandoned(run: Run) -> Path:
    """Return the file that tells a worker that nobody waits for a run any more."""
    return run.path.with_suffix(".gone")


def _warm(_: int) -> None:
    import experiments.running.pieces  # noqa: F401

    time.sleep(0.05)  # so that each of them gets one


def _leave_with(parent: int) -> None:
    """Let a worker end when whoever started it is gone, even if it was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
