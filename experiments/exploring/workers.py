"""Processes that simulate for the live page, and end with it, however it ends."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType

from experiments.exploring.nursery import context
from experiments.exploring.turns import Turns
from experiments.running.local import run_one
from experiments.running.pieces import is_whole
from experiments.running.sweep import Run
from experiments.study.errors import RunError
from experiments.study.plugins import Plugin, allowed, given_plugins

MOST_KEPT = 500
"""Runs whose outcome is kept for when they are asked again."""
MOST_CPU_S = 60.0
"""Of one run: what takes longer is for ``headroom run``."""
KILLED = (
    "two worker processes were killed while they simulated this, perhaps for want of memory: "
    "the next move is simulated by a new one"
)
ENDED = "the server has ended: headroom explore starts another one"
LOOK_S = 0.03
"""CPU time after which a run looks whether somebody still waits for it."""
IMPORTING = "<frozen importlib"
"""How the file of Python's own importing code begins."""


class Workers:
    """Simulates runs side by side; viewers take turns, a seed at a time.

    Each worker is a pool of its own, so that one that is killed takes no other run with it.
    """

    def __init__(self, jobs: int, folder: Path) -> None:
        self.folder = folder
        self._pools = [_worker() for _ in range(jobs)]
        self._idle = list(range(jobs))
        self._turns = Turns(jobs)
        self._kept: OrderedDict[Path, None] = OrderedDict()
        self._under_way: dict[Path, asyncio.Future[bool]] = {}
        self._waiting: Counter[Path] = Counter()
        self._closed = False

    @property
    def busy(self) -> int:
        """Runs under way, whether or not somebody still waits for them."""
        return len(self._under_way)

    def has(self, run: Run) -> bool:
        """Whether the piece of a run is there already."""
        return run.path in self._kept and is_whole(run.path)

    async def run(self, run: Run, viewer: str = "") -> bool:
        """Leave the piece of a run behind; tell whether it had to be begun again.

        A turn lasts as long as its run, and a run that nobody waits for any more is stopped:
        whoever has gone leaves no queue behind.

        Raises:
            StudyError: as ``run_one``.
            RunError: as ``run_one``; or a second worker was killed, too.
        """
        again = False
        while not self.has(run):
            under_way = self._under_way.get(run.path)
            if under_way is None:
                await self._turns.take(viewer)
                self._begin(run, viewer)
            elif abandoned(run).exists():  # it is being stopped
                await asyncio.wait([under_way])
            else:
                again = await self._wait(run)
                break
        self._kept[run.path] = None
        self._kept.move_to_end(run.path)
        while len(self._kept) > MOST_KEPT:
            old, _ = self._kept.popitem(last=False)
            old.unlink(missing_ok=True)
        return again

    async def _wait(self, run: Run) -> bool:
        """Wait for a run, and stop it if that was the last who did."""
        self._waiting[run.path] += 1
        try:
            return await asyncio.shield(self._under_way[run.path])
        finally:
            self._waiting[run.path] -= 1
            if not self._waiting[run.path]:
                del self._waiting[run.path]
                if run.path in self._under_way:
                    abandoned(run).touch()

    def _begin(self, run: Run, viewer: str) -> None:
        """Give a viewer's turn to a run; it is given back when the run ends."""
        if run.path in self._under_way or self.has(run):  # somebody was first while we waited
            self._turns.give(viewer)
            return
        begun = self._under_way[run.path] = asyncio.ensure_future(self._simulated(run))

        def ended(done: asyncio.Future[bool]) -> None:
            """Forget the run and give the turn back."""
            del self._under_way[run.path]
            abandoned(run).unlink(missing_ok=True)
            self._turns.give(viewer)
            if not done.cancelled():
                done.exception()  # nobody may be left to hear of it

        begun.add_done_callback(ended)

    async def _simulated(self, run: Run) -> bool:
        """Simulate a run in an idle worker, in a new one if that is killed; tell if it was."""
        loop, place, own = asyncio.get_running_loop(), self._idle.pop(), given_plugins()
        try:
            for again in (False, True):
                if self._closed:
                    raise RunError(ENDED)
                try:
                    await loop.run_in_executor(self._pools[place], bounded, run, MOST_CPU_S, own)
                except BrokenProcessPool:
                    self._pools[place].shutdown(wait=False)
                    if not self._closed:
                        self._pools[place] = _worker()
                else:
                    return again
            raise RunError(ENDED if self._closed else KILLED)
        finally:
            self._idle.append(place)

    def close(self) -> None:
        """End the processes; what they simulate fails, and so does what is begun after that."""
        self._closed = True
        for pool in self._pools:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


def _worker() -> ProcessPoolExecutor:
    """Return a worker; its process starts with its first run."""
    return ProcessPoolExecutor(1, context(), initializer=_leave_with_server)


def bounded(run: Run, most_cpu_s: float, own: tuple[Plugin, ...] = ()) -> None:
    """Leave the piece of a run behind, or stop it; its study may name classes of ``own`` modules.

    Raises:
        StudyError, RunError: as ``run_one``; or it takes more CPU than that, or nobody waits for
            it any more.
    """
    began_s, gone = time.process_time(), abandoned(run)

    def look(_: int, frame: FrameType | None) -> None:
        """Stop the run where it may be stopped. Raises RunError."""
        if not _may_stop(frame):
            return  # until the next look
        if time.process_time() - began_s >= most_cpu_s:
            raise RunError(f"it takes more than {most_cpu_s:g} s of CPU: too long for this page")
        if gone.exists():
            raise RunError("nobody waits for it any more")

    before = signal.signal(signal.SIGVTALRM, look)
    each_s = min(LOOK_S, most_cpu_s)
    signal.setitimer(signal.ITIMER_VIRTUAL, each_s, each_s)
    try:
        with allowed(own):
            run_one(run)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _may_stop(frame: FrameType | None) -> bool:
    """Whether a run may be stopped at a place: inside it, and not where a module is imported.

    A module that is left half imported would be missing to every later run of its worker.
    """
    while frame is not None and frame.f_code is not run_one.__code__:
        if frame.f_code.co_filename.startswith(IMPORTING):
            return False
        frame = frame.f_back
    return frame is not None


def abandoned(run: Run) -> Path:
    """Return the file that tells a worker that nobody waits for a run any more."""
    return run.path.with_suffix(".gone")


def _leave_with_server() -> None:
    """Let a worker end when the server is gone, even if that was killed; Ctrl-C is the server's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = parent_process()
    assert server is not None  # this is a worker

    def watch() -> None:
        """Wait for the server to end."""
        server.join()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
