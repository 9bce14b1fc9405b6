"""Traces as tables: one row per request, as research papers publish them."""

from workloads.traces.format import Linked, TraceFormat

FORMATS = (
    TraceFormat(
        "headroom",
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        "this program",
        identities=("prompt_id", "prefix_id", "prefix_tokens"),
        linked=Linked(
            session="session_id", own="request_id", before="after", gap="gap_s", took="took_s"
        ),
    ),
    TraceFormat(
        "azure",
        "TIMESTAMP",
        "ContextTokens",
        "GeneratedTokens",
        "Azure/AzurePublicDataset: LLM inference 2023 and 2024, LMM inference 2025",
        time_unit="date",
        images="NumImages",
    ),
    TraceFormat(
        "burstgpt",
        "Timestamp",
        "Request tokens",
        "Response tokens",
        "HPMLL/BurstGPT",
        zero_output="failed requests",
    ),
)
LENGTHS = (TraceFormat("headroom_lengths", None, "prompt_tokens", "output_tokens", "this program"),)
