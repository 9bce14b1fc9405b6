"""One loop reads requests and sends tokens: what a run says, gone through again bit by bit."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.recording.result import FINISHED, Result
from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import ApiTime, Scenario
from sim.simulation import can_be_split, simulate
from tests.sim import small
from tests.tries import tries
from workloads.requests import Requests

SHARED: dict[str, object] = {
    "api_request_s": 0.3, "api_token_s": 0.01, "api_loop_request_s": 0.1,
    "api_loop_output_s": 0.05, "api_shared_loop": True,
}  # fmt: skip


def busy(api: ApiTime, result: Result) -> list[tuple[float, float]]:
    """When tokens are sent: step after step, each behind the one before."""
    segments = {name: np.asarray(column) for name, column in result.segments.items()}
    streams = np.repeat(segments["decodes"] + segments["joined"], segments["steps"])
    found: list[tuple[float, float]] = []
    for end_s, count in zip(np.asarray(result.step_end_s), streams, strict=True):
        begun_s = max(end_s, found[-1][1] if found else 0.0)
        found.append((begun_s, begun_s + count * api.loop_output_s / api.servers))
    return found


def after_reading(sent: list[tuple[float, float]], from_s: float, work_s: float) -> float:
    """When so much work from a time on is done, in what lies between the tokens."""
    now_s = from_s
    for begun_s, done_s in sent:
        if done_s <= now_s:
            continue
        if now_s + work_s <= begun_s:
            break
        work_s -= max(0.0, begun_s - now_s)
        now_s = done_s
    return now_s + work_s


def expected_reached_s(scenario: Scenario, requests: Requests, result: Result) -> np.ndarray:
    """Of one replica: requests in the order of sending, by the process that is free first."""
    api, sent = scenario.api, busy(scenario.api, result)
    free_s = [0.0] * api.servers
    reached_s = np.empty(len(requests))
    for row in np.argsort(result.requests["sent_s"], kind="stable"):
        first = free_s.index(min(free_s))
        begun_s = max(result.requests["sent_s"][row], free_s[first])
        work_s = api.loop_request_s + api.token_s * requests.prompt_tokens[row]
        free_s[first] = after_reading(sent, begun_s, work_s)
        reached_s[row] = free_s[first] + (api.request_s - api.loop_request_s)
    return reached_s


def test_requests_are_read_in_what_tokens_leave() -> None:
    # The second is read from 2.0 on, 0.2 s, while streams of the first one keep the loop busy.
    requests = small.requests([0.0, 2.0], [10, 10], [60, 1])
    scenario = small.scenario(**SHARED)
    result = simulate(scenario, requests)
    alone = simulate(small.scenario(**(SHARED | {"api_shared_loop": False})), requests)
    assert alone.requests["reached_s"].tolist() == pytest.approx([0.4, 2.4])
    assert result.requests["reached_s"][0] == pytest.approx(0.4)
    # 60 tokens, 0.05 s each, without a pause: its tokens keep it until behind 3.4 s.
    begun_s, done_s = (busy(scenario.api, result)[step] for step in (0, 59))
    assert done_s[1] - begun_s[0] == pytest.approx(3.0, rel=0.01)
    assert result.requests["reached_s"][1] == pytest.approx(done_s[1] + 0.2 + 0.2)
    # What is sent waits for nobody who is read.
    name = "finish_s"
    assert result.requests[name][0] == alone.requests[name][0]


@tries(60)
@given(st.data())
def test_a_run_is_what_its_steps_leave_for_reading(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 25))
    numbers = st.integers(0, 40).map(lambda tick: tick / 16)
    arrivals = sorted(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    lengths = st.lists(st.integers(1, 30), min_size=count, max_size=count)
    requests = small.requests(arrivals, data.draw(lengths), data.draw(lengths))
    api = SHARED | {
        "api_loop_output_s": data.draw(st.sampled_from([1e-5, 1e-3, 0.05])),
        "api_token_s": data.draw(st.sampled_from([0.0, 1e-3])),
        "api_server_count": data.draw(st.integers(1, 3)),
        "api_output_s": data.draw(st.sampled_from([0.0, 0.25])),
        "async_scheduling": data.draw(st.booleans()),
    }
    scenario = small.scenario(**api)
    result = simulate(scenario, requests)
    columns = result.requests
    assert (columns["status"] == FINISHED).all()
    expected = expected_reached_s(scenario, requests, result)
    np.testing.assert_allclose(columns["reached_s"], expected, rtol=0, atol=1e-9)
    # The engine does what it does when requests reach it then.
    order = np.argsort(columns["reached_s"], kind="stable")
    sizes = (requests.prompt_tokens[order].tolist(), requests.output_tokens[order].tolist())
    bare = {"async_scheduling": api["async_scheduling"]}
    engine = simulate(
        small.scenario(**bare), small.requests(columns["reached_s"][order].tolist(), *sizes)
    )
    assert engine.step_end_s.tolist() == result.step_end_s.tolist()
    # Each token is seen, in the mean, in the middle of what its step sends.
    middles = [(begun_s + done_s) / 2 for begun_s, done_s in busy(scenario.api, result)]
    np.testing.assert_allclose(np.asarray(result.seen_s), middles, rtol=0, atol=1e-9)


def test_users_who_wait_and_clients_go_through_the_same_loop() -> None:
    requests = small.requests([], [8] * 30, [10] * 30, users=6, think_s=[0.0] * 30)
    scenario = small.scenario(**SHARED)
    result = simulate(scenario, requests)
    assert (result.requests["status"] == FINISHED).all()
    expected = expected_reached_s(scenario, requests, result)
    np.testing.assert_allclose(result.requests["reached_s"], expected, rtol=0, atol=1e-9)
    # All that one loop does, one after the other: it never rests but at the begin.
    work_s = 30 * (0.1 + 8 * 0.01) + 30 * 10 * 0.05
    assert result.requests["finish_s"].max() == pytest.approx(work_s, rel=0.1)


def test_who_gives_up_while_waiting_to_be_read_is_read_for_nothing() -> None:
    requests = small.requests([0.0] * 5, [10] * 5, [1] * 5)
    client = ClientConfig(timeout_s=0.55)
    result = simulate(small.scenario(client=client, **SHARED), requests)
    reached_s = result.requests["reached_s"]
    assert (result.requests["status"] == FINISHED).tolist() == [True] + [False] * 4
    assert all(after - before >= 0.2 - 1e-9 for before, after in pairwise(reached_s.tolist()))


def test_replicas_take_turns_and_depend_on_each_other() -> None:
    requests = small.requests([0.0, 0.0, 0.0, 0.0], [10] * 4, [2] * 4)
    scenario = small.scenario(replicas=2, **SHARED)
    assert not can_be_split(scenario, requests)
    reached_s = simulate(scenario, requests).requests["reached_s"]
    # The second ones of each replica are read while the first ones' tokens are on their way.
    assert reached_s[:2].tolist() == pytest.approx([0.4, 0.4])
    assert reached_s[2:].tolist() == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize("name", ["api_loop_request_s", "api_loop_output_s"])
def test_a_loop_is_shared_by_two_kinds_of_work(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^engine.api_shared_loop: true with {name} = 0, "):
        small.scenario(**(SHARED | {name: 0.0}))
