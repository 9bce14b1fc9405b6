"""Results of AIPerf and genai-perf as rows; their inter-token latency is by request: our TPOT."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.study.errors import show
from experiments.validation.guidellm_results import found
from experiments.validation.lengths import IN_TURN
from experiments.validation.result_values import (
    STATISTICS,
    BrokenResultError,
    Row,
    count,
    listed,
    mapping,
    number,
    spread,
)

LATENCIES = (
    ("ttft", "time_to_first_token"),
    ("tpot", "inter_token_latency"),
    ("e2e", "request_latency"),
)
ALIKE = "its prompts begin alike"
"""In the notes of a row whose client made prompts of prefixes, or turns of conversations."""
PREFIXES = (
    "prefix_prompt",
    "prefix_prompts",
    "shared_system_prompt_length",
    "user_context_prompt_length",
)
"""Keys of what prompts have in common (AIPerf's ``--prefix-prompt-length`` and its like)."""
TOLD_ELSEWHERE = {
    "fixed_schedule": "schedule of its own", "user_centric_rate": "user-centric",
    "request_rate_ramp_duration": "ramp", "request_rate_series": "schedule of rates",
}  # fmt: skip
"""Keys of loads that a rate does not tell, and our words for them."""
KINDS = {"fixed_schedule": "schedule of its own", "user_centric": "user-centric"}
"""The same of the kinds of a phase."""
CHANGING = {
    "rate_ramp": "ramp", "rate_series": "schedule of rates", "timing_mode": "replay schedule",
    "prefill_concurrency": "schedule by prefill_concurrency",
}  # fmt: skip
"""The same of a phase's other keys."""
SMOOTHNESS = ("arrival_smoothness", "vllm_burstiness")
"""Keys of the shape of gamma gaps."""
_END = re.compile(r"_(?:aiperf|genai_perf)$")
"""Of the name of a result, which its requests beside it (``profile_export.jsonl``) do not have."""
TEXT = ("chat", "completions", "responses", "huggingface_generate")
"""Kinds of endpoints that answer in text."""
TO_MS = {
    "ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3,
    "microseconds": 1e-3, "ns": 1e-6, "nanoseconds": 1e-6,
}  # fmt: skip
"""Units of latencies."""


def is_aiperf(result: Any) -> bool:
    """Tell whether AIPerf or genai-perf wrote a result; without streams it has no first tokens."""
    timed = ("time_to_first_token", "request_latency")
    return (
        isinstance(result, dict)
        and "input_config" in result
        and any(one in result for one in timed)
    )


def aiperf_row(result: Mapping[str, Any], path: Path, run_id: str) -> Row:
    """Return the row of an export.

    Raises:
        BrokenResultError: a value that means nothing.
    """
    config = mapping(result, "input_config")
    answered = count({"request_count": _average(result, "request_count")}, "request_count")
    failed = sum(count(one, "count") or 0 for one in _errors(result))
    row: Row = {
        "run_id": run_id,
        "workload": "AIPerf",
        "model": _model(config),
        "engine": _answers(config),
        **_load(config),
        "n_requests": (answered + failed or None) if answered is not None else None,
        "n_failed": failed if answered is not None else None,
        "duration_s": _average(result, "benchmark_duration") or None,
        "req_s": _average(result, "request_throughput") or None,
        "out_tok_s": _average(result, "output_token_throughput") or None,
        "notes": ALIKE if _begin_alike(config) else None,
    }
    for length, theirs in (("isl", "input_sequence_length"), ("osl", "output_sequence_length")):
        mean = _average(result, theirs)
        row[f"{length}_mean"] = mean
        row[f"{length}_spec"] = spread(mean, _statistic(result, theirs, "std") or 0.0)
    entries, asked = _asked(config, "num_dataset_entries", "entries"), count(row, "n_requests")
    if entries and asked and entries < asked:
        row["isl_spec"] = f"{entries:.0f} {IN_TURN}"
    for ours, theirs in LATENCIES:
        for statistic in STATISTICS:
            word = "avg" if statistic == "mean" else statistic
            row[f"{ours}_{statistic}_ms"] = _latency_ms(result, theirs, word)
    beside = path.with_name(f"{_END.sub('', path.stem)}.jsonl")
    if beside.is_file():
        row["per_request_file"] = str(beside.resolve())
    return row


def _asked(config: Mapping[str, Any], *keys: str) -> float | None:
    said = next(filter(None, (found(config, key) for key in keys)), None)
    return number({keys[0]: said}, keys[0])


def _load(config: Mapping[str, Any]) -> Row:
    """How requests arrived: by the phase that counts, or by AIPerf's keys before it had phases."""
    said = config.get("phases")
    if said is None:
        told = next((words for key, words in TOLD_ELSEWHERE.items() if found(config, key)), None)
        concurrency, rate = (_asked(config, key) for key in ("concurrency", "request_rate"))
        closed = bool(concurrency) and not rate and told is None
        return {
            "arrival_process": "closed loop" if closed else told or _law(config),
            "burstiness": _asked(config, *SMOOTHNESS),
            "request_rate_rps": rate,
            "max_concurrency": concurrency,
        }
    phases = [one for one in listed(config, "phases") if isinstance(one, dict)]
    phases = [one for one in phases if "warmup" not in (one.get("kind"), one.get("name"))]
    if len(phases) != 1:
        raise BrokenResultError(f"phases: {len(phases)} that count, expected one")
    (phase,) = phases
    kind = str(phase.get("type"))
    told = next((words for key, words in CHANGING.items() if phase.get(key)), None)
    concurrency = number(phase, "concurrency")
    if kind == "concurrency" and told is None:
        return {"arrival_process": "closed loop", "max_concurrency": concurrency or 1}
    return {
        "arrival_process": told or KINDS.get(kind, kind),
        "burstiness": number(phase, "smoothness"),
        "request_rate_rps": number(phase, "rate"),
        "max_concurrency": concurrency,
    }


def _law(config: Mapping[str, Any]) -> object:
    """How requests arrive; genai-perf's client sends them evenly where nobody asks otherwise."""
    said = found(config, "request_rate_mode") or found(config, "arrival_pattern")
    return said or ("constant" if found(config, "perf_analyzer") else None)


def _answers(config: Mapping[str, Any]) -> str:
    """vllm, or the work of an endpoint that does not answer in text."""
    kind = mapping(config, "endpoint").get("type")
    return str(kind) if kind and str(kind).lower() not in TEXT else "vllm"


def _begin_alike(config: Mapping[str, Any]) -> bool:
    turns = found(config, "turn") or found(config, "turns")
    mean = number(turns, "mean") if isinstance(turns, dict) else None
    return bool(mean and mean > 1) or any(found(config, key) for key in PREFIXES)


def _model(config: Mapping[str, Any]) -> object:
    """The name of the only model, or of the first: a text, or a mapping with a name."""
    said = found(config, "model_names") or found(config, "models") or found(config, "model")
    if isinstance(said, dict):
        said = said.get("items") or said.get("name")
    first = said[0] if isinstance(said, list) and said else said
    return first.get("name") if isinstance(first, dict) else first


def _errors(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = listed(result, "error_summary")
    if not all(isinstance(one, dict) for one in errors):
        raise BrokenResultError("error_summary: expected mappings alone")
    return list(errors)


def _average(result: Mapping[str, Any], name: str) -> float | None:
    return _statistic(result, name, "avg")


def _statistic(result: Mapping[str, Any], name: str, statistic: str) -> float | None:
    """A statistic in the metric's own unit."""
    metric = result.get(name)
    if not isinstance(metric, dict):
        return number(result, name) if statistic == "avg" else None
    return number(metric, statistic)


def _latency_ms(result: Mapping[str, Any], name: str, statistic: str) -> float | None:
    value = _statistic(result, name, statistic)
    metric = result.get(name)
    unit = str(metric.get("unit") or "ms") if isinstance(metric, dict) else "ms"
    if unit.lower() not in TO_MS:
        raise BrokenResultError(f"{name}: unit = {show(unit)}, expected {', '.join(TO_MS)}")
    return value * TO_MS[unit.lower()] if value else None
