"""Results of benchmark clients as rows of measured runs.

Of vllm bench serve here, of others in ``guidellm_results``, ``aiperf_results``, ``more_clients``.

A result says what was asked and what was measured, not what served: that comes from the command
line (``--set gpu=h100 --set tp=2``), or from what ``vllm bench serve --metadata gpu=h100 tp=2``
wrote.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.study.errors import show
from experiments.validation.aiperf_results import aiperf_row, is_aiperf
from experiments.validation.columns import meaning
from experiments.validation.guidellm_results import guidellm_rows, is_guidellm
from experiments.validation.more_clients import (
    DRAFTED,
    inference_perf_cells,
    is_inference_perf,
    is_sglang,
    sglang_cells,
)
from experiments.validation.result_values import (
    STATISTICS,
    BrokenResultError,
    NotAResultError,
    Row,
    count,
    lengths,
    number,
    positive,
)
from model.text_file import read_text

Cells = dict[str, str]

MOST_BYTES = 2**29
"""Of one result: detailed ones hold every gap between tokens."""
DESCRIBED = (
    "gpu", "n_gpus", "tp", "pp", "ep", "dp_replicas", "data_parallel_size", "engine_version",
    "precision", "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens", "chunked_prefill",
    "prefix_caching", "async_scheduling", "cudagraph_mode", "enforce_eager", "gpu_mem_util",
    "max_model_len", "kv_blocks", "block_size", "cpu_offload", "first_request_s",
    "api_server_count", "speculative", "lora", "mode", "sampling", "dataset", "tier", "notes",
)  # fmt: skip
"""Columns that a result may carry as metadata, or a sweep's settings of its server."""
OF_SWEEP = {"model_id", "duration", "completed", "total_input_tokens", "total_output_tokens"}
"""Columns by which a table of results is told."""
WARM_UP = -1
"""Number of such a run of ``vllm bench sweep serve``."""
OF_VLLM_BENCH = re.compile(
    r"date|endpoint_type|backend|label|model_id|tokenizer_id|num_prompts|num_processes|ignore_eos"
    r"|request_rate|burstiness|max_concurrency|ramp_up_\w+|rps_change_events|duration|completed"
    r"|failed|total_\w+|request_throughput|request_goodput:?|output_throughput|input_lens"
    r"|output_lens|ttfts|itls|latencies|\w*queue_times|server_\w+|start_times|generated_texts"
    r"|errors|max_output_tokens_per_s|max_concurrent_requests|rtfx|run_number|[\w.]+_ms"
    r"|(?:spec_decode|diffusion|probe)_\w+"
)
"""Keys that ``vllm bench serve`` writes itself; others are its user's, or a sweep's settings."""
EXPECTED = (
    "expected a result of vllm bench serve, guidellm, AIPerf (genai-perf), "
    "SGLang's bench_serving or inference-perf"
)
OTHER_ENGINES = (
    "sglang", "tgi", "tensorrt-llm", "lmdeploy", "deepspeed-mii", "embedding", "pooling", "rerank",
    "audio", "diffusion",
)  # fmt: skip
"""Backends of that client that are other engines, or other work than answers in text."""


def cells_of_result(path: Path, name: str | None = None) -> list[Cells]:
    """Return the rows of one result.

    Args:
        path: the JSON file.
        name: of the run; default: the file's.

    Raises:
        NotAResultError: no client's result.
        BrokenResultError: one that cannot be read.
        TextFileError: not a text of a usable size.
    """
    texts = _read(path)
    run_id = name or path.stem
    try:
        if len(texts) == 1 and not isinstance(texts[0], list):
            return [_written(row) for row in _rows(texts[0], path, run_id)]
        results = [one for text in texts for one in (text if isinstance(text, list) else [text])]
        known = [_is_vllm_bench(result) or is_sglang(result) for result in results]
        if not any(known):
            raise NotAResultError(EXPECTED)
        if not all(known):
            raise NotAResultError(
                "several JSON texts, expected vllm bench serve's or SGLang's alone"
            )
        rows = (_rows(one, None, f"{run_id}-{place}") for place, one in enumerate(results))
        return [_written(row) for (row,) in rows]
    except NotAResultError as error:
        raise type(error)(f"{path.name}: {error}") from None


def is_sweep_table(header: Sequence[str]) -> bool:
    """Tell whether a table is one of results: ``summary.csv`` of ``vllm bench sweep serve``."""
    return {*header} >= OF_SWEEP


def cells_of_sweep(lines: Sequence[Cells], run_id: str) -> list[Cells]:
    """Return the rows of such a table.

    Raises:
        BrokenResultError: a value that means nothing.
    """
    results = [{key: _value(text) for key, text in line.items() if key} for line in lines]
    rows = (_vllm_bench(one, None, f"{run_id}-{place}") for place, one in enumerate(results))
    return [_written(row) for row in rows]


def _value(text: str) -> float | str | None:
    """A cell as JSON would have it; an integer where it is one."""
    bare = text.strip()
    if bare.lower() in ("", "nan", "none"):
        return None
    try:
        value = float(bare)
    except ValueError:
        return bare
    return int(value) if value.is_integer() else value


def _read(path: Path) -> list[Any]:
    """The JSON of a file; several texts where a client wrote one after the other.

    Raises:
        BrokenResultError: none, or one that ends too early.
    """
    text, found, decoder = read_text(path, MOST_BYTES).strip(), [], json.JSONDecoder()
    try:
        while text:
            result, end = decoder.raw_decode(text)
            found.append(result)
            text = text[end:].lstrip()
    except (json.JSONDecodeError, RecursionError) as error:
        raise BrokenResultError(f"{path.name}: not JSON: {error}") from None
    if not found:
        raise BrokenResultError(f"{path.name}: not JSON: it is empty")
    return found


