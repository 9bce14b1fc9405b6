"""Results of benchmark clients as rows of measured runs.

Of vllm bench serve, guidellm and AIPerf here, of two more in ``more_clients``.

A result says what was asked and what was measured, not what served: that comes from the command
line (``--set gpu=h100 --set tp=2``), or from what ``vllm bench serve --metadata gpu=h100 tp=2``
wrote.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.validation.more_clients import (
    DRAFTED,
    inference_perf_cells,
    is_inference_perf,
    is_sglang,
    sglang_cells,
)
from model.text_file import read_text

Cells = dict[str, str]

MOST_BYTES = 2**29
"""Of one result: detailed ones hold every gap between tokens."""
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
DESCRIBED = (
    "gpu", "n_gpus", "tp", "pp", "ep", "dp_replicas", "engine_version", "precision",
    "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens", "chunked_prefill",
    "prefix_caching", "async_scheduling", "cudagraph_mode", "enforce_eager", "gpu_mem_util",
    "max_model_len", "sampling", "dataset", "notes",
)  # fmt: skip
"""Columns that a result may carry as metadata."""
OTHER_ENGINES = ("sglang", "tgi", "tensorrt-llm", "lmdeploy", "deepspeed-mii")


class NotAResultError(ValueError):
    """A JSON file that no known client wrote."""


class NotJsonError(NotAResultError):
    """A file that is no JSON, or that was cut off."""


def cells_of_result(path: Path, name: str | None = None) -> list[Cells]:
    """Return the rows of one result.

    Args:
        path: the JSON file.
        name: of the run; default: the file's.

    Raises:
        NotAResultError: no client's result.
        TextFileError: not a text of a usable size.
    """
    run_id = name or path.stem
    results = _read(path)
    if len(results) == 1:
        return _cells(results[0], path, run_id)
    if not all(_is_vllm_bench(result) for result in results):
        raise NotAResultError(f"{path.name}: several JSON texts, expected vllm bench serve's alone")
    return [
        _vllm_bench(result, None, f"{run_id}-{number}") for number, result in enumerate(results)
    ]


def _read(path: Path) -> list[Any]:
    """The JSON of a file; several texts where ``--append-result`` wrote one after the other.

    Raises:
        NotJsonError: none, or one that ends too early.
    """
    text, found, decoder = read_text(path, MOST_BYTES).strip(), [], json.JSONDecoder()
    try:
        while text:
            result, end = decoder.raw_decode(text)
            found.append(result)
            text = text[end:].lstrip()
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotJsonError(f"{path.name}: not JSON: {error}") from None
    if not found:
        raise NotJsonError(f"{path.name}: not JSON: it is empty")
    return found


def _cells(result: Any, path: Path, run_id: str) -> list[Cells]:
    if _is_vllm_bench(result):
        return [_vllm_bench(result, path, run_id)]
    if isinstance(result, dict) and _is_guidellm(result):
        return list(_guidellm(result, path, run_id))
    if isinstance(result, dict) and {"input_config", "time_to_first_token"} <= {*result}:
        return [_aiperf(result, path, run_id)]
    if is_sglang(result):
        return [_written(sglang_cells(result, run_id))]
    if is_inference_perf(result):
        return [_written(inference_perf_cells(result, run_id))]
    raise NotAResultError(
        f"{path.name}: expected a result of vllm bench serve, guidellm, AIPerf (genai-perf), "
        "SGLang's bench_serving or inference-perf"
    )


def _is_vllm_bench(result: Any) -> bool:
    return isinstance(result, dict) and "model_id" in result and "duration" in result


def _written(cells: Mapping[str, object]) -> Cells:
    """Text of what is known; numbers as Python writes them."""
    return {name: str(value) for name, value in cells.items() if value is not None and value != ""}


def _vllm_bench(result: Mapping[str, Any], path: Path | None, run_id: str) -> Cells:
    """A result of ``vllm bench serve --save-result``; its ITL is every gap, its TPOT by request.

    ``path`` is the file where its requests can be replayed from.
    """
    backend = str(result.get("backend") or result.get("endpoint_type") or "vllm").lower()
    completed, failed = result.get("completed"), result.get("failed")
    sent = result.get("num_prompts")
    if failed is not None and completed is not None:  # data sets may have fewer than were asked for
        sent = completed + failed
    cells: dict[str, object] = {name: result.get(name) for name in DESCRIBED}
    cells |= {
        "run_id": run_id,
        "workload": "vllm bench serve",
        "model": result["model_id"],
        "engine": next((other for other in OTHER_ENGINES if other in backend), "vllm"),
        "arrival_process": "gamma" if result.get("burstiness") not in (None, 1, 1.0) else "poisson",
        "burstiness": result.get("burstiness"),
        "request_rate_rps": result.get("request_rate"),
        "max_concurrency": result.get("max_concurrency"),
        "n_requests": sent,
        "n_failed": sent - completed if sent is not None and completed is not None else None,
        "out_tok_s": result.get("output_throughput"),
        "req_s": result.get("request_throughput"),
    }
    for ours, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        for statistic in STATISTICS:
            word = {"p50": "median"}.get(statistic, statistic)
            value = result.get(f"{word}_{theirs}_ms", result.get(f"{statistic}_{theirs}_ms"))
            cells[f"{ours}_{statistic}_ms"] = value or None
    if str(cells["request_rate_rps"]) == "inf" and cells["max_concurrency"]:
        del cells["request_rate_rps"]
        cells["arrival_process"] = "closed loop"
    if result.get("spec_decode_num_drafts"):
        cells["notes"] = ". ".join(filter(None, (str(result.get("notes") or ""), DRAFTED)))
    if result.get("ramp_up_strategy"):  # the rate is not the one of request_rate
        cells |= {"request_rate_rps": None, "arrival_process": "ramp"}
        cells["duration_s"] = result["duration"]
    if path is not None and result.get("start_times") and result.get("input_lens"):
        cells["per_request_file"] = str(path.resolve())
    else:
        for ours, theirs, total in (
            ("isl", "input_lens", "total_input_tokens"),
            ("osl", "output_lens", "total_output_tokens"),
        ):
            cells |= _lengths(ours, result.get(theirs), result.get(total), completed)
    return _written(cells)


def _lengths(name: str, each: Any, total: Any, count: Any) -> dict[str, object]:
    """Mean and spread of lengths, as the cells of a row say them."""
    known = [one for one in each if one] if isinstance(each, list) else []
    if not known:
        return {f"{name}_mean": total / count if total and count else None}
    mean = sum(known) / len(known)
    spread = (sum((one - mean) ** 2 for one in known) / len(known)) ** 0.5
    spec = f"mean {mean:.6g}, std {spread:.6g}" if spread > 0.005 * mean else "fixed"
    return {f"{name}_mean": mean, f"{name}_spec": spec}


def _is_guidellm(result: Mapping[str, Any]) -> bool:
    benchmarks = result.get("benchmarks")
    return (
        isinstance(benchmarks, list)
        and bool(benchmarks)
        and all(isinstance(one, dict) and "metrics" in one for one in benchmarks)
    )


def _guidellm(result: Mapping[str, Any], path: Path, run_id: str) -> Iterator[Cells]:
    """Benchmarks of a guidellm file; its inter-token latency is by request: our TPOT."""
    benchmarks = result["benchmarks"]
    for number, one in enumerate(benchmarks):
        metrics = one["metrics"]
        strategy = _strategy(one)
        counts = metrics.get("request_totals") or one.get("run_stats", {}).get("requests_made", {})
        cells: dict[str, object] = {
            "run_id": run_id if len(benchmarks) == 1 else f"{run_id}-{number}",
            "workload": "guidellm",
            "model": _found(one, "model") or _found(result, "model"),
            "engine": "vllm",
            **strategy,
            "n_requests": counts.get("total"),
            "n_failed": counts.get("errored"),
            "req_s": _statistic(metrics.get("requests_per_second"), "mean"),
            "out_tok_s": _statistic(metrics.get("output_tokens_per_second"), "mean"),
            "duration_s": one.get("duration"),
            "isl_mean": _statistic(metrics.get("prompt_token_count"), "mean"),
            "osl_mean": _statistic(metrics.get("output_token_count"), "mean"),
        }
        for length, theirs in (("isl", "prompt_token_count"), ("osl", "output_token_count")):
            spread = _statistic(metrics.get(theirs), "std_dev")
            cells[f"{length}_spec"] = f"std {spread:.6g}" if spread else "fixed"
        for ours, theirs, factor in (
            ("ttft", "time_to_first_token_ms", 1.0),
            ("tpot", "inter_token_latency_ms", 1.0),
            ("e2e", "request_latency", 1e3),
        ):
            for statistic in STATISTICS:
                value = _statistic(metrics.get(theirs), statistic)
                cells[f"{ours}_{statistic}_ms"] = value * factor if value else None
        if len(benchmarks) == 1 and _all_requests(one, counts):
            cells["per_request_file"] = str(path.resolve())
        yield _written(cells)


def _all_requests(benchmark: Mapping[str, Any], counts: Mapping[str, Any]) -> bool:
    """Tell whether a benchmark holds every request, and no sample of them (``sample_size``)."""
    requests = benchmark.get("requests")
    if not isinstance(requests, dict):
        return False
    kept = len(requests.get("successful") or ())
    return kept >= (counts.get("successful") or kept)


def _strategy(benchmark: Mapping[str, Any]) -> dict[str, object]:
    """What a strategy of guidellm says of arrivals; ``sweep`` has become others."""
    found = _found(benchmark, "strategy")
    strategy = found if isinstance(found, dict) else {}
    kind = str(strategy.get("type_") or strategy.get("type") or found or "")
    streams = strategy.get("streams") or strategy.get("max_concurrency")
    if kind == "synchronous":
        return {"arrival_process": "closed loop", "max_concurrency": 1}
    if kind == "concurrent":
        return {"arrival_process": "closed loop", "max_concurrency": streams}
    if kind == "throughput":
        closed = "closed loop" if streams else "all at once"
        return {"arrival_process": closed, "max_concurrency": streams}
    rate = strategy.get("rate")
    return {
        "arrival_process": kind or None,
        "request_rate_rps": rate[0] if isinstance(rate, list) and rate else rate,
        "max_concurrency": streams,
    }


def _found(part: Mapping[str, Any], key: str) -> Any:
    """The first value of a key, at any depth but not among requests and metrics."""
    if part.get(key):
        return part[key]
    for name, inner in part.items():
        if isinstance(inner, dict) and name not in ("requests", "metrics"):
            value = _found(inner, key)
            if value:
                return value
    return None


def _statistic(metric: Any, name: str) -> float | None:
    """A statistic of guidellm's successful requests."""
    known = metric.get("successful", metric) if isinstance(metric, dict) else {}
    if not isinstance(known, dict):
        return None
    value = known.get(name, known.get("median") if name == "p50" else None)
    if value is None:
        value = (known.get("percentiles") or {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def _aiperf(result: Mapping[str, Any], path: Path, run_id: str) -> Cells:
    """AIPerf's (or genai-perf's) export; its inter-token latency is by request: our TPOT."""
    config = result["input_config"]
    models = _found(config, "model_names") or _found(config, "models") or _found(config, "model")
    concurrency, rate = _found(config, "concurrency"), _found(config, "request_rate")
    closed = bool(concurrency) and not rate
    answered = int(_average(result, "request_count") or 0)
    failed = sum(int(one.get("count", 0)) for one in result.get("error_summary") or ())
    cells: dict[str, object] = {
        "run_id": run_id,
        "workload": "AIPerf",
        "model": models[0] if isinstance(models, list) and models else models,
        "engine": "vllm",
        "arrival_process": "closed loop" if closed else _found(config, "request_rate_mode"),
        "request_rate_rps": rate,
        "max_concurrency": concurrency,
        "n_requests": answered + failed,
        "n_failed": failed,
        "duration_s": _average(result, "benchmark_duration"),
        "req_s": _average(result, "request_throughput"),
        "out_tok_s": _average(result, "output_token_throughput"),
    }
    for length, theirs in (("isl", "input_sequence_length"), ("osl", "output_sequence_length")):
        spread = _of_aiperf(result, theirs, "std")
        cells[f"{length}_mean"] = _average(result, theirs)
        cells[f"{length}_spec"] = f"std {spread:.6g}" if spread else "fixed"
    for ours, theirs in (
        ("ttft", "time_to_first_token"),
        ("tpot", "inter_token_latency"),
        ("e2e", "request_latency"),
    ):
        for statistic in STATISTICS:
            word = "avg" if statistic == "mean" else statistic
            cells[f"{ours}_{statistic}_ms"] = _of_aiperf(result, theirs, word)
    beside = path.with_name("profile_export.jsonl")
    if beside.is_file():
        cells["per_request_file"] = str(beside.resolve())
    return _written(cells)


def _average(result: Mapping[str, Any], name: str) -> float | None:
    return _of_aiperf(result, name, "avg")


def _of_aiperf(result: Mapping[str, Any], name: str, statistic: str) -> float | None:
    """A statistic in ms or the metric's own unit."""
    metric = result.get(name)
    value = metric.get(statistic) if isinstance(metric, dict) else metric
    if not isinstance(value, int | float):
        return None
    to_ms = {"s": 1e3, "sec": 1e3, "us": 1e-3, "ns": 1e-6}
    unit = str(metric.get("unit", "")) if isinstance(metric, dict) else ""
    latency = name in ("time_to_first_token", "inter_token_latency", "request_latency")
    return float(value) * (to_ms.get(unit, 1.0) if latency else 1.0)
