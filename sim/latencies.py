"""Latencies of requests, from their columns: of a run, or as they lie in a file."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.result import REJECTED, TIMED_OUT, Result
from sim.steady_state import arrived
from sim.tape import Column

Floats = npt.NDArray[np.float64]

SPANS = {
    "ttft": ("sent_s", "first_token_s"),
    "tpot": ("first_token_s", "finish_s"),
    "e2e": ("sent_s", "finish_s"),
    "queue": ("reached_s", "first_scheduled_s"),
}
"""From where to where the latencies of requests reach; TPOT is this over its tokens."""

COLUMNS = (*dict.fromkeys(end for span in SPANS.values() for end in span), "status")
"""What they are computed from, and ``output_tokens``."""


def request_latencies(result: Result) -> dict[str, Floats]:
    """Every ``request_latency`` by its name."""
    return {name: request_latency(result, name) for name in SPANS}


def request_latency(result: Result, name: str) -> Floats:
    """Seconds of ``ttft``, ``tpot``, ``e2e`` or ``queue``, one row per request.

    NaN where there is none: rejected, timed out or never arrived, and TPOT of one-token outputs.
    +inf where an accepted request did not come that far.
    """
    seconds = latency(result.requests, name)
    seconds[~arrived(result)] = np.nan
    return seconds


def latency(columns: Mapping[str, Column], name: str) -> Floats:
    """``request_latency`` of requests that arrived, from their columns."""
    begin, end = SPANS[name]
    absent = np.isin(columns["status"], (REJECTED, TIMED_OUT))
    seconds: Floats = columns[end] - columns[begin]
    if name == "tpot":
        later = columns["output_tokens"] - 1
        absent |= later == 0
        seconds /= np.maximum(later, 1, out=later)
    seconds[np.isnan(seconds)] = np.inf
    seconds[absent] = np.nan
    return seconds
