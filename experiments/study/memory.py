"""How much this machine holds, and what that allows: known before anything is made."""

import resource
from contextlib import suppress
from pathlib import Path

from experiments.study.errors import show
from model.counts import count_of

REQUEST_BYTES = 300
"""Of a run at its peak, for each request: columns, outcomes, and those of the table of requests."""
PROGRAM_BYTES = 2**28
"""Of this program with its libraries, before it does anything."""
MOST_RUNS = 100_000
"""Of one study: each leaves a file behind until the results are whole."""


def memory_bytes() -> int:
    """Return the memory that a process may have: the machine's, a container's, or a limit."""
    limits = [2**40]
    with suppress(OSError, ValueError, IndexError):
        words = Path("/proc/meminfo").read_text(encoding="ascii").split()
        limits.append(int(words[1]) * 1024)
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int(Path(name).read_text(encoding="ascii")))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


def most_requests() -> int:
    """Return how many requests a run may have."""
    return max(10_000, (memory_bytes() - PROGRAM_BYTES) // REQUEST_BYTES)


def too_many_runs(points: int, draws: int, seeds: int) -> str:
    """Say that a study has too many runs; nothing if it has not."""
    runs = points * max(1, draws) * seeds
    if runs <= MOST_RUNS:
        return ""
    drawn = f" x {draws} calibration_draws" if draws else ""
    return (
        f"seeds = {show(seeds)}: {count_of(points, 'point')}{drawn} x {count_of(seeds, 'seed')} "
        f"are {runs:,} runs, expected at most {MOST_RUNS:,}"
    )
