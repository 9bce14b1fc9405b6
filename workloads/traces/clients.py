"""Results of benchmark clients: what they sent, when, and how long the answers were."""

from workloads.traces.format import Failure, Linked, TraceFormat

_GUIDELLM = "vllm-project/guidellm: benchmarks.json"
_ANSWERED = (Failure("status", ("successful", "success"), "requests without a whole answer"),)

FORMATS = (
    TraceFormat(
        "vllm_bench",
        "start_times",
        "input_lens",
        "output_lens",
        "vllm bench serve --save-result --save-detailed",
        zero_output="failed requests",
        failures=(Failure("errors", ("",)),),
    ),
    TraceFormat(
        "aiperf",
        "metadata.request_start_ns",
        "metrics.input_sequence_length.value",
        "metrics.output_sequence_length.value",
        "ai-dynamo/aiperf: profile_export.jsonl",
        time_unit="ns",
        failures=(Failure("error", (), "failed or cancelled requests"),),
        linked=Linked(
            session="metadata.x_correlation_id",
            took="metrics.request_latency.value",
            took_unit="ms",
        ),
    ),
    TraceFormat(
        "guidellm",
        "request_start_time",
        "prompt_tokens",
        "output_tokens",
        _GUIDELLM,
        failures=_ANSWERED,
    ),
    TraceFormat(
        "guidellm",
        "start_time",
        "prompt_tokens",
        "output_tokens",
        f"{_GUIDELLM} before 0.4",
        failures=_ANSWERED,
    ),
)
LENGTHS = (
    TraceFormat(
        "vllm_bench_lengths",
        None,
        "input_lens",
        "output_lens",
        "vllm bench serve without start_times, sglang.bench_serving --output-details",
        zero_output="failed requests",
        failures=(Failure("errors", ("",)),),
    ),
)
