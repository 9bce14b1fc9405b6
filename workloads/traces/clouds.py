"""Traces of public clouds whose prompts are told by the identities of their blocks, and ServeGen.

Mooncake and Bailian have the same keys; the time of the one is in ms, of the other in seconds, and
any key of a chat (``chat_id``, ``parent_chat_id``, ``turn``) tells them apart. ServeGen writes no
file of its own: its requests hold ``request_id``, ``timestamp`` in seconds and ``data``, either
nested as its dataclass is or beside each other.
"""

from workloads.traces.format import Linked, TraceFormat

_SERVEGEN = "alibaba/ServeGen: requests of generate_workload"

FORMATS = (
    *(
        TraceFormat(
            "bailian",
            "timestamp",
            "input_length",
            "output_length",
            "alibaba-edu/qwen-bailian-usagetraces-anon",
            marks=(mark,),
            blocks="hash_ids",
            block_tokens=16,
            linked=Linked(own="chat_id", before="parent_chat_id"),
        )
        for mark in ("chat_id", "parent_chat_id", "turn")
    ),
    TraceFormat(
        "mooncake",
        "timestamp",
        "input_length",
        "output_length",
        "kvcache-ai/Mooncake, and trace inputs of ai-dynamo/aiperf",
        time_unit="ms",
        blocks="hash_ids",
        linked=Linked(session="session_id", gap="delay", gap_unit="ms", adds=True),
    ),
    TraceFormat("servegen", "timestamp", "data.input_tokens", "data.output_tokens", _SERVEGEN),
    TraceFormat(
        "servegen",
        "timestamp",
        "input_tokens",
        "output_tokens",
        _SERVEGEN,
        marks=("request_id",),
    ),
)
LENGTHS = (
    TraceFormat(
        "mooncake_lengths", None, "input_length", "output_length", "Mooncake's keys without times"
    ),
)
