"""Measurements that cannot be: of another unit, out of order, or below zero."""

from collections.abc import Mapping
from itertools import pairwise

LEAST_MS = {"ttft": 1.0, "e2e": 1.0, "tpot": 0.1}
"""No server is faster: less is a time in seconds."""
LONGEST_GAP_MS = 0.5
"""Least of the largest figure of gaps between messages (ITL), the median aside: each of them may be
near 0, as tokens that come together have none between them."""
RISING = ("p50", "p90", "p95", "p99")
SLACK = 1.01
"""By which rounded figures may be out of order."""


def strange(measured: Mapping[str, float]) -> str | None:
    """Return what is wrong with a row's measurements, by column; None if nothing is.

    Args:
        measured: by column, latencies in ms.
    """
    for column, value in measured.items():
        if value < 0:
            return f"column {column} = {value:g}: expected a number above 0"
        latency = column.partition("_")[0]
        if column.endswith("_ms") and 0 < value < LEAST_MS.get(latency, 0.0):
            return _of_seconds(column, value)
    gaps = {f"itl_{one}_ms": measured.get(f"itl_{one}_ms", 0.0) for one in ("mean", *RISING[1:])}
    longest = max(gaps, key=gaps.__getitem__)
    if 0 < gaps[longest] < LONGEST_GAP_MS:
        return _of_seconds(longest, gaps[longest])
    for statistic in ("mean", *RISING):
        first, whole = (measured.get(f"{one}_{statistic}_ms") for one in ("ttft", "e2e"))
        if first and whole and whole < first / SLACK:
            return (
                f"column e2e_{statistic}_ms = {whole:g} is below ttft_{statistic}_ms = {first:g}, "
                "expected both in milliseconds, from when the request was sent"
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


def _of_seconds(column: str, value: float) -> str:
    return (
        f"column {column} = {value:g}: less than any server takes, expected milliseconds "
        f"(a time in seconds: {column[:-2]}s)"
    )
