"""Processes that simulate for the live page, and end with it, however it ends."""

import asyncio
import os
import signal
import threading
import time
from collections import OrderedDict
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

    @property
    def busy(self) -> int:
        """Runs under way, whether or not somebody still waits for them."""
        return len(self._under_way)

    def has(self, run: Run) -> bool:
        """Whether the piece of a run is there already."""
        return run.path in self._kept and is_whole(run.path)

    async def run(self, run: Run) -> None:
        """Leave the piece of a run behind.

        A turn lasts as long as its run, even if nobody waits for it any more: whoever has gone
        leaves no queue behind.

        Raises:
            StudyError, RunError: as ``run_one``.
        """
        if not self.has(run):
            if run.path not in self._under_way:
                await self._turns.acquire()
                self._begin(run)
            await asyncio.shield(self._under_way[run.path])
        self._kept[run.path] = None
        self._kept.move_to_end(run.path)
        while len(self._kept) > MOST_KEPT:
            old, _ = self._kept.popitem(last=False)
            for path in (old, old.with_suffix(".sha256")):
                path.unlink(missing_ok=True)

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
        StudyError, RunError: as ``run_one``; or it takes more CPU than that.
    """

    def stop(*_: object) -> None:
        raise RunError(f"it takes more than {most_cpu_s:g} s of CPU: too long for this page")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, most_cpu_s)
    try:
        run_one(run)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


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
