"""CPU seconds beside a timeout of a bare SimPy process, in proportion to which machines compare."""

import time
from collections.abc import Callable, Sequence

from benchmarks.kept import Row
from benchmarks.measure import bare_timeout_s

TIMEOUT_US = 0.65
"""On the machine that docs/speed.md has costs of routers from."""
TIMEOUTS = 100_000


def timed(measure: Callable[[], Row]) -> Row:
    """Return what is measured with its CPU seconds, and those of a bare timeout beside it."""
    timeout_s = bare_timeout_s(TIMEOUTS)
    began_s = time.process_time()
    row = measure()
    spent_s = time.process_time() - began_s
    timeout_s = min(timeout_s, bare_timeout_s(TIMEOUTS))
    return {**row, "cpu_s": spent_s, "timeout_us": timeout_s * 1e6}


def cost(rows: Sequence[Row]) -> str:
    """Say what a repetition costs, here and in proportion to a bare timeout."""
    spent_s = sum(row["cpu_s"] for row in rows) / len(rows)
    there_s = sum(row["cpu_s"] * TIMEOUT_US / row["timeout_us"] for row in rows) / len(rows)
    timeout_us = sum(row["timeout_us"] for row in rows) / len(rows)
    return (
        f"{spent_s:.1f} CPU-s each, where a bare timeout takes {timeout_us:.2f} us; by proportion "
        f"{there_s:.1f} where it takes {TIMEOUT_US}"
    )
