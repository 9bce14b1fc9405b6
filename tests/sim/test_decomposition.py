"""Where the time of a request went: exact sums, and a constructed case for each cause."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sim.measuring.decomposition import OF_TTFT, PARTS, client_wait_s, decomposition, exact_parts
from sim.recording.result import FINISHED
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import scenarios, workloads
from tests.tries import tries
from workloads.requests import Requests

SECONDS = st.floats(0, 1e4, allow_subnormal=False)


@settings(deadline=None)
@given(arrays(np.float64, (5, 7), elements=SECONDS))
def test_parts_add_up_in_any_order(values: np.ndarray) -> None:
    parts = {str(place): row.copy() for place, row in enumerate(values)}
    total = np.array([math.fsum(column) for column in values.T])
    found = np.stack(list(exact_parts(total, parts).values()))
    for column, whole in zip(found.T.tolist(), total.tolist(), strict=True):
        assert math.fsum(column) == whole
        assert sum(column) == whole
        assert sum(reversed(column)) == whole
    np.testing.assert_allclose(found, values, atol=1e-11)
    assert (found >= 0).all()


@tries(60)
@given(scenarios(), workloads())
def test_every_request_of_every_run_adds_up(setting: Scenario, requests: Requests) -> None:
    result = simulate(setting, requests)
    columns, done = result.requests, result.requests["status"] == FINISHED
    for span, end in (("ttft", "first_token_s"), ("e2e", "finish_s")):
        parts = decomposition(columns, span, setting.api.output_s)
        total = columns[end] - columns["sent_s"]
        for row in np.flatnonzero(done):
            found = [float(part[row]) for part in parts.values()]
            assert sum(found) == math.fsum(found) == total[row]
            assert min(found) > -1e-12
        assert all(np.isnan(part[~done]).all() for part in parts.values())
    assert not (client_wait_s(columns)[done] < 0).any()


API = {"api_request_s": 5.0, "api_token_s": 0.0, "api_output_s": 0.25}
CASES = {
    "queue": (0, "ttft", {"max_num_seqs": 1}, [0.0, 0.0], [4, 4], [200, 2], 1),
    "prefill": (0, "ttft", {}, [0.0], [400], [2], 0),
    "api": (0, "ttft", API, [0.0], [4], [2], 0),
    "decode": (0, "e2e", {}, [0.0], [4], [200], 0),
    "paused": (
        1,
        "e2e",
        {"num_gpu_blocks": 10, "block_size": 16},
        [0.0, 0.0],
        [60, 60],
        [95, 30],
        1,
    ),
}
"""Cause: preemptions at least, span, engine, arrivals, prompts, outputs, and the row of it."""


@pytest.mark.parametrize("cause", CASES)
def test_every_cause_is_named(cause: str) -> None:
    preempted, span, engine, arrivals, prompts, outputs, row = CASES[cause]
    setting = small.scenario(**engine)
    columns = simulate(setting, small.requests(arrivals, prompts, outputs)).requests
    assert columns["preemptions"][row] >= preempted
    parts = {name: float(part[row]) for name, part in
             decomposition(columns, span, setting.api.output_s).items()}  # fmt: skip
    assert max(parts, key=parts.__getitem__) == cause, parts


def test_blocks_that_are_lost_before_the_first_token() -> None:
    """The second prompt takes the last blocks, and loses them to the first one's decoding."""
    engine = {"num_gpu_blocks": 12, "max_num_batched_tokens": 40, "max_num_seqs": 4}
    setting = small.scenario(scheduler_reserve_full_isl=True, **engine)
    columns = simulate(setting, small.requests([0.0, 0.0], [64, 120], [80, 2])).requests
    assert columns["preemptions"].tolist() == [0, 1]
    parts = decomposition(columns, "ttft", 0.0)
    assert parts["preempted"][1] > 0.5 * (columns["first_token_s"] - columns["sent_s"])[1]


def test_steps_between_chunks_and_the_client_by_hand() -> None:
    """Sent at 1, reached at 1.5, begun at 2, 3 s of 7 computed, 1 s without blocks, done at 16."""
    columns = {
        "status": np.array([FINISHED]), "arrival_s": np.array([0.25]), "sent_s": np.array([1.0]),
        "reached_s": np.array([1.5]), "first_scheduled_s": np.array([2.0]),
        "first_token_s": np.array([9.75]), "finish_s": np.array([16.75]),
        "streaming_s": np.array([0.25]),
        "computed_s": np.array([3.0]), "lost_s": np.array([1.0]), "paused_s": np.array([2.0]),
    }  # fmt: skip
    found = {name: float(part[0]) for name, part in decomposition(columns, "e2e", 0.5).items()}
    assert found == {
        "api": 1.25, "queue": 0.5, "prefill": 3.0, "chunk_wait": 3.0, "preempted": 1.0,
        "decode": 5.0, "paused": 2.0,
    }  # fmt: skip
    assert client_wait_s(columns).tolist() == [0.75]
    ttft = decomposition(columns, "ttft", 0.5)
    assert tuple(ttft) == OF_TTFT
    assert sum(float(part[0]) for part in ttft.values()) == 8.75
    assert set(PARTS) == set(found)
