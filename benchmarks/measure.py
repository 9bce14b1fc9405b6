"""Measures one benchmark in a process of its own, so that its peak memory is its own."""

import resource
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import simpy


def bare_timeout_s(count: int = 300_000) -> float:
    """Seconds of one ``yield env.timeout(1)`` of a bare SimPy process: the best of three."""

    def process(env: simpy.Environment):  # type: ignore[no-untyped-def]
        for _ in range(count):
            yield env.timeout(1.0)

    best = float("inf")
    for _ in range(3):
        env = simpy.Environment()
        env.process(process(env))
        start = time.perf_counter()
        env.run()
        best = min(best, time.perf_counter() - start)
    return best / count


def _measure(name: str, count: int | None, trace: Path | None) -> dict[str, float | str]:
    from benchmarks.workloads import build
    from sim.simulation import simulate

    scenario, requests = build(name, count, trace)
    timeout_s = bare_timeout_s()
    start = time.perf_counter()
    result = simulate(scenario, requests)
    seconds = time.perf_counter() - start
    timeout_s = min(timeout_s, bare_timeout_s())
    rows, steps = len(requests), len(result.step_end_s)
    return {
        "workload": name,
        "requests": rows,
        "seconds": seconds,
        "requests_per_s": rows / seconds,
        "steps": steps,
        "steps_per_s": steps / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "timeouts_per_request": seconds / rows / timeout_s,
        "timeouts_per_step": seconds / steps / timeout_s,
        "timeout_us": timeout_s * 1e6,
        "preemptions_per_request": float(result.requests["preemptions"].mean()),
    }


def measure(name: str, count: int | None = None, trace: Path | None = None) -> dict[str, Any]:
    """Run benchmark ``name`` with ``count`` requests in a fresh process; return its figures."""
    with get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(_measure, (name, count, trace)))


def start_up_s() -> dict[str, float]:
    """CPU seconds of ``python -m experiments.run --help``, best of three."""
    import subprocess
    import sys

    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "experiments.run", "--help"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best, spent)
    return {"help_cpu_s": best}
