"""Latencies of requests and tokens: what they are, from columns of a run or a file; statistics."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from sim.measuring.percentiles import PERCENTS, percentiles
from sim.measuring.steady_state import Window, arrived
from sim.measuring.token_gaps import token_gaps
from sim.measuring.weighted import weighted_statistics
from sim.recording.result import REJECTED, TIMED_OUT, Result
from sim.recording.tape import Column

Floats = npt.NDArray[np.float64]

LATENCIES = {
    "ttft": "time to first token: when the client has it, minus when it sent the request",
    "itl": "inter-token latency: gap between two consecutive tokens of a request, every gap alike",
    "tpot": "time per output token: (E2E - TTFT) / (output tokens - 1), of two tokens or more",
    "e2e": "end-to-end latency: when the client has the last token, minus when it sent the request",
    "queue": "queueing delay: start of the first step that worked on the request, minus when it "
    "reached the scheduler",
}
"""The five latencies; each has a mean and the percentiles ``PERCENTS``."""

STATISTICS = {"mean": "mean", **{f"p{percent}": f"{percent}th percentile" for percent in PERCENTS}}

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
    """Every ``request_latency`` by its name: shape (requests,) each, seconds."""
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
    """``request_latency`` of requests that arrived, from their columns: shape (requests,), seconds.

    Args:
        columns: those of ``COLUMNS`` and ``output_tokens``, each of shape (requests,).
        name: a key of ``SPANS``.
    """
    begin, end = SPANS[name]
    status = np.asarray(columns["status"])
    absent = (status == REJECTED) | (status == TIMED_OUT)
    seconds: Floats = columns[end] - columns[begin]
    if name == "tpot":
        later = columns["output_tokens"] - 1
        absent |= later == 0
        seconds /= np.maximum(later, 1, out=later)
    seconds[np.isnan(seconds)] = np.inf
    seconds[absent] = np.nan
    return seconds


def latency_statistics(result: Result, window: Window) -> tuple[dict[str, float], dict[int, int]]:
    """Mean and percentiles of every latency, over the requests and gaps of the window; and how many
    gaps there are by ``sim.measuring.bins.bin_of``, by which runs are pooled."""
    statistics = {}
    present = window.measured & arrived(result)
    for name in SPANS:
        sample = latency(result.requests, name)[present]
        sample = sample[~np.isnan(sample)]
        mean = float(sample.mean()) if len(sample) else float("nan")
        statistics[name] = (mean, percentiles(sample))

    mean, tail, gaps = weighted_statistics(partial(_gaps, result, window))
    statistics["itl"] = mean, tail
    values = {
        f"{name}_{statistic}_s": float(value)
        for name, (mean, tail) in statistics.items()
        for statistic, value in zip(STATISTICS, (mean, *tail), strict=True)
    }
    return values, gaps


def _gaps(result: Result, window: Window) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
    for each in token_gaps(result):
        inside = each.within(window.start_s, window.stop_s)
        yield inside.gap_s, inside.weight
