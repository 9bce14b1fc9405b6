"""Traces of agents: sessions of many calls, some of sub-agents that work side by side."""

from workloads.traces.format import Linked, TraceFormat

FORMATS = (
    TraceFormat(
        "weka",
        "t",
        "in",
        "out",
        "Weka's agent traces (semianalysisai/cc-traces-weka-*): one session a document or line",
        marks=("request_id",),
        zero_output="requests without an answer",
        blocks="hash_ids",
        block_tokens=64,
        linked=Linked(own="request_id", before="after", gap="gap_s"),
    ),
)
