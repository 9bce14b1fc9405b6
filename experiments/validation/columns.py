"""Names of a table's columns: ours, and those that people write instead.

Engines' arguments (``tensor_parallel_size``), words of benchmark clients (``Mean TTFT (ms)``,
``p99_itl_ms``) and other units (``ttft_mean_s``) mean one of our columns; what could mean two is
left alone, and told.
"""

import re
from collections.abc import Iterable, Sequence

from experiments.study.errors import StudyError

LATENCIES = {
    "ttft": ("ttft", "time_to_first_token"),
    "tpot": ("tpot", "time_per_output_token"),
    "itl": ("itl", "inter_token_latency"),
    "e2e": ("e2e", "e2el", "e2e_latency", "end_to_end_latency", "request_latency"),
}
STATISTICS = {
    "mean": ("mean", "avg", "average"),
    "p50": ("p50", "median"),
    "p90": ("p90",),
    "p95": ("p95",),
    "p99": ("p99",),
}
UNITS = {"ms": "ms", "s": "s", "sec": "s", "seconds": "s", "us": "us"}
"""Of a latency, as a column's name ends; and as a cell says it."""

ALIASES: dict[str, tuple[str, ...]] = {
    "run_id": ("run", "run_name", "benchmark_name", "test_name"),
    "model": ("model_name", "model_id"),
    "gpu": ("gpu_type", "gpu_name", "gpu_model", "accelerator", "hardware", "hw"),
    "n_gpus": ("num_gpus", "gpu_count", "number_of_gpus"),
    "engine_version": ("vllm_version",),
    "tp": ("tensor_parallel_size", "tensor_parallel", "tp_size"),
    "pp": ("pipeline_parallel_size", "pipeline_parallel", "pp_size"),
    "ep": ("expert_parallel_size", "ep_size", "enable_expert_parallel"),
    "precision": ("quantization",),
    "kv_cache_dtype": ("kv_dtype",),
    "gpu_mem_util": ("gpu_memory_utilization",),
    "kv_blocks": ("num_gpu_blocks", "num_gpu_blocks_override"),
    "speculative": ("speculative_config", "speculative_decoding", "spec_decode", "drafts"),
    "lora": ("enable_lora", "lora_adapters", "adapters"),
    "prefix_caching": ("enable_prefix_caching",),
    "chunked_prefill": ("enable_chunked_prefill",),
    "request_rate_rps": (
        "request_rate", "request_rate_req_s", "request_rate_qps", "rate_req_s", "rate_rps", "qps",
        "target_rps", "target_qps", "offered_rps", "offered_qps", "arrival_rate_rps",
    ),
    "max_concurrency": (
        "concurrency", "concurrent_users", "num_users", "users", "num_concurrent", "conc",
        "concurrent_requests", "num_concurrent_requests",
    ),
    "n_requests": ("num_prompts", "num_requests", "request_count"),
    "n_failed": ("num_failed", "failed_requests"),
    "isl_spec": (
        "isl", "input_len", "input_length", "random_input_len", "prompt_len", "prompt_length",
        "input_tokens", "prompt_tokens", "input_sequence_length", "num_input_tokens",
    ),
    "osl_spec": (
        "osl", "output_len", "output_length", "random_output_len", "output_tokens",
        "completion_tokens", "max_tokens", "output_sequence_length", "num_output_tokens",
    ),
    "isl_mean": (
        "mean_isl", "avg_isl", "mean_input_tokens", "avg_input_tokens", "mean_prompt_tokens",
        "avg_prompt_tokens", "avg_input_len", "mean_input_len", "avg_prompt_len", "mean_prompt_len",
    ),
    "osl_mean": (
        "mean_osl", "avg_osl", "mean_output_tokens", "avg_output_tokens", "mean_completion_tokens",
        "avg_completion_tokens", "avg_output_len", "mean_output_len",
    ),
    "out_tok_s": (
        "output_throughput", "output_token_throughput", "output_tokens_per_s",
        "output_tokens_per_second", "output_throughput_tok_s", "output_token_throughput_tok_s",
        "output_tokens_s", "output_tok_s", "output_throughput_tokens_s",
    ),
    "req_s": (
        "request_throughput", "requests_per_s", "requests_per_second", "request_throughput_req_s",
    ),
}  # fmt: skip
"""Our column, and other names of what it holds."""
OF_ACTIVATIONS = "of activations"
"""In place of a unit: 16 bits of such a column say nothing of the weights."""
SECOND: dict[str, tuple[str, str]] = {
    "dtype": ("precision", OF_ACTIVATIONS),
    "torch_dtype": ("precision", OF_ACTIVATIONS),
    "gpus": ("n_gpus", ""),
}
"""Names that mean a column of ours where nothing else does: a ``dtype`` beside a ``quantization``
is that of activations, and ``gpus`` without a ``gpu`` may be their name."""


