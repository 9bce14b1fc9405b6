"""Small files of every format of traces, and what is read from them."""

import json


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def mooncake(time, prompt, output, ids=None, **more):
    record = {"timestamp": time, "input_length": prompt, "output_length": output, **more}
    return record if ids is None else {**record, "hash_ids": ids}


def aiperf(start_ns, prompt, output):
    return {
        "metadata": {"session_num": 0, "request_start_ns": start_ns, "was_cancelled": False},
        "metrics": {
            "input_sequence_length": {"value": prompt, "unit": "tokens"},
            "output_sequence_length": {"value": output, "unit": "tokens"},
        },
        "error": None,
    }


def failed_aiperf(start_ns):
    error = {"code": 499, "type": "RequestCancellationError"}
    return {
        "metadata": {"request_start_ns": start_ns},
        "metrics": {"error_isl": {"value": 550, "unit": "tokens"}},
        "error": error,
    }


def span(start_ns, **usage):
    attributes = [{"key": "gen_ai.system", "value": {"stringValue": "vllm"}}]
    for name, value in usage.items():
        attributes.append({"key": f"gen_ai.usage.{name}", "value": {"intValue": str(value)}})
    return {"name": "chat", "startTimeUnixNano": str(start_ns), "attributes": attributes}


def otlp(*spans):
    return {"resourceSpans": [{"scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def guidellm(*benchmarks, time="request_start_time"):
    def request(start, prompt, output):
        return {"request_id": "a", time: start, "prompt_tokens": prompt, "output_tokens": output}

    return {
        "metadata": {"version": 2},
        "args": {},
        "benchmarks": [
            {
                "config": {},
                "requests": {
                    "successful": [request(*one) for one in successful],
                    "incomplete": [request(99.0, 5, None)],
                    "errored": [],
                },
            }
            for successful in benchmarks
        ],
    }


def litellm(start, prompt, output, status="success"):
    return {
        "request_id": "x",
        "startTime": start,
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "status": status,
    }


BENCH = {
    "date": "20260801-120000",
    "num_prompts": 3,
    "completed": 2,
    "input_lens": [10, 11, 12],
    "output_lens": [4, 0, 5],
    "ttfts": [0.1, 0.0, 0.1],
    "itls": [[0.02, 0.02, 0.02], [], [0.02] * 4],
    "errors": ["", "timeout", ""],
    "start_times": [100.0, 100.25, 100.5],
}


EPOCH_NS = 1759813207532900363
FILES = {
    "bailian": (
        lines(
            mooncake(5.5, 20, 3, chat_id=1, parent_chat_id=-1, type="text", turn=1),
            mooncake(8.25, 21, 4, chat_id=2, parent_chat_id=1, type="text", turn=2),
        ),
        [0, 2.75], [20, 21], [3, 4],
    ),
    "mooncake": (lines(mooncake(0, 9, 3), mooncake(1500, 8, 4)), [0, 1.5], [9, 8], [3, 4]),
    "servegen": (
        lines(
            {"request_id": 0, "timestamp": 0.5, "data": {"input_tokens": 9, "output_tokens": 3}},
            {"request_id": 1, "timestamp": 2.0, "data": {"input_tokens": 8, "output_tokens": 4}},
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "servegen table": (
        "request_id,timestamp,input_tokens,output_tokens\n0,0.5,9,3\n1,2,8,4\n",
        [0, 1.5], [9, 8], [3, 4],
    ),
    "llmservingsim": (
        lines(
            {"input_toks": 9, "output_toks": 3, "arrival_time_ns": 500_000_001},
            {"input_toks": 8, "output_toks": 4, "arrival_time_ns": 2_000_000_001},
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "llmservingsim bench": (
        lines(
            {"request_id": "bench-0", "input_toks": 9, "output_toks": 3, "arrival_time": 1787.5},
            {"request_id": "bench-1", "input_toks": 8, "output_toks": 4, "arrival_time": 1789.0},
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "vllm_bench": (json.dumps(BENCH, indent=2), [0, 0.5], [10, 12], [4, 5]),
    "aiperf": (
        lines(failed_aiperf(EPOCH_NS), aiperf(EPOCH_NS + 1, 550, 9),
              aiperf(EPOCH_NS + 1_500_000_001, 551, 8)),
        [0, 1.5], [550, 551], [9, 8],
    ),
    "guidellm": (
        json.dumps(guidellm([(100.0, 9, 3)], [(101.5, 8, 4)])), [0, 1.5], [9, 8], [3, 4],
    ),
    "guidellm old": (
        json.dumps(guidellm([(100.0, 9, 3), (101.5, 8, 4)], time="start_time"), indent=1),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "opentelemetry": (
        lines(
            otlp(span(EPOCH_NS), span(EPOCH_NS, input_tokens=9, output_tokens=3)),
            otlp(span(EPOCH_NS + 1_500_000_000, input_tokens=8, output_tokens=4)),
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "opentelemetry before 1.27": (
        json.dumps(
            otlp(
                span(EPOCH_NS, prompt_tokens=9, completion_tokens=3),
                span(EPOCH_NS + 1_500_000_000, prompt_tokens=8, completion_tokens=4),
            ),
            indent=1,
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "opentelemetry console": (
        lines(
            *(
                {
                    "name": "chat",
                    "start_time": f"2026-02-03T04:05:0{second}.500000Z",
                    "attributes": {
                        "gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": 3,
                    },
                }
                for second, prompt in ((6, 9), (8, 8))
            )
        ),
        [0, 2], [9, 8], [3, 3],
    ),
    "litellm": (
        json.dumps(
            [
                litellm("2026-02-03T04:05:06.100000Z", 9, 3),
                litellm("2026-02-03T04:05:06.500000Z", 7, 0, "failure"),
                litellm("2026-02-03T04:05:07.600000Z", 8, 4),
            ]
        ),
        [0, 1.5], [9, 8], [3, 4],
    ),
    "litellm numbers": (
        lines(litellm(1770000000.5, 9, 3), litellm(1770000002.0, 8, 4)), [0, 1.5], [9, 8], [3, 4],
    ),
    "litellm table": (
        "request_id,startTime,prompt_tokens,completion_tokens,status\n"
        "a,2026-02-03 04:05:06.1,9,3,success\nb,2026-02-03 04:05:07.6,8,4,success\n",
        [0, 1.5], [9, 8], [3, 4],
    ),
    "openai": (
        lines(
            {"id": "a", "created": 1770000000, "usage": {"prompt_tokens": 9,
             "completion_tokens": 3}},
            {"id": "b", "created": 1770000002, "usage": {"prompt_tokens": 8,
             "completion_tokens": 4}},
        ),
        [0, 2], [9, 8], [3, 4],
    ),
    "azure 2025": (
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
        "2024-10-15T12:00:00.000Z,0,700,40\n2024-10-15T12:00:05.500Z,2,910,41\n",
        [0, 5.5], [700, 910], [40, 41],
    ),
}  # fmt: skip
