"""Logs of gateways and spans of OpenTelemetry, where they state both lengths of a request.

Attributes of a span are those of the semantic conventions for generative AI:
``gen_ai.usage.input_tokens`` and ``output_tokens``, ``prompt_tokens`` and ``completion_tokens``
before 1.27. An OTLP/JSON file has ``startTimeUnixNano``, the console exporter ``start_time``.
"""

from workloads.traces.format import Failure, TimeUnit, TraceFormat

_USAGE = "attributes.gen_ai.usage."
_SPANS = "spans without token counts"
_EMPTY = "calls without output tokens"
_FAILED = (Failure("status", ("success",)),)

_TIMES: tuple[tuple[str, TimeUnit, str], ...] = (
    ("startTimeUnixNano", "ns", "OTLP/JSON"),
    ("start_time", "date", "console exporter"),
)
_OTEL = tuple(
    TraceFormat(
        "opentelemetry",
        time,
        f"{_USAGE}{prompt}",
        f"{_USAGE}{output}",
        f"OpenTelemetry spans, {who}",
        time_unit=unit,
        without_lengths=_SPANS,
        zero_output=_EMPTY,
    )
    for prompt, output in (
        ("input_tokens", "output_tokens"),
        ("prompt_tokens", "completion_tokens"),
    )
    for time, unit, who in _TIMES
)
FORMATS = (
    *_OTEL,
    TraceFormat(
        "litellm",
        "startTime",
        "prompt_tokens",
        "completion_tokens",
        "BerriAI/litellm: spend logs, standard logging payload",
        time_unit="date or s",
        zero_output=_EMPTY,
        failures=_FAILED,
    ),
    TraceFormat(
        "openai",
        "created",
        "usage.prompt_tokens",
        "usage.completion_tokens",
        "answers of an OpenAI-compatible server, a line each",
        zero_output=_EMPTY,
    ),
)
