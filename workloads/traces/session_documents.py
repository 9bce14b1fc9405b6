"""Documents that hold whole sessions, as one record per request.

An agent trace of Weka (``requests`` with ``t``, ``in``, ``out`` and ``api_time``, some of them
sub-agents with ``requests`` of their own) tells when requests were sent and answered, but not which
waited for which. Here a request waits for the answer that was complete last before it, of its own
agent; the first of a sub-agent for the request of its parent that was answered last; and the next
of the parent for all sub-agents that have ended by then. What is between is its gap::

    parent     [--- 1 ---]  gap  [--- 5 ---]          5 waits for 1, 3 and 4
    sub-agent             [- 2 -][- 3 -]              2 waits for 1, 3 for 2
    sub-agent             [---- 4 ----]               4 waits for 1

Times within a sub-agent that begin before it does count from its start.

A session of LLMServingSim (``sub_requests``) is a chain: each waits for the one before, and then
for its tool, ``tool_duration_ns``.

Turns of AIPerf's Mooncake traces have a ``session_id`` and a ``delay`` after the answer before, in
ms; all but the first need no ``timestamp``.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any
from zlib import crc32

from workloads.traces.errors import TraceError, shown

Record = Mapping[str, Any]
UNTIMED = "untimed"
"""Key of records whose time is not known before the answer that they wait for."""
_IDS_OF_A_SESSION = 2**31
"""Ids of blocks mean something within a session: those of another get other numbers."""


@dataclass(eq=False, slots=True)
class _Call:
    """A request of an agent trace, as recorded."""

    record: Record
    sent_s: float
    answered_s: float
    before: list["_Call"] = field(default_factory=list)
    number: int = -1


def is_weka(document: Record) -> bool:
    """Tell whether a document is a session of an agent."""
    return isinstance(document.get("requests"), list) and {"id", "block_size"} <= document.keys()


def weka_records(document: Record) -> Iterator[dict[str, object]]:
    """Yield the requests of a session in the order of their times, with whom they wait for.

    Raises:
        TraceError: a request without a time.
    """
    requests = document["requests"]
    own = _calls((each for each in requests if not _is_agent(each)), None)
    agents = [_calls(each["requests"], each.get("t")) for each in requests if _is_agent(each)]
    agents = [calls for calls in agents if calls]
    _spawn(agents, own)
    _join(agents, own)
    every = sorted([*own, *(call for calls in agents for call in calls)], key=_sent_s)
    for number, call in enumerate(every):
        call.number = number
    session = str(document["id"])
    first_id = crc32(session.encode()) * _IDS_OF_A_SESSION
    for call in every:
        yield _record(call, session, first_id)


def is_llmservingsim(document: Record) -> bool:
    """Tell whether a document is a session of calls with tools between them."""
    return isinstance(document.get("sub_requests"), list) and "arrival_time_ns" in document


def llmservingsim_records(document: Record) -> Iterator[dict[str, object]]:
    """Yield the calls of a session, each with the time that the tool before it took.

    Raises:
        TraceError: a call that is no object.
    """
    gap_ns: object = 0
    for number, call in enumerate(document["sub_requests"]):
        if not isinstance(call, dict):
            raise TraceError(f"sub_requests: {shown(call)}, expected a JSON object")
        record = {
            **call,
            "arrival_time_ns": document["arrival_time_ns"],
            "session_id": document.get("session_id"),
            "gap_ns": gap_ns,
        }
        yield record | ({UNTIMED: True} if number else {})
        gap_ns = call.get("tool_duration_ns", 0)


def dated(records: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Give turns that have a delay and no time the time of their session's turn before, and it.

    That is no more than an order: they are asked after an answer.
    """
    last: dict[object, float] = {}
    for place, record in records:
        found = record
        if isinstance(record, dict) and "session_id" in record:
            session, delay = str(record["session_id"]), record.get("delay")
            if "timestamp" not in record and session in last and isinstance(delay, int | float):
                found = {**record, "timestamp": last[session] + delay, UNTIMED: True}
            if isinstance(found.get("timestamp"), int | float):
                last[session] = found["timestamp"]
        yield place, found


def _is_agent(request: object) -> bool:
    return isinstance(request, dict) and isinstance(request.get("requests"), list)


def _calls(requests: Iterable[object], begun_s: object) -> list[_Call]:
    """Return the requests of an agent by time, each after whose answer was the last before it."""
    calls = [_called(request) for request in requests]
    calls.sort(key=_sent_s)
    if calls and isinstance(begun_s, int | float) and calls[0].sent_s < begun_s - 1e-6:
        for call in calls:  # they count from its start
            call.sent_s += begun_s
            call.answered_s += begun_s
    running: list[tuple[float, int]] = []
    latest = -1
    for place, call in enumerate(calls):
        while running and running[0][0] <= call.sent_s:
            latest = heappop(running)[1]
        if latest >= 0:
            call.before.append(calls[latest])
        if call.record.get("out") != 0:  # nobody waits for what has no answer
            heappush(running, (call.answered_s, place))
    return calls


def _called(request: object) -> _Call:
    sent_s = request.get("t") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(sent_s, int | float):
        raise TraceError(f"requests: {shown(request)}, expected an object with a time t")
    took_s = request.get("api_time")
    if not isinstance(took_s, int | float) or not 0 <= took_s < math.inf:
        took_s = 0.0
    return _Call(request, float(sent_s), float(sent_s) + took_s)


def _spawn(agents: list[list[_Call]], own: list[_Call]) -> None:
    """Let who begins a sub-agent wait for the parent's latest answer."""
    ended = sorted((call for call in own if call.record.get("out") != 0), key=_answered_s)
    times = [call.answered_s for call in ended]
    for calls in agents:
        for call in calls:
            place = bisect_right(times, call.sent_s)
            if not call.before and place:
                call.before.append(ended[place - 1])


def _join(agents: list[list[_Call]], own: list[_Call]) -> None:
    """Let the parent wait for sub-agents that have ended."""
    running = sorted(agents, key=_ended_s)
    for call in own[1:]:
        while running and _ended_s(running[0]) <= call.sent_s:
            calls = running.pop(0)
            waited_for = {id(before) for each in calls for before in each.before}
            call.before += [
                each for each in calls
                if id(each) not in waited_for and each.record.get("out") != 0
            ]  # fmt: skip


def _record(call: _Call, session: str, first_id: int) -> dict[str, object]:
    ids = call.record.get("hash_ids", [])
    if isinstance(ids, list) and all(isinstance(each, int) for each in ids):
        ids = [first_id + each for each in ids]
    known_s = max((before.answered_s for before in call.before), default=call.sent_s)
    return {
        "t": call.sent_s,
        "in": call.record.get("in"),
        "out": call.record.get("out"),
        "hash_ids": ids,
        "session_id": session,
        "request_id": f"{session}#{call.number}",
        "after": [f"{session}#{before.number}" for before in call.before],
        "gap_s": max(0.0, call.sent_s - known_s),
    }


def _sent_s(call: _Call) -> float:
    return call.sent_s


def _answered_s(call: _Call) -> float:
    return call.answered_s


def _ended_s(calls: list[_Call]) -> float:
    return max(call.answered_s for call in calls)
