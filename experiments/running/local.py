"""Runs on the cores of this machine: many at a time, or one long one split over its replicas."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from experiments.running.freed_memory import keep_freed_memory
from experiments.running.pieces import keep, simulate_to
from experiments.running.sweep import Begun, Done, Run, named_errors
from experiments.running.work_folder import parts_folder
from experiments.running.workers import in_parallel
from experiments.study.build import independent_replicas, scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of, stop_of
from model.dataclass import dataclass
from sim.recording.run import Part
from sim.recording.tape import Scratch
from sim.simulation import simulate_part, whole

LONG = 200_000
"""Requests of a run that takes longer than starting processes to share it."""


@dataclass(frozen=True, slots=True)
class Local:
    """Up to ``jobs`` processes. Results do not depend on how many."""

    jobs: int

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of how a study was run."""
        return {"executor": "local", "jobs": self.jobs}

    def run(self, runs: list[Run], done: Done, begun: Begun) -> None:
        """Simulate ``runs``; ``done`` is told of each as it ends.

        When there are fewer runs than jobs, long ones of replicas that know nothing of each other
        are split. Otherwise with one job, or one run, everything happens in this process.

        Raises:
            StudyError: a run refused its input; the message names the point.
            RunError: a worker was killed, or memory ran out.
        """
        few = len(runs) < self.jobs
        split = [run for run in runs if few and _is_worth_splitting(run)]
        rest = [run for run in runs if run not in split]
        for run in split:
            with named_errors(run):
                _simulate_split(run, self.jobs, begun)
            done(run)
            begun = _nothing  # it has been told
        if self.jobs > 1 and len(rest) > 1:
            tasks = ((run,) for run in rest)
            workers = in_parallel(run_one, tasks, min(self.jobs, len(rest)), begun)
            with closing(workers):  # also if ``done`` fails
                for run in workers:
                    done(run)
        else:
            begun()
            for run in rest:
                done(run_one(run))


def _is_worth_splitting(run: Run) -> bool:
    if independent_replicas(run.study) == 1:
        return False
    return len(requests_of(run.study, run.seed)) >= LONG


def run_one(run: Run) -> Run:
    """Simulate one run and keep its piece; errors name the point."""
    keep_freed_memory()
    with named_errors(run):
        simulate_to(run.path, run.study, run.seed, run.draw, run.columns)
    return run


def default_jobs() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nothing() -> None:
    """Done already."""


def _simulate_split(run: Run, jobs: int, begun: Begun) -> None:
    """Simulate a run with its replicas in several processes; the piece is the same to the bit."""
    keep_freed_memory()
    replicas = range(run.study.cluster.all_replicas)
    groups = [replicas[first::jobs] for first in range(min(jobs, len(replicas)))]
    with parts_folder(run.path.parent) as folder:
        tasks = ((run.study, run.seed, run.draw, group, folder) for group in groups)
        parts = list(in_parallel(_part, tasks, len(groups), begun))
        scenario = scenario_of(run.study, run.seed, run.draw)
        result = whole(scenario, requests_of(run.study, run.seed), parts, stop_of(run.study))
    keep(run.path, result, scenario, run.study, run.columns)


def _part(point: Study, seed: int, draw: int | None, replicas: range, folder: Path) -> Part:
    scenario, requests = scenario_of(point, seed, draw), requests_of(point, seed)
    scratch = Scratch(folder, shared=True)
    return simulate_part(scenario, requests, replicas, stop_of(point), scratch)
