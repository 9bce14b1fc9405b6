"""Traces that other simulators of LLM serving read or write."""

from workloads.traces.format import Linked, TraceFormat

_LLMSERVINGSIM = "casys-kaist/LLMServingSim"

FORMATS = (
    TraceFormat(
        "splitwise",
        "arrival_timestamp",
        "prompt_size",
        "token_size",
        "Mutinifni/splitwise-sim",
        always_one="batch_size",
    ),
    TraceFormat(
        "vidur",
        "arrived_at",
        "num_prefill_tokens",
        "num_decode_tokens",
        "microsoft/vidur: processed traces",
    ),
    TraceFormat(
        "llmservingsim",
        "arrival_time_ns",
        "input_toks",
        "output_toks",
        f"{_LLMSERVINGSIM}: workloads, flat lines",
        time_unit="ns",
        token_ids="input_tok_ids",
        linked=Linked(session="session_id", gap="gap_ns", gap_unit="ns"),
    ),
    TraceFormat(
        "llmservingsim",
        "arrival_time",
        "input_toks",
        "output_toks",
        f"{_LLMSERVINGSIM}: requests.jsonl of its benchmark",
    ),
)
LENGTHS = (
    TraceFormat(
        "vidur_lengths",
        None,
        "num_prefill_tokens",
        "num_decode_tokens",
        "microsoft/vidur: lengths of ShareGPT, arXiv and books",
    ),
)