def named(columns: Sequence[str], known: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return what columns mean: header to our column and the unit that its cells carry.

    A header that means nothing is left out, and so is one beside a header that is ours by name.

    Args:
        columns: headers, as written.
        known: our columns.

    Raises:
        StudyError: a header stands twice, two others mean the same, or a latency has no unit.
    """
    twice = next((name for name in columns if name and list(columns).count(name) > 1), None)
    if twice is not None:
        raise StudyError.of(f"column {twice} stands twice, expected once")
    own = {name: (name, "") for name in columns if name in known}
    found: dict[str, tuple[str, str]] = {}
    for name in columns:
        meant = None if name in own else _meant(name, known)
        if meant is None or meant[0] in own:
            continue
        other = next((header for header, (ours, _) in found.items() if ours == meant[0]), None)
        if other is not None:
            raise StudyError.of(
                f"columns {other} and {name} are both {meant[0]}, expected one of them"
            )
        found[name] = meant
    told = {ours for ours, _ in (own | found).values()}
    for name in columns:
        second = SECOND.get(_words(name))
        if second and second[0] not in told and (second[0] != "n_gpus" or "gpu" in told):
            found[name] = second
            told.add(second[0])
    return own | found


def meaning(header: str, known: Iterable[str]) -> str | None:
    """Return the column of a header by its name or another; None for none of them.

    Latencies, which are told with a unit, are left to ``named``.

    Args:
        header: as written.
        known: columns whose own names count, beside other names of any.
    """
    words = _words(header)
    if words in known:
        return words
    return next((ours for ours, others in ALIASES.items() if words in (ours, *others)), None)


def _words(header: str) -> str:
    """A header's words, joined; the sign of micro is a u, and other letters are part of a word."""
    plain = re.sub("[\u00b5\u03bc]", "u", header.lower())
    return "_".join(re.findall(r"[^\W_]+", plain))


def _meant(header: str, known: Iterable[str]) -> tuple[str, str] | None:
    ours = meaning(header, known)
    return (ours, "") if ours is not None else _latency(header, _words(header))


def _latency(header: str, words: str) -> tuple[str, str] | None:
    """The latency, its statistic and its unit, in any order (LLMPerf: ``ttft_s_mean``)."""
    parts = words.split("_")
    said = [part for part in parts if part in UNITS]
    name = "_".join(part for part in parts if part not in UNITS)
    unit = UNITS[said[0]] if len(said) == 1 else ""
    for latency, others in LATENCIES.items():
        for statistic, writings in STATISTICS.items():
            pairs = ((one, other) for one in others for other in writings)
            if any(name in (f"{one}_{other}", f"{other}_{one}") for one, other in pairs):
                ours = f"{latency}_{statistic}_ms"
                if not unit:
                    raise StudyError.of(
                        f"column {header} has no unit, expected {ours} or {ours[:-2]}s"
                    )
                return ours, "" if unit == "ms" else unit
    return None
