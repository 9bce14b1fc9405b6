"""Traces that say which requests wait for which: chats, agents, sub-agents, tools."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sim.recording.result import FINISHED
from sim.simulation import simulate
from tests.sim import small
from workloads.generate import generate
from workloads.requests import Requests
from workloads.traces import TraceError
from workloads.workload import Workload


def written(folder: Path, rows: Sequence[dict[str, object]]) -> str:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def replayed(trace: str, **more: object) -> Requests:
    config = {"trace": trace, "trace_sessions": {}, **more}
    return generate(Workload.model_validate(config), 0)


def after(requests: Requests) -> list[list[int]]:
    """Rows that each row waits for."""
    found = requests.after
    if found is None:
        assert requests.turn is not None
        return [[row - 1] if turn else [] for row, turn in enumerate(requests.turn.tolist())]
    bounds = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    return [found.rows[low:high].tolist() for low, high in bounds]


def chat(chat_id: int, parent: int, at_s: float, prompt: int, ids: list[int]) -> dict[str, object]:
    return {
        "chat_id": chat_id, "parent_chat_id": parent, "timestamp": at_s, "input_length": prompt,
        "output_length": 10, "type": "text", "turn": 1, "hash_ids": ids,
    }  # fmt: skip


def test_chats_of_bailian_go_on_with_their_parents(tmp_path: Path) -> None:
    rows = [
        chat(7, -1, 0.0, 32, [1, 2]),
        chat(8, -1, 1.0, 20, [3, 4]),
        chat(9, 7, 5.0, 64, [1, 2, 5, 6]),
        chat(11, 7, 6.0, 60, [1, 2, 5, 7]),  # asked again of the same answer: a branch
        chat(12, 4, 7.0, 20, [9, 10]),  # its parent came before the trace begins
        chat(13, 9, 9.0, 90, [1, 2, 5, 6, 8, 11]),
    ]
    took = {"recorded_ttft_s": 0.5, "recorded_tpot_s": 0.1}
    found = replayed(written(tmp_path, rows), trace_sessions=took)
    assert found.prompt_tokens.tolist() == [32, 64, 60, 90, 20, 20]
    assert found.session.tolist() == [0, 0, 0, 0, 1, 2]
    assert after(found) == [[], [0], [0], [1], [], []]
    np.testing.assert_allclose(found.think_s, [0, 5 - 1.4, 6 - 1.4, 4 - 1.4, 0, 0])
    np.testing.assert_array_equal(found.arrival_s, [0, np.nan, np.nan, np.nan, 1, 7])
    assert "1 go on with requests that are not in the trace" in found.notes[-1]


def test_a_window_begins_sessions_of_what_it_cuts(tmp_path: Path) -> None:
    rows = [chat(n, n - 1, float(n), 20 * n, list(range(2 * n))) for n in range(1, 6)]
    found = replayed(written(tmp_path, rows), start_s=1.5, limit=2)
    assert found.prompt_tokens.tolist() == [60, 80]
    assert after(found) == [[], [0]]
    assert "2 go on with requests that are not in the trace" in found.notes[-1]  # and row 1


def test_delays_of_aiperf_are_gaps_after_answers(tmp_path: Path) -> None:
    """Turns behind the first have no time, and tell what they add to what was said."""
    rows = [
        {"session_id": "a", "timestamp": 0, "input_length": 50, "output_length": 10},
        {"session_id": "b", "timestamp": 100, "input_length": 60, "output_length": 10},
        {"session_id": "a", "delay": 2000, "input_length": 20, "output_length": 10},
        {"session_id": "b", "delay": 500, "input_length": 5, "output_length": 10},
        {"session_id": "b", "delay": 500, "input_length": 7, "output_length": 10},
    ]
    found = replayed(written(tmp_path, rows))
    assert found.session.tolist() == [0, 0, 1, 1, 1]
    assert found.prompt_tokens.tolist() == [50, 80, 60, 75, 92]
    np.testing.assert_array_equal(found.think_s, [0, 2, 0, 0.5, 0.5])
    assert found.prefixes is not None
    assert found.prefixes.streams.tolist() == [0, 0, 1, 1, 1]
    assert found.prefixes.ends.tolist() == [60, 80, 70, 85, 92]
    ids = [{**row, "hash_ids": [5]} for row in rows]
    known = replayed(written(tmp_path, ids)).prefixes
    assert known is not None
    assert known.streams.tolist() == [0, 1, 0, 1, 0, 2, 0, 2, 0, 2]  # all begin with block 5


def test_turns_without_names_of_blocks_say_all_again_if_they_are_long_enough(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chats.csv"
    path.write_text(
        "arrival_s,prompt_tokens,output_tokens,session_id\n"
        "0,50,10,a\n1,60,10,b\n2,65,10,b\n3,80,10,a\n"
    )
    found = replayed(str(path))
    assert found.prefixes is not None
    assert found.prefixes.streams.tolist() == [0, 0, 1, 2]  # 65 tokens do not hold 60 + 10
    assert found.prefixes.ends.tolist() == [60, 80, 60, 65]
    assert replayed(str(path), trace_sessions={"resent": False}).prefixes is None


def test_tools_of_llmservingsim_are_gaps(tmp_path: Path) -> None:
    calls = [
        {"input_toks": 30, "output_toks": 5, "tool_duration_ns": 2_000_000_000},
        {"input_toks": 45, "output_toks": 5, "tool_duration_ns": 0},
        {"input_toks": 50, "output_toks": 5},
    ]
    rows = [
        {"session_id": "s0", "arrival_time_ns": 0, "sub_requests": calls},
        {"session_id": "s1", "arrival_time_ns": 3_000_000_000, "sub_requests": calls[:1]},
    ]
    found = replayed(written(tmp_path, rows))
    assert after(found) == [[], [0], [1], []]
    np.testing.assert_array_equal(found.think_s, [0, 2, 0, 0])
    np.testing.assert_array_equal(found.known_arrival_s, [0, 3])


def test_sessions_of_aiperf_know_what_answers_took(tmp_path: Path) -> None:
    def record(session: str, at_s: float, took_ms: float, prompt: int) -> dict[str, object]:
        return {
            "metadata": {"x_correlation_id": session, "request_start_ns": int(at_s * 1e9)},
            "metrics": {
                "input_sequence_length": {"value": prompt, "unit": "tokens"},
                "output_sequence_length": {"value": 8, "unit": "tokens"},
                "request_latency": {"value": took_ms, "unit": "ms"},
            },
        }

    rows = [record("u", 10.0, 1500, 20), record("v", 11, 100, 9), record("u", 12.0, 10, 40)]
    found = replayed(written(tmp_path, rows))
    assert found.session.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.think_s, [0, 0.5, 0])


def test_a_table_of_ones_own_names_who_waits_for_whom(tmp_path: Path) -> None:
    path = tmp_path / "agents.csv"
    path.write_text(
        "arrival_s,prompt_tokens,output_tokens,request_id,after,gap_s\n"
        "0,100,10,plan,,\n1,50,20,left,plan,0.5\n1,60,30,right,plan,0.25\n9,200,10,sum,left;right,\n"
    )
    found = replayed(str(path))
    assert after(found) == [[], [0], [0], [1, 2]]
    np.testing.assert_array_equal(found.think_s, [0, 0.5, 0.25, 8.0])
    columns = simulate(small.scenario(), found).requests
    assert (columns["status"] == FINISHED).all()
    assert columns["arrival_s"][3] == columns["finish_s"][1:3].max() + 8.0


def call(t: float, took_s: float, prompt: int, ids: list[int], **more: object) -> dict[str, object]:
    return {
        "t": t, "type": "n", "model": "m", "in": prompt, "out": 4, "hash_ids": ids,
        "api_time": took_s, **more,
    }  # fmt: skip


def agent(at_s: float, requests: list[dict[str, object]]) -> dict[str, object]:
    return {
        "t": at_s, "type": "subagent", "agent_id": "a", "subagent_type": "Explore",
        "status": "completed", "models": ["m"], "requests": requests,
    }  # fmt: skip


WEKA = [
    call(0.0, 1.0, 64, [1]),
    agent(1.5, [call(1.5, 1.0, 64, [7]), call(3.0, 1.0, 128, [7, 8])]),
    agent(2.0, [call(0.0, 3.0, 64, [9])]),  # counts from its start
    agent(2.0, [call(2.0, 90.0, 64, [5])]),  # not yet back when the parent goes on
    call(6.0, 1.0, 128, [1, 2]),
    call(7.25, 1.0, 192, [1, 2, 3]),
]


def session(name: str, requests: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": name, "models": ["m"], "block_size": 64, "hash_id_scope": "local",
        "requests": requests,
    }  # fmt: skip


def test_parents_wait_for_their_sub_agents(tmp_path: Path) -> None:
    found = replayed(written(tmp_path, [session("x", WEKA), session("y", WEKA[:1])]))
    assert found.session.tolist() == [0] * 7 + [1]
    # Sent at 0, 1.5, 2, 2, 3, 6, 7.25; answers at 1, 2.5, 5, 92, 4, 7, 8.25.
    assert after(found) == [[], [0], [0], [0], [1], [0, 2, 4], [5], []]
    np.testing.assert_allclose(found.think_s, [0, 0.5, 1, 1, 0.5, 1, 0.25, 0])
    assert found.prefixes is not None
    firsts = found.prefixes.streams[found.prefixes.offsets[:-1]].tolist()
    assert firsts[0] == firsts[5] == firsts[6] != firsts[7]  # ids mean something in a session
    one = tmp_path / "x.json"
    one.write_text(json.dumps(session("x", WEKA), indent=1))
    assert after(replayed(str(one))) == after(found)[:-1]


def test_sessions_of_a_trace_begin_as_arrivals_say(tmp_path: Path) -> None:
    trace = written(tmp_path, [session(name, WEKA) for name in "abcd"])
    users = {"process": "closed_loop", "users": 2, "think_s": 3.0, "think_law": "constant"}
    loop = replayed(trace, arrivals=users)
    assert loop.users == 2
    assert np.isnan(loop.arrival_s).all()
    assert loop.think_s.reshape(4, 7)[:, :2].tolist() == [[3.0, 0.5]] * 4
    columns = simulate(small.scenario(), loop).requests
    begun_s, ends_s = columns["arrival_s"].reshape(4, 7)[:, 0], columns["finish_s"].reshape(4, 7)
    assert begun_s.tolist()[:2] == [3.0, 3.0]
    np.testing.assert_allclose(np.sort(begun_s[2:]), np.sort(ends_s.max(axis=1)[:2]) + 3.0)
    every = replayed(trace, arrivals={"process": "deterministic", "rate_per_s": 0.1})
    np.testing.assert_allclose(np.diff(every.known_arrival_s), 10.0)


def test_long_gaps_can_be_cut(tmp_path: Path) -> None:
    trace = written(tmp_path, [session("x", WEKA)])
    found = replayed(trace, trace_sessions={"most_gap_s": 0.5})
    np.testing.assert_allclose(found.think_s, [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25])
    with pytest.raises(ValueError, match="expected most_gap_s"):
        replayed(trace, trace_sessions={"longest_gap_s": 5.0})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", 0), ("b", "", 1)], "waits for the answer to a later request"),
        ([("a", "", 0), ("a", "", 1)], "'a' is the name of two requests"),
        ([("a", "", 0), ("b", "", 1), ("c", "a;b", 2)], "waits for requests of several sessions"),
    ],
)
def test_what_cannot_wait_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, int]], message: str
) -> None:
    names = ("request_id", "after", "arrival_s")
    lengths = {"prompt_tokens": 5, "output_tokens": 2}
    trace = written(tmp_path, [dict(zip(names, row, strict=True)) | lengths for row in rows])
    with pytest.raises(ValueError, match=message):
        replayed(trace)


def test_requests_of_an_agent_need_a_time(tmp_path: Path) -> None:
    bad = session("x", [{"in": 5, "out": 3}])
    with pytest.raises(TraceError, match=r"trace.jsonl:?1?.*expected an object with a time t"):
        replayed(written(tmp_path, [bad, bad]))


def test_arrivals_beside_a_trace_begin_its_sessions(tmp_path: Path) -> None:
    trace = written(tmp_path, [session("x", WEKA)])
    poisson = {"process": "poisson", "rate_per_s": 1.0}
    with pytest.raises(ValidationError, match="to begin its sessions at other times, trace_sess"):
        Workload.model_validate({"trace": trace, "arrivals": poisson})
    with pytest.raises(ValidationError, match="and arrivals are given"):
        replayed(trace, arrivals=poisson, rate_scale=2.0)
