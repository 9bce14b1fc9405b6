"""The API server as a queue: requests on their way in, tokens on their way out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.api_server import all_reached_s
from sim.engine.journal import Journal, pack_segment
from sim.measuring.decomposition import decomposition
from sim.measuring.latencies import request_latencies
from sim.measuring.token_gaps import token_gaps
from sim.recording.result import FINISHED
from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import ApiTime
from sim.simulation import can_be_split, simulate, simulate_part, whole
from sim.traffic.outbox import Outbox
from tests.sim import small
from tests.tries import tries

IN = {"api_request_s": 0.3, "api_token_s": 0.01, "api_loop_request_s": 0.1}


def test_requests_are_read_one_after_the_other() -> None:
    api = ApiTime(request_s=0.3, token_s=0.01, loop_request_s=0.1)
    sent_s, tokens = np.array([0.0, 0.0, 0.1, 2.0]), np.array([10, 20, 10, 10])
    # 0.2, 0.3 and 0.2 s each; 0.2 s behind that.
    expected = [0.4, 0.7, 0.9, 2.4]
    assert all_reached_s(api, 1, sent_s, tokens).tolist() == pytest.approx(expected)
    # Two processes: the third is read by the first one, which is free at 0.2.
    two = ApiTime(request_s=0.3, token_s=0.01, loop_request_s=0.1, servers=2)
    expected = [0.4, 0.5, 0.6, 2.4]
    assert all_reached_s(two, 1, sent_s, tokens).tolist() == pytest.approx(expected)
    one_each = ApiTime(request_s=0.3, token_s=0.01, loop_request_s=0.1)
    assert all_reached_s(one_each, 2, sent_s, tokens).tolist() == pytest.approx(expected)
    # Rows that are not in order of time.
    back = all_reached_s(api, 1, sent_s[::-1].copy(), tokens[::-1].copy())
    assert back.tolist() == pytest.approx([2.4, 0.9, 0.5, 0.7])


def test_a_client_and_open_arrivals_meet_the_same_queue() -> None:
    requests = small.requests([0.0, 0.0, 0.05, 3.0], [10, 20, 10, 5], [4] * 4)
    alone = simulate(small.scenario(**IN), requests).requests
    capped = simulate(small.scenario(client=ClientConfig(max_concurrency=9), **IN), requests)
    for name in ("reached_s", "first_token_s", "finish_s"):
        assert alone[name].tolist() == capped.requests[name].tolist()
    assert alone["reached_s"][1] == pytest.approx(0.2 + 0.3 + 0.2)


def test_tokens_of_a_step_stream_before_those_of_the_next() -> None:
    requests = small.requests([0.0] * 4, [8] * 4, [50] * 4)
    bare = simulate(small.scenario(), requests)
    slow = simulate(small.scenario(api_loop_output_s=0.5), requests)
    two = simulate(small.scenario(api_loop_output_s=0.5, api_server_count=2), requests)
    # The engine goes on as before, its four streams wait for their turn: 4 x 0.5 s a step.
    assert slow.step_end_s.tolist() == bare.step_end_s.tolist()
    first_s = bare.requests["first_token_s"][0]
    assert slow.requests["first_token_s"].tolist() == pytest.approx([first_s + 1.0] * 4)
    assert slow.requests["finish_s"].tolist() == pytest.approx([first_s + 49 * 2.0 + 1.0] * 4)
    assert two.requests["finish_s"].tolist() == pytest.approx([first_s + 49 * 1.0 + 0.5] * 4)
    seldom = simulate(small.scenario(api_loop_output_s=0.5, stream_interval=2), requests)
    assert seldom.requests["finish_s"].tolist() == two.requests["finish_s"].tolist()
    tpot_s = request_latencies(slow)["tpot"]
    assert tpot_s == pytest.approx([2.0] * 4)
    gaps = [gap for each in token_gaps(slow) for gap in np.repeat(each.gap_s, each.weight)]
    assert gaps == pytest.approx([2.0] * 4 * 49)


def test_a_fast_server_shows_each_token_half_its_step_later() -> None:
    requests = small.requests([0.0, 5.0], [8, 8], [3, 3])
    bare, late = (
        simulate(small.scenario(**api), requests).requests
        for api in ({}, {"api_loop_output_s": 1e-6})
    )
    assert late["finish_s"] - bare["finish_s"] == pytest.approx([5e-7] * 2)
    assert late["streaming_s"] == pytest.approx([5e-7] * 2)
    assert not bare["streaming_s"].any()


def test_users_wait_for_the_tokens_that_are_on_their_way() -> None:
    requests = small.requests([], [8] * 30, [10] * 30, users=6, think_s=[0.0] * 30)
    bare = simulate(small.scenario(), requests).requests
    slow = simulate(small.scenario(api_loop_output_s=0.05), requests).requests
    assert (slow["status"] == FINISHED).all()
    # 30 answers of 10 tokens, 0.05 s each, one after the other: the server is what limits.
    assert slow["finish_s"].max() == pytest.approx(30 * 10 * 0.05, rel=0.05)
    assert bare["finish_s"].max() < 1.0


def test_parts_of_replicas_and_of_latencies_add_up() -> None:
    rng = np.random.default_rng(1)
    arrivals = np.sort(rng.uniform(0, 2, 60))
    requests = small.requests(
        arrivals.tolist(), rng.integers(5, 40, 60).tolist(), rng.integers(1, 30, 60).tolist()
    )
    setup = small.scenario(replicas=3, **IN, api_output_s=0.01, api_loop_output_s=0.004)
    result = simulate(setup, requests)
    for span, name in (("ttft", "first_token_s"), ("e2e", "finish_s")):
        parts = decomposition(result.requests, span, setup.api.output_s)
        whole = result.requests[name] - result.requests["sent_s"]
        np.testing.assert_array_equal(sum(parts.values()), whole)
    ttft = decomposition(result.requests, "ttft", setup.api.output_s)
    assert (ttft["chunk_wait"] < 1e-9).all()  # streaming is the API's part
    for number in range(3):
        own = result.of_replicas(range(number, number + 1))
        assert own.seen_s is not None
        assert len(own.seen_s) == len(own.step_end_s)
        assert np.isin(own.requests["finish_s"] - 0.01, np.asarray(own.seen_s)).all()


def test_parts_of_a_run_are_as_the_whole() -> None:
    rng = np.random.default_rng(4)
    requests = small.requests(
        np.sort(rng.uniform(0, 5, 120)).tolist(),
        rng.integers(5, 60, 120).tolist(),
        rng.integers(1, 40, 120).tolist(),
    )
    setup = small.scenario(replicas=3, **IN, api_output_s=0.003, api_loop_output_s=0.002)
    assert can_be_split(setup, requests)
    at_once = simulate(setup, requests)
    parts = [simulate_part(setup, requests, numbers) for numbers in ([0, 2], [1])]
    put_together = whole(setup, requests, parts)
    for name, column in at_once.requests.items():
        np.testing.assert_array_equal(column, put_together.requests[name])
    np.testing.assert_array_equal(np.asarray(at_once.seen_s), np.asarray(put_together.seen_s))


@tries(100)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 2), st.lists(st.floats(0.5, 2.0), min_size=1)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_steps_that_cannot_wait_need_not_be_looked_at(
    segments: list[tuple[int, int, list[float]]], together: int
) -> None:
    """Streams of a segment and who joins it, and its steps, none of them shorter than 0.5 s."""
    plain, calm = Outbox(0.05), Outbox(0.05)
    calm.calm_s = 0.45
    journal, now_s = Journal(1 << 20), 0.0
    for at in range(0, len(segments), together):
        for decodes, joined, lengths_s in segments[at : at + together]:
            journal.segments += pack_segment(
                now_s, now_s + sum(lengths_s), 0, len(lengths_s), decodes, 0, 0, joined, 0, 0
            )
            for length_s in lengths_s:
                now_s += length_s
                journal.step_end_s.append(now_s)
            journal.steps += len(lengths_s)
        assert calm.last_seen_s(journal) == plain.last_seen_s(journal)
        assert calm.free_s == plain.free_s