def _rows(result: Any, path: Path | None, run_id: str) -> list[Row]:
    """Rows of one text; ``path`` is its file where it is alone there."""
    if _is_vllm_bench(result):
        return [_vllm_bench(result, path, run_id)]
    if is_sglang(result):
        return [sglang_cells(result, run_id)]
    if path is not None and is_guidellm(result):
        return list(guidellm_rows(result, path, run_id))
    if path is not None and is_aiperf(result):
        return [aiperf_row(result, path, run_id)]
    if is_inference_perf(result):
        return [inference_perf_cells(result, run_id)]
    if isinstance(result, dict) and {"elapsed_time", "avg_latency"} & {*result}:
        raise NotAResultError(
            "vllm bench throughput and latency do not save what was asked, expected a table with "
            "its lengths"
        )
    raise NotAResultError(EXPECTED)


def _is_vllm_bench(result: Any) -> bool:
    return isinstance(result, dict) and "model_id" in result and "duration" in result


def _written(row: Row) -> Cells:
    """Text of what is known; numbers as Python writes them."""
    return {name: str(value) for name, value in row.items() if value is not None and value != ""}


def _vllm_bench(result: Mapping[str, Any], path: Path | None, run_id: str) -> Row:
    """A result of ``vllm bench serve --save-result``; its ITL is every gap, its TPOT by request.

    ``path`` is the file where its requests can be replayed from.
    """
    if result.get("run_number") == WARM_UP:
        raise NotAResultError("a sweep's warm-up, expected one of its runs")
    backend = str(result.get("backend") or result.get("endpoint_type") or "vllm").lower()
    if any(key.startswith("diffusion_") for key in result):
        backend = "diffusion"
    completed, failed, sent = (count(result, key) for key in ("completed", "failed", "num_prompts"))
    if failed is not None and completed is not None:  # data sets may have fewer than were asked for
        sent = completed + failed
    replayed = bool(path is not None and result.get("start_times") and result.get("input_lens"))
    row: Row = {**_said_beside(result)}
    row |= {
        "run_id": run_id,
        "workload": "vllm bench serve",
        "model": result["model_id"],
        "engine": next((other for other in OTHER_ENGINES if other in backend), "vllm"),
        **_arrivals(result, replayed=replayed),
        "n_requests": sent,
        "n_failed": sent - completed if sent is not None and completed is not None else None,
        "out_tok_s": positive(result, "output_throughput"),
        "req_s": positive(result, "request_throughput"),
    }
    for ours, theirs in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        for statistic in STATISTICS:
            words = dict.fromkeys(({"p50": "median"}.get(statistic, statistic), statistic))
            value = positive(result, *(f"{word}_{theirs}_ms" for word in words))
            row[f"{ours}_{statistic}_ms"] = value
    if number(result, "spec_decode_num_drafts"):
        row["notes"] = ". ".join(filter(None, (str(result.get("notes") or ""), DRAFTED)))
    if path is not None and replayed:
        row["per_request_file"] = str(path.resolve())
        return row
    row |= lengths(result, "isl", "input_lens", "total_input_tokens", "completed")
    return row | lengths(result, "osl", "output_lens", "total_output_tokens", "completed")


def _said_beside(result: Mapping[str, Any]) -> Row:
    """What ``--metadata`` or a sweep's settings say, by column; other words by their own key.

    What they say of the load is in the result itself.

    Raises:
        BrokenResultError: two keys of one column do not agree.
    """
    row: Row = {}
    for key, value in result.items():
        column, part = _column_of(key)
        asked = column is not None and column not in DESCRIBED
        if asked or value is None or OF_VLLM_BENCH.fullmatch(key):
            continue
        column = column or key
        if part:
            before = f"{row[column]}, " if column in row else ""
            row[column] = f"{before}{part} = {show(value)}"
            continue
        if column in row and str(row[column]) != str(value):
            raise BrokenResultError(
                f"{key} = {show(value)}, and {column} = {show(row[column])} beside it: expected one"
            )
        row[column] = value
    return row


def _column_of(key: str) -> tuple[str | None, str]:
    """The column of a key, and which part of it: ``speculative_config.method`` is one of drafts.

    ``compilation_config.cudagraph_mode`` is a column itself.
    """
    whole, _, last = key.rpartition(".")
    above = meaning(whole, ())
    if above in DESCRIBED:
        return above, last
    return meaning(key, DESCRIBED) or (last if last in DESCRIBED else None), ""


def _arrivals(result: Mapping[str, Any], *, replayed: bool) -> Row:
    """How requests arrived; at an infinite rate all were sent at once, or as a cap let them."""
    said, cap = result.get("request_rate"), count(result, "max_concurrency")
    burstiness = positive(result, "burstiness")
    if result.get("ramp_up_strategy") or result.get(
        "rps_change_events"
    ):  # the rate is not the one of request_rate
        duration_s = positive(result, "duration")
        return {"arrival_process": "ramp", "max_concurrency": cap, "duration_s": duration_s}
    if said is None and not replayed:
        raise BrokenResultError("request_rate is missing, expected a number or inf")
    if str(said).lower() in ("inf", "infinity"):
        closed = "closed loop" if cap else "all at once"
        return {"arrival_process": closed, "max_concurrency": cap}
    return {
        "arrival_process": "poisson" if burstiness in (None, 1) else "gamma",
        "burstiness": burstiness,
        "request_rate_rps": positive(result, "request_rate"),
        "max_concurrency": cap,
    }
