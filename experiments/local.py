"""Runs on the cores of this machine: many at a time, or one long one split over its replicas."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from experiments.build import independent_replicas, requests_of, scenario_of, stop_of
from experiments.errors import RunError
from experiments.pieces import keep, simulate_to
from experiments.study import Study
from experiments.sweep import Done, Run, named_errors
from sim.recording import Part
from sim.simulation import simulate_part, whole
from sim.tape import Scratch

LONG = 300_000
"""Requests of a run that takes longer than starting processes to share it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Local:
    """Up to ``jobs`` processes. Results do not depend on how many."""

    jobs: int

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of how a study was run."""
        return {"executor": "local", "jobs": self.jobs}

    def run(self, runs: list[Run], done: Done) -> None:
        """Simulate ``runs``; ``done`` is told of each as it ends.

        With one job, or one run, everything happens in this process. When there are fewer runs than
        jobs, long ones of replicas that know nothing of each other are split.

        Raises:
            StudyError: a run refused its input; the message names the point.
            RunError: a worker was killed, or memory ran out.
        """
        few = len(runs) < self.jobs
        split = [run for run in runs if few and _is_worth_splitting(run)]
        rest = [run for run in runs if run not in split]
        for run in split:
            with named_errors(run):
                _simulate_split(run, self.jobs)
            done(run)
        if self.jobs == 1 or len(rest) < 2:
            for run in rest:
                done(run_one(run))
            return
        for run in _parallel(run_one, ((run,) for run in rest), min(self.jobs, len(rest))):
            done(run)


def _is_worth_splitting(run: Run) -> bool:
    if independent_replicas(run.study) == 1:
        return False
    return len(requests_of(run.study, run.seed)) >= LONG


def run_one(run: Run) -> Run:
    """Simulate one run and keep its piece; errors name the point."""
    with named_errors(run):
        simulate_to(run.path, run.study, run.seed, run.draw)
    return run


def default_jobs() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _simulate_split(run: Run, jobs: int) -> None:
    """Simulate a run with its replicas in several processes; the piece is the same to the bit."""
    replicas = range(run.study.cluster.replicas)
    groups = [replicas[first::jobs] for first in range(min(jobs, len(replicas)))]
    with TemporaryDirectory(dir=run.path.parent) as folder:
        tasks = ((run.study, run.seed, run.draw, group, Path(folder)) for group in groups)
        parts = list(_parallel(_part, tasks, len(groups)))
        scenario = scenario_of(run.study, run.seed, run.draw)
        result = whole(scenario, requests_of(run.study, run.seed), parts, stop_of(run.study))
    keep(run.path, result, scenario, run.study)


def _part(point: Study, seed: int, draw: int | None, replicas: range, folder: Path) -> Part:
    scenario, requests = scenario_of(point, seed, draw), requests_of(point, seed)
    scratch = Scratch(folder, shared=True)
    return simulate_part(scenario, requests, replicas, stop_of(point), scratch)


def _parallel(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[T]:
    """Call ``function`` with each of ``tasks`` in other processes; yield results as they come.

    Raises:
        RunError: a worker was killed.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    call = delayed(_in_worker)
    try:
        parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
        yield from parallel(call(function, task, os.getpid()) for task in tasks)
    except BrokenProcessPool:
        raise RunError(
            f"a worker process was killed, perhaps for want of memory with {workers} at a time"
        ) from None
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _in_worker(function: Callable[..., T], task: tuple[Any, ...], parent: int) -> T:
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(parent)
    return function(*task)


@cache
def _end_with(parent: int) -> None:
    """End this worker when the sweep is killed: nobody else would, and it holds pipes open."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
