"""Measures one benchmark in a process of its own, so that its peak memory is its own.

Times are CPU seconds of that process, which has one thread: other work on the machine moves them
less than it moves the clock on the wall.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import simpy

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "experiments.run")
FEW = 100_000
"""Up to so many requests, the best of three runs counts."""
SMALLEST_STUDY = """\
model: opt-125m
cluster: {gpu: t4}
engine: {dtype: float16}
workload:
  arrivals: {process: poisson, rate_per_s: 20}
  lengths:
    prompt: {distribution: uniform, min: 10, max: 60}
    output: {distribution: uniform, min: 2, max: 30}
  num_requests: 20
"""


def bare_timeout_s(count: int = 300_000) -> float:
    """Seconds of one ``yield env.timeout(1)`` of a bare SimPy process: the best of three."""

    def process(env: simpy.Environment) -> Generator[simpy.Event, Any, None]:
        for _ in range(count):
            yield env.timeout(1.0)

    def run() -> None:
        env = simpy.Environment()
        env.process(process(env))
        env.run()

    return min(_timed(run)[0] for _ in range(3)) / count


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.process_time()
    outcome = work()
    return time.process_time() - start, outcome


def _measure(name: str, count: int | None, trace: Path | None) -> dict[str, Any]:
    from benchmarks.workloads import BENCHMARKS, build, rate_of
    from sim.measuring.metrics import summarise
    from sim.measuring.timeline import timeline
    from sim.simulation import simulate

    scenario, requests = build(name, count, trace)
    rate_per_s = rate_of(BENCHMARKS[name], scenario)
    timeout_s = bare_timeout_s()
    seconds, result = _timed(lambda: simulate(scenario, requests))
    for _ in range(2 if len(requests) <= FEW else 0):
        seconds = min(seconds, _timed(lambda: simulate(scenario, requests))[0])
    timeout_s = min(timeout_s, bare_timeout_s())
    metrics_s, (values, _) = _timed(lambda: (summarise(result, scenario), timeline(result)))
    steps = len(result.step_end_s)
    return {
        **_figures(name, len(requests), steps, seconds, timeout_s),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "metrics_s": metrics_s,
        "offered_per_s": rate_per_s,
        "saturated": values["saturated"],
        "busy_share": values["busy_share"],
        "timeout_us": timeout_s * 1e6,
        "preemptions_per_request": float(result.requests["preemptions"].mean()),
    }


def _growth(name: str, count: int, trace: Path | None) -> list[dict[str, Any]]:
    from benchmarks.workloads import BATCHES, SHORTER, build
    from sim.simulation import simulate

    tens = (10**power for power in range(3, 9))
    changes: list[dict[str, Any]] = [
        *({"requests": number} for number in tens if number < count),
        *({"max_num_seqs": limit} for limit in BATCHES),
        *({"output_share": share} for share in SHORTER),
    ]
    rows = []
    for change in changes:
        varied = {"requests": min(count, 10_000), **change}
        scenario, requests = build(name, varied.pop("requests"), trace, **varied)
        timeout_s = bare_timeout_s(100_000)
        runs = [_timed(partial(simulate, scenario, requests)) for _ in range(3)]
        seconds, result = min(runs, key=lambda run: run[0])
        steps = result.steps() if len(requests) <= FEW else None
        del runs
        batch = (
            float("nan") if steps is None else float((steps["decodes"] + steps["chunks"]).mean())
        )
        rows.append(
            {
                **_figures(name, len(requests), len(result.step_end_s), seconds, timeout_s),
                "change": change,
                "batch": batch,
                "output_tokens": float(requests.output_tokens.mean()),
            }
        )
    return rows


def _figures(
    name: str, requests: int, steps: int, seconds: float, timeout_s: float
) -> dict[str, Any]:
    return {
        "workload": name,
        "requests": requests,
        "seconds": seconds,
        "requests_per_s": requests / seconds,
        "steps": steps,
        "steps_per_s": steps / seconds,
        "timeouts_per_request": seconds / requests / timeout_s,
        "timeouts_per_step": seconds / steps / timeout_s,
    }


def measure(name: str, count: int | None = None, trace: Path | None = None) -> dict[str, Any]:
    """Run benchmark ``name`` with ``count`` requests in a fresh process; return its figures."""
    return _apart(_measure, name, count, trace)


def whole_process(name: str, count: int, rate_per_s: float, trace: Path | None) -> dict[str, float]:
    """Run a benchmark as a study, ``python -m experiments.run``, as users do.

    Everything counts: starting Python, checking, simulating, measuring, tables, pictures, report.
    """
    from benchmarks.workloads import study

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name.lower()}.yaml"
        path.write_text(json.dumps(study(name, count, rate_per_s, trace)), encoding="utf-8")
        options = (str(path), "--jobs", "1", "--out", str(Path(folder) / "out"))
        seconds, peak_mib = process_cost(*options)
    return {"process_s": seconds, "process_mib": peak_mib, "process_per_s": count / seconds}


def growth(name: str, count: int, trace: Path | None = None) -> list[dict[str, Any]]:
    """Cost of benchmark ``name`` with fewer requests, smaller batches, shorter outputs.

    In a fresh process, with at most ``count`` requests.
    """
    return _apart(_growth, name, count, trace)


def _apart(function: Callable[..., T], *arguments: object) -> T:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def help_s() -> float:
    """CPU seconds of ``python -m experiments.run --help``, the best of three."""
    return min(_cpu_s("--help") for _ in range(3))


def smallest_study_s() -> float:
    """CPU seconds of a study of one point and 20 requests, tables and pictures included."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "smallest.yaml"
        study.write_text(SMALLEST_STUDY, encoding="utf-8")
        options = (str(study), "--jobs", "1", "--out", str(Path(folder) / "out"))
        return min(_cpu_s(*options) for _ in range(3))


def _cpu_s(*options: str) -> float:
    return process_cost(*options)[0]


def process_cost(*options: str) -> tuple[float, float]:
    """CPU seconds and peak memory, MiB, of ``python -m experiments.run``; it must end well.

    It may write byte code, and finds what an earlier one wrote, whatever this process may do.
    """
    command = (*COMMAND, *options)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {told.read().decode(errors='replace')}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
