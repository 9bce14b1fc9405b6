"""Measurements that cannot be: of another unit, out of order, or below zero."""

from collections.abc import Mapping
from itertools import pairwise

LEAST_MS = {"ttft": 1.0, "e2e": 1.0, "tpot": 0.1}
"""No server is faster in the mean: less is a time in seconds. Gaps between messages (ITL) may be 0,
as tokens that come together have none."""
RISING = ("p50", "p90", "p95", "p99")


def strange(measured: Mapping[str, float]) -> str | None:
    """Return what is wrong with a row's measurements, by column; None if nothing is.

    Args:
        measured: by column, latencies in ms.
    """
    for column, value in measured.items():
        if value < 0:
            return f"column {column} = {value:g}: expected a number above 0"
        latency = column.partition("_")[0]
        if column.endswith("_mean_ms") and 0 < value < LEAST_MS.get(latency, 0.0):
            return (
                f"column {column} = {value:g}: less than any server takes, expected milliseconds "
                f"(a time in seconds: {column[:-2]}s)"
            )
    for latency in ("ttft", "tpot", "itl", "e2e"):
        known = [f"{latency}_{one}_ms" for one in RISING if f"{latency}_{one}_ms" in measured]
        for lower, upper in pairwise(known):
            if measured[lower] > measured[upper]:
                return (
                    f"column {lower} = {measured[lower]:g} is above {upper} = "
                    f"{measured[upper]:g}, expected percentiles that rise"
                )
    return None
