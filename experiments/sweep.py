"""Runs every run of a plan that is not finished yet, on many cores."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from experiments.errors import Problem, RunError, StudyError
from experiments.grid import Setting
from experiments.identity import run_key
from experiments.pieces import is_whole, simulate_to
from experiments.plan import Plan
from experiments.study import Study


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation: a point with a draw and a seed, and the file of its outcome."""

    point: int
    label: str
    """The point in words: ``point 2 (engine.block_size=32), seed 0``."""
    seed: int
    study: Study
    path: Path
    draw: int | None = None
    """Which of the drawn calibrations prices it; None: the calibration as it is."""

    @property
    def identity(self) -> dict[str, int]:
        """The columns that tell this run from the others: the draw only where there are some."""
        drawn = {} if self.draw is None else {"draw": self.draw}
        return {"point": self.point, **drawn, "seed": self.seed}


def runs_of(plan: Plan, folder: Path) -> list[Run]:
    """Return every run in the order of the tables: by point, then by draw, then by seed."""
    found = []
    for point in plan.points:
        values = Setting(point.values, {}).label()
        about = f"point {point.number} ({values})" if values else f"point {point.number}"
        for draw, seed in product(point.draws, point.seeds):
            which = f"seed {seed}" if draw is None else f"draw {draw}, seed {seed}"
            path = folder / f"{run_key(point.study, seed, draw)}.parquet"
            found.append(Run(point.number, f"{about}, {which}", seed, point.study, path, draw))
    return found


def unfinished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs without a whole piece."""
    return [run for run in runs if not is_whole(run.path)]


def execute(runs: list[Run], jobs: int, done: Callable[[Run], None]) -> None:
    """Simulate ``runs``, ``jobs`` at a time; ``done`` is told of each as it ends.

    With one job, or one run, everything happens in this process. Pieces do not depend on ``jobs``.

    Raises:
        StudyError: a run refused its input; the message names the point.
        RunError: a worker was killed, or memory ran out.
    """
    if jobs == 1 or len(runs) < 2:
        for run in runs:
            done(run_one(run))
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    workers = min(jobs, len(runs))
    try:
        parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
        for run in parallel(delayed(_in_worker)(run, os.getpid()) for run in runs):
            done(run)
    except BrokenProcessPool:
        raise RunError(
            f"a worker process was killed, perhaps for want of memory with --jobs {jobs}"
        ) from None
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _in_worker(run: Run, parent: int) -> Run:
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(parent)
    return run_one(run)


@cache
def _end_with(parent: int) -> None:
    """End this worker when the sweep is killed: nobody else would, and it holds pipes open."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_one(run: Run) -> Run:
    """Simulate one run and keep its piece; errors name the point."""
    try:
        simulate_to(run.path, run.study, run.seed, run.draw)
    except ValueError as error:
        raise StudyError([Problem(run.label, str(error))]) from error
    except MemoryError:
        raise RunError(f"{run.label}: out of memory") from None
    except Exception as error:
        error.add_note(f"while simulating {run.label}")
        raise
    return run


def default_jobs() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
