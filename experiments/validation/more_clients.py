"""Results of two more benchmark clients: SGLang's bench_serving and inference-perf.

Neither says which model was served: that comes from ``--set model=NAME``.
"""

from collections.abc import Mapping
from typing import Any

Row = dict[str, object]

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
    completed, rate = result["completed"], result.get("request_rate")
    closed = result.get("max_concurrency") and not _finite(rate)
    accepted = result.get("accept_length")
    cells: Row = {
        "run_id": run_id,
        "workload": "SGLang bench_serving",
        "engine": "vllm" if backend.startswith("vllm") else backend,
        "arrival_process": "closed loop" if closed else "poisson",
        "request_rate_rps": None if closed else rate,
        "max_concurrency": result.get("max_concurrency"),
        "n_requests": completed,
        "isl_mean": _mean(result.get("total_input_tokens"), completed),
        "osl_mean": _mean(result.get("total_output_tokens"), completed),
        "out_tok_s": result.get("output_throughput"),
        "req_s": result.get("request_throughput"),
        "notes": DRAFTED if accepted and accepted > 1 else None,
    }
    for length, theirs in (("isl", "input_lens"), ("osl", "output_lens")):
        each = [one for one in result.get(theirs) or () if one]
        cells[f"{length}_spec"] = "fixed" if each and min(each) == max(each) else None
    for ours, theirs in SGLANG_LATENCIES.items():
        for statistic, word in STATISTICS.items():
            cells[f"{ours}_{statistic}_ms"] = result.get(f"{word}_{theirs}_ms") or None
    return cells


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
    load, answered = result["load_summary"], result["successes"]
    latency, throughput = answered.get("latency") or {}, answered.get("throughput") or {}
    users = load.get("concurrency")
    cells: Row = {
        "run_id": run_id,
        "workload": "inference-perf",
        "engine": "vllm",
        "arrival_process": "closed loop" if users else None,
        "max_concurrency": users,
        "request_rate_rps": None if users else load.get("requested_rate"),
        "duration_s": None if users else load.get("send_duration"),
        "n_requests": load.get("count"),
        "n_failed": (result["failures"] or {}).get("count"),
        "req_s": throughput.get("requests_per_sec"),
        "out_tok_s": throughput.get("output_tokens_per_sec"),
    }
    for length, theirs in (("isl", "prompt_len"), ("osl", "output_len")):
        known = answered.get(theirs) or {}
        cells[f"{length}_mean"] = known.get("mean")
        cells[f"{length}_spec"] = _spread(known)
    gaps = latency.get("inter_token_latency") or {}
    if gaps and gaps["median"] < LEAST_GAP * gaps["mean"]:
        latency = {name: latency.get(name) for name in ("time_to_first_token", "request_latency")}
        cells["notes"] = EMPTY_GAPS
    for ours, theirs in LATENCIES.items():
        known = latency.get(theirs) or {}
        for statistic, word in STATISTICS.items():
            value = known.get(word)
            cells[f"{ours}_{statistic}_ms"] = value * 1e3 if value else None
    return cells


def _finite(rate: object) -> bool:
    return isinstance(rate, int | float) and rate != float("inf")


def _mean(total: object, count: object) -> float | None:
    known = isinstance(total, int | float) and isinstance(count, int | float) and count
    return float(total) / float(count) if known else None  # type: ignore[arg-type]


def _spread(known: Mapping[str, Any]) -> str | None:
    """The spread of lengths, of which the report has percentiles: four fifths lie between two."""
    low, high = known.get("p10"), known.get("p90")
    if low is None or high is None:
        return None
    deviation = (high - low) / NORMAL_TENTHS
    return f"std {deviation:.6g}" if deviation > 0.005 * known["mean"] else "fixed"
