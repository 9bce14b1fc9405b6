"""A stretch of a run as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

One process per replica with its steps, and counters of KV blocks, running and waiting requests; one
track per request with its time in the queue, in prefill and in decoding. Times are microseconds
from the start of the run, as the format has them ("Trace Event Format", Google, 2016).
"""

import json
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from sim.recording.blocks import Block, blocks
from sim.recording.result import STATUS_NAMES, Result

Event = dict[str, Any]
MICRO = 1e6
ABOUT = ("replica", "prompt_tokens", "output_tokens", "cached_tokens", "preemptions")
REQUESTS_PID = 1_000_000
"""Process of the requests, behind those of all replicas."""


def events(result: Result, start_s: float, stop_s: float) -> Iterator[Event]:
    """Return the events of what happened from ``start_s`` to ``stop_s``, seconds."""
    for replica in range(len(result.reads)):
        yield _named(replica, f"replica {replica}")
        yield from _queues(result, replica, start_s, stop_s)
    yield _named(REQUESTS_PID, "requests")
    for block in blocks(result):
        yield from _steps(block, start_s, stop_s)
    yield from _requests(result, start_s, stop_s)


def write_trace(result: Result, start_s: float, stop_s: float, about: str, file: TextIO) -> int:
    """Write the trace, one event a line; return how many there are."""
    count = 0
    file.write('{"displayTimeUnit": "ms", "otherData": ')
    file.write(json.dumps({"about": about}))
    file.write(', "traceEvents": [\n')
    for event in events(result, start_s, stop_s):
        file.write((",\n" if count else "") + json.dumps(event))
        count += 1
    file.write("\n]}\n")
    return count


def _named(pid: int, name: str) -> Event:
    return {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}


def _steps(block: Block, start_s: float, stop_s: float) -> Iterator[Event]:
    begin_s, end_s = block.floats("start_s"), block.floats("end_s")
    names = ("steps", "decodes", "padding", "chunks", "prefill_tokens", "kv_blocks")
    counts = {name: block.ints(name) for name in names}
    for row in np.flatnonzero((end_s > start_s) & (begin_s < stop_s)).tolist():
        values = {name: int(column[row]) for name, column in counts.items()}
        time = begin_s[row] * MICRO
        yield {
            "ph": "X", "name": _step_name(values), "cat": "step", "pid": block.replica, "tid": 0,
            "ts": time, "dur": (end_s[row] - begin_s[row]) * MICRO, "args": values,
        }  # fmt: skip
        yield {
            "ph": "C", "name": "KV blocks", "pid": block.replica, "tid": 0,
            "ts": end_s[row] * MICRO, "args": {"held": values["kv_blocks"]},
        }  # fmt: skip


def _step_name(values: dict[str, int]) -> str:
    """``8 steps of 12`` decoding sequences, or ``prefill 512 + 12`` decoding ones."""
    if values["chunks"]:
        return f"prefill {values['prefill_tokens']} + {values['decodes']}"
    steps = values["steps"]
    return f"{steps} step{'s' if steps > 1 else ''} of {values['decodes']}"


def _queues(result: Result, replica: int, start_s: float, stop_s: float) -> Iterator[Event]:
    """Running and waiting requests of a replica, wherever they change."""
    mine = result.requests["replica"] == replica
    reached, begun, left = (
        result.requests[name][mine] for name in ("reached_s", "first_scheduled_s", "finish_s")
    )
    left = np.fmin(left, result.requests["timed_out_s"][mine])
    begun_or_left = np.fmin(begun, left)
    started = np.where(np.isnan(begun), np.nan, left)
    for name, more, less in (
        ("waiting", reached, begun_or_left), ("running", begun, started)
    ):  # fmt: skip
        times = np.concatenate((more[~np.isnan(more)], less[~np.isnan(less)]))
        steps = np.repeat([1, -1], [int((~np.isnan(more)).sum()), int((~np.isnan(less)).sum())])
        order = np.argsort(times, kind="stable")
        level = np.cumsum(steps[order])
        for at in np.flatnonzero((times[order] >= start_s) & (times[order] < stop_s)).tolist():
            yield {
                "ph": "C", "name": name, "pid": replica, "tid": 0,
                "ts": float(times[order][at]) * MICRO, "args": {name: int(level[at])},
            }  # fmt: skip


def _requests(result: Result, start_s: float, stop_s: float) -> Iterator[Event]:
    columns = result.requests
    sent_s = columns["sent_s"]
    last_s = np.fmin(columns["finish_s"], columns["timed_out_s"])
    last_s = np.where(np.isnan(last_s), result.end_s, last_s)
    inside = ~np.isnan(sent_s) & (last_s > start_s) & (sent_s < stop_s)
    for row in np.flatnonzero(inside).tolist():
        about = {
            name: int(columns[name][row])
            for name in (
                "replica",
                "prompt_tokens",
                "output_tokens",
                "cached_tokens",
                "preemptions",
            )
        }
        status = STATUS_NAMES[int(columns["status"][row])]
        edges = [
            ("queue", sent_s[row]), ("prefill", columns["first_scheduled_s"][row]),
            ("decode", columns["first_token_s"][row]),
        ]  # fmt: skip
        known = [(name, float(time)) for name, time in edges if not np.isnan(time)]
        ends = [time for _, time in known[1:]] + [float(last_s[row])]
        whole = (f"request {row}", known[0][1], float(last_s[row]))
        spans = [whole, *((name, time, end) for (name, time), end in zip(known, ends, strict=True))]
        for name, begin, end in spans:
            common = {"cat": "request", "id": row, "pid": REQUESTS_PID, "tid": 0, "name": name}
            yield {"ph": "b", "ts": begin * MICRO, **common, "args": {**about, "status": status}}
            yield {"ph": "e", "ts": max(begin, end) * MICRO, **common}
