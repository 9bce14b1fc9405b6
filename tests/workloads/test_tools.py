"""Agents: questions that take several requests, with tools and sub-agents between them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.recording.result import FINISHED
from sim.simulation import simulate
from tests.sim import small
from tests.tries import tries
from tests.workloads.test_linked_traces import after
from tests.workloads.test_sessions import fixed, texts, upto, workload
from workloads.generate import generate
from workloads.requests import Requests
from workloads.tools import Tools

POISSON = {"process": "poisson", "rate_per_s": 4.0}
TOOLS = {"calls": fixed(2), "output": fixed(5), "result": fixed(7), "time_s": 1.5}


def drawn(count: int = 7, seed: int = 0, **tools: object) -> Requests:
    sessions = {"turns": fixed(2), "system_tokens": 20, "tools": TOOLS | tools}
    sessions |= {"think_s": 4.0, "think_law": "constant"}
    return generate(workload(sessions=sessions, num_requests=count), seed)


def test_a_question_with_two_calls_is_three_requests() -> None:
    requests = drawn()
    assert requests.turn is not None
    assert requests.think_s is not None
    assert requests.turn.tolist() == [0, 1, 2, 3, 4, 5, 0]
    # 20 + 10; a call of 5 and its result of 7, twice; the answer of 4 and 3 new tokens; calls.
    assert requests.prompt_tokens.tolist() == [30, 42, 54, 61, 73, 85, 30]
    assert requests.output_tokens.tolist() == [5, 5, 4, 5, 5, 4, 5]
    assert requests.think_s.tolist() == [2.0, 1.5, 1.5, 4.0, 1.5, 1.5, 2.0]
    assert requests.after is None
    text = texts(requests)
    assert text[1][:30] == text[0][:30]
    assert text[5][: len(text[4])] == text[4][:85]


def test_some_questions_are_answered_at_once() -> None:
    requests = drawn(3000, share=0.25)
    assert requests.think_s is not None
    tools = (requests.think_s == 1.5).mean()
    # A question takes three requests with 25%, else one: two of 1.5 requests wait for a tool / 4.
    assert tools == pytest.approx(0.5 / 1.5, abs=0.03)


def test_calls_of_a_question_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools.model_validate(TOOLS | {"calls": fixed(9)})
    assert tools.requests(2, 0).tolist() == [10, 10]
    monkeypatch.setattr("workloads.tools.MOST_CALLS", 3)
    assert tools.requests(2, 0).tolist() == [4, 4]


def test_longer_workloads_begin_with_the_shorter_one() -> None:
    agents = {"count": upto(3), "prompt": upto(9), "output": upto(9), "steps": upto(2)}
    short, long = (
        drawn(count, 3, calls=upto(4), time_law="exponential", agents=agents) for count in (40, 200)
    )
    for name in ("prompt_tokens", "output_tokens", "session", "turn"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:40])
    assert after(short) == after(long)[:40]


def test_what_comes_after_a_call_waits_for_its_sub_agents() -> None:
    agents = {
        "count": fixed(2), "prompt": fixed(50), "output": fixed(8), "steps": fixed(2),
        "added": fixed(6),
    }  # fmt: skip
    requests = drawn(12, calls=fixed(1), agents=agents)
    assert after(requests) == [
        [], [0], [1], [0], [3], [2, 4],  # a call, two agents of two requests, the answer
        [5], [6], [7], [6], [9], [8, 10],
    ]  # fmt: skip
    assert requests.prompt_tokens.tolist()[:6] == [30, 70, 84, 70, 84, 42]
    assert requests.output_tokens.tolist()[:6] == [5, 8, 8, 8, 8, 4]
    assert requests.think_s is not None
    assert requests.think_s.tolist()[:7] == [2.0, 0.0, 1.5, 0.0, 1.5, 1.5, 4.0]
    text = texts(requests)
    assert text[2][:78] == text[1]  # prompt and answer of the agent's first request
    assert text[3][:20] == text[1][:20] != text[3][20:40]  # only the system prompt in common
    assert text[5][:35] == text[0]


@pytest.mark.parametrize(("most", "prompts"), [(100, [50, 65, 80]), (103, [50, 65, 80, 95])])
def test_agents_end_before_they_say_too_much(most: int, prompts: list[int]) -> None:
    agents = {"count": fixed(1), "prompt": fixed(50), "output": fixed(8), "steps": fixed(9)}
    sessions = {
        "turns": fixed(1), "think_s": 4.0, "max_context_tokens": most,
        "tools": TOOLS | {"calls": fixed(1), "agents": agents},
    }  # fmt: skip
    requests = generate(workload(sessions=sessions, num_requests=5), 0)
    # 50 + 8; 65 + 8; 80 + 8; 95 + 8 are 103.
    first = [10, *prompts, 22][:5]
    assert requests.prompt_tokens.tolist() == first
    assert after(requests) == [[], [0], [1], [2], [3]]


@tries(60)
@given(st.data(), st.integers(0, 2**16))
def test_agents_are_served_whole(data: st.DataObject, seed: int) -> None:
    """Whatever the laws: everybody is asked, after those it waits for and its gap."""
    some = st.sampled_from
    agents = {
        "count": upto(data.draw(some([1, 4]))),
        "share": data.draw(some([0.3, 1.0])),
        "prompt": upto(30),
        "output": upto(9),
        "steps": data.draw(some([None, upto(3)])),
    }
    sessions = {
        "turns": upto(3),
        "think_s": data.draw(some([0.0, 0.5])),
        "max_context_tokens": data.draw(some([None, 60])),
        "tools": {
            **TOOLS,
            "calls": upto(3),
            "share": data.draw(some([0.5, 1.0])),
            "time_law": data.draw(some(["constant", "exponential"])),
            "agents": data.draw(some([None, agents, agents])),
        },
    }
    arrivals = data.draw(some([POISSON, {"process": "closed_loop", "users": 2}]))
    requests = generate(workload(arrivals, sessions=sessions, num_requests=40), seed)
    columns = simulate(small.scenario(), requests).requests
    assert (columns["status"] == FINISHED).all()
    assert requests.think_s is not None
    for row, before in enumerate(after(requests)):
        if before:
            due_s = columns["finish_s"][before].max() + requests.think_s[row]
            assert columns["arrival_s"][row] == due_s


def test_what_further_requests_add_needs_further_requests() -> None:
    agents = {"count": fixed(1), "prompt": fixed(5), "output": fixed(5), "added": fixed(3)}
    with pytest.raises(ValidationError, match=r"agents\.steps is missing"):
        drawn(agents=agents)
