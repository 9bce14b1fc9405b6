"""Results of guidellm (``benchmarks.json``) as rows; its inter-token latency is our TPOT."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.validation.result_values import (
    STATISTICS,
    BrokenResultError,
    Row,
    count,
    listed,
    mapping,
    number,
    positive,
    spread,
)

LATENCIES = (
    ("ttft", "time_to_first_token_ms", 1.0),
    ("tpot", "inter_token_latency_ms", 1.0),
    ("e2e", "request_latency", 1e3),
)
"""Ours, theirs, and how many ms theirs is: a mean by request, without the first token."""


def is_guidellm(result: Any) -> bool:
    """Tell whether guidellm wrote a result."""
    benchmarks = result.get("benchmarks") if isinstance(result, dict) else None
    return (
        isinstance(benchmarks, list)
        and bool(benchmarks)
        and all(isinstance(one, dict) and "metrics" in one for one in benchmarks)
    )


def guidellm_rows(result: Mapping[str, Any], path: Path, run_id: str) -> Iterator[Row]:
    """Yield the row of each benchmark of a file.

    Raises:
        BrokenResultError: a value that means nothing.
    """
    benchmarks = result["benchmarks"]
    for place, one in enumerate(benchmarks):
        metrics = mapping(one, "metrics")
        counts = mapping(metrics, "request_totals")
        counts = counts or mapping(mapping(one, "run_stats"), "requests_made")
        row: Row = {
            "run_id": run_id if len(benchmarks) == 1 else f"{run_id}-{place}",
            "workload": "guidellm",
            "model": found(one, "model") or found(result, "model"),
            "engine": "vllm",
            **_strategy(one),
            "n_requests": count(counts, "total"),
            "n_failed": count(counts, "errored"),
            "req_s": _statistic(metrics, "requests_per_second", "mean"),
            "out_tok_s": _statistic(metrics, "output_tokens_per_second", "mean"),
            "duration_s": positive(one, "duration"),
        }
        for length, theirs in (("isl", "prompt_token_count"), ("osl", "output_token_count")):
            mean = _statistic(metrics, theirs, "mean")
            row[f"{length}_mean"] = mean
            deviation = _statistic(metrics, theirs, "std_dev")
            row[f"{length}_spec"] = spread(mean, deviation or 0.0) if mean else None
        for ours, theirs, factor in LATENCIES:
            for statistic in STATISTICS:
                value = _statistic(metrics, theirs, statistic)
                row[f"{ours}_{statistic}_ms"] = value * factor if value else None
        if len(benchmarks) == 1 and _has_all_requests(one, counts):
            row["per_request_file"] = str(path.resolve())
        yield row


def _has_all_requests(benchmark: Mapping[str, Any], counts: Mapping[str, Any]) -> bool:
    """Tell whether a benchmark holds every request, and no sample of them (``sample_size``)."""
    requests = benchmark.get("requests")
    if not isinstance(requests, dict):
        return False
    kept = len(listed(requests, "successful"))
    return 0 < kept >= (count(counts, "successful") or kept)


def _strategy(benchmark: Mapping[str, Any]) -> Row:
    """What a strategy of guidellm says of arrivals; ``sweep`` has become others."""
    said = found(benchmark, "strategy")
    strategy = said if isinstance(said, dict) else {}
    kind = str(strategy.get("type_") or strategy.get("type") or said or "")
    streams = _first(strategy, "streams", "max_concurrency")
    if kind == "synchronous":
        return {"arrival_process": "closed loop", "max_concurrency": 1}
    if kind == "concurrent":
        return {"arrival_process": "closed loop", "max_concurrency": streams}
    if kind == "throughput":
        closed = "closed loop" if streams else "all at once"
        return {"arrival_process": closed, "max_concurrency": streams}
    return {
        "arrival_process": kind or None,
        "request_rate_rps": _first(strategy, "rate"),
        "max_concurrency": streams,
    }


def _first(part: Mapping[str, Any], *keys: str) -> float | None:
    """The number under the first of the keys that says one, or the only one of a list."""
    for key in keys:
        value = part.get(key)
        if isinstance(value, list):
            if len(value) > 1:
                raise BrokenResultError(f"{key} has {len(value)} numbers, expected one")
            value = value[0] if value else None
        said = number({key: value}, key)
        if said is not None:
            return said
    return None


def _statistic(metrics: Mapping[str, Any], name: str, statistic: str) -> float | None:
    """A statistic of a metric's successful requests."""
    metric = mapping(metrics, name)
    known = mapping(metric, "successful") if "successful" in metric else metric
    value = number(known, statistic, *(["median"] if statistic == "p50" else []))
    if value is None:
        value = number(mapping(known, "percentiles"), statistic)
    return value


def found(part: Mapping[str, Any], key: str) -> Any:
    """Return the first value of a key, at any depth but not among requests, metrics or warm-ups."""
    if part.get(key):
        return part[key]
    for name, inner in part.items():
        if name in ("requests", "metrics") or "warmup" in str(name):
            continue
        for one in inner if isinstance(inner, list) else (inner,):
            if isinstance(one, dict) and "warmup" not in str(one.get("name", "")):
                value = found(one, key)
                if value:
                    return value
    return None
