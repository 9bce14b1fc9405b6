"""Results of two more benchmark clients: SGLang's bench_serving and inference-perf.

Neither says which model was served: that comes from ``--set model=NAME``.
"""

import math
from collections.abc import Mapping
from typing import Any

from experiments.validation.result_values import (
    Row,
    count,
    lengths,
    mapping,
    number,
    positive,
    spread,
)

DRAFTED = "its server drafted tokens"
"""In the notes of a row whose result counts drafts, and does not say whose they were."""
SGLANG = {"total_output_tokens_retokenized", "mean_e2e_latency_ms", "duration", "completed"}
"""Keys by which SGLang's results are told."""
LEAST_GAP = 0.1
"""Of the mean gap between tokens that the median one takes at least, where tokens were timed."""
EMPTY_GAPS = "TPOT and ITL left out: half of the messages that were timed held no token"
NORMAL_TENTHS = 2.563
"""Standard deviations between the tenth and the ninetieth percentile of a normal law."""
LIFECYCLE = {"load_summary", "successes", "failures"}
"""The same of inference-perf's reports of stages, and of all of them."""
STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
"""Ours, and theirs."""
SGLANG_LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2e_latency"}
LATENCIES = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "itl": "inter_token_latency",
    "e2e": "request_latency",
}


def is_sglang(result: Any) -> bool:
    """Tell whether SGLang's ``bench_serving --output-file`` wrote a result."""
    return isinstance(result, dict) and {*result} >= SGLANG


def sglang_cells(result: Mapping[str, Any], run_id: str) -> Row:
    """Return the row of a result (python/sglang/bench_serving.py, ``benchmark``).

    It serves any OpenAI-compatible server; ``backend`` tells which. Requests that failed are not
    counted.
    """
    backend = str(result.get("backend") or "sglang").lower()
    rate, users = number(result, "request_rate"), count(result, "max_concurrency")
    endless = rate is None or not math.isfinite(rate)
    accepted = number(result, "accept_length")
    row: Row = {
        "run_id": run_id,
        "workload": "SGLang bench_serving",
        "engine": "vllm" if backend.startswith("vllm") else backend,
        "arrival_process": ("closed loop" if users else "all at once") if endless else "poisson",
        "request_rate_rps": None if endless else rate,
        "max_concurrency": users,
        "n_requests": count(result, "completed"),
        "out_tok_s": positive(result, "output_throughput"),
        "req_s": positive(result, "request_throughput"),
        "notes": DRAFTED if accepted and accepted > 1 else None,
    }
    for length, what in (("isl", "input"), ("osl", "output")):
        row |= lengths(result, length, f"{what}_lens", f"total_{what}_tokens", "completed")
        drawn = _drawn(result, what)
        if drawn is not None and not result.get(f"{what}_lens"):
            row[f"{length}_spec"] = drawn
    for ours, theirs in SGLANG_LATENCIES.items():
        for statistic, word in STATISTICS.items():
            row[f"{ours}_{statistic}_ms"] = positive(result, f"{word}_{theirs}_ms")
    return row


def _drawn(result: Mapping[str, Any], what: str) -> str | None:
    """The law of lengths of the data set ``random``, whose longest one and range a result says.

    Whole numbers from a share of the longest to the longest (``compute_random_lens``).
    """
    longest, share = number(result, f"random_{what}_len"), number(result, "random_range_ratio")
    if not str(result.get("dataset_name")).startswith("random") or not longest or share is None:
        return None
    least = max(1, int(longest * share))
    return f"{least:.0f}-{longest:.0f}" if least < longest else "fixed"


def is_inference_perf(result: Any) -> bool:
    """Tell whether inference-perf wrote a report of requests' lives, and not of a server's."""
    if not isinstance(result, dict) or not {*result} >= LIFECYCLE:
        return False
    answered = result["successes"]
    return isinstance(answered, dict) and isinstance(answered.get("latency"), dict)


def inference_perf_cells(result: Mapping[str, Any], run_id: str) -> Row:
    """Return the row of ``stage_N_lifecycle_metrics.json`` or of the summary of all stages.

    Times are in seconds. ``requested_rate`` is what was asked of a stage, ``concurrency`` its
    users; the summary has neither, and stands for the whole run.
    """
    load, answered = mapping(result, "load_summary"), mapping(result, "successes")
    latency, throughput = mapping(answered, "latency"), mapping(answered, "throughput")
    users = count(load, "concurrency")
    row: Row = {
        "run_id": run_id,
        "workload": "inference-perf",
        "engine": "vllm",
        "arrival_process": "closed loop" if users else None,
        "max_concurrency": users or None,
        "request_rate_rps": None if users else number(load, "requested_rate"),
        "duration_s": None if users else positive(load, "send_duration"),
        "n_requests": count(load, "count"),
        "n_failed": count(mapping(result, "failures"), "count"),
        "req_s": positive(throughput, "requests_per_sec"),
        "out_tok_s": positive(throughput, "output_tokens_per_sec"),
    }
    for length, theirs in (("isl", "prompt_len"), ("osl", "output_len")):
        known = mapping(answered, theirs)
        row[f"{length}_mean"] = number(known, "mean")
        row[f"{length}_spec"] = _spread(known)
    gaps = mapping(latency, "inter_token_latency")
    usual, mean = number(gaps, "median"), number(gaps, "mean")
    if usual is not None and mean is not None and usual < LEAST_GAP * mean:
        latency = {name: latency.get(name) for name in ("time_to_first_token", "request_latency")}
        row["notes"] = EMPTY_GAPS
    for ours, theirs in LATENCIES.items():
        known = mapping(latency, theirs)
        for statistic, word in STATISTICS.items():
            value = positive(known, word)
            row[f"{ours}_{statistic}_ms"] = value * 1e3 if value else None
    return row


def _spread(known: Mapping[str, Any]) -> str | None:
    """The spread of lengths, of which the report has percentiles: four fifths lie between two."""
    low, high = number(known, "p10"), number(known, "p90")
    if low is None or high is None:
        return None
    return spread(number(known, "mean"), (high - low) / NORMAL_TENTHS)
