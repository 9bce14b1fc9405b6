"""What collected metrics say of engines: as the reference, which sets them after every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import Scenario
from tests.sim import small
from tests.sim.random_clusters import SCHEDULERS
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.requests import Requests

METRICS = ("queue", "running_requests_size", "kv_cache_utilization", "load_aware")


@st.composite
def watched(draw: st.DrawFn) -> Scenario:
    """Engines with few seats, whose metrics alone decide who goes where."""
    some, scheduler = st.sampled_from, draw(st.sampled_from(SCHEDULERS))
    scorers = draw(st.lists(some(METRICS), min_size=1, max_size=2, unique=True))
    return small.scenario(
        replicas=draw(some([2, 3])),
        router="llm_d",
        router_settings={
            "scorers": {scorer: draw(some([1.0, 2.0])) for scorer in scorers},
            "load_aware_threshold": 3.0,
            "refresh_metrics_interval_s": draw(some([0.0, 0.0, 0.0007, 0.001, 0.005])),
        },
        scheduler=scheduler,
        async_scheduling=scheduler == "chunked_prefill" and draw(st.booleans()),
        order=draw(some(["fcfs", "priority"])),
        max_num_seqs=draw(st.integers(1, 3)),
        max_num_batched_tokens=draw(some([4, 80])),
        num_gpu_blocks=draw(st.integers(10, 40)),
        block_size=4,
        max_model_len=40,
        batch_timeout_s=draw(some([0.0, 0.004])),
        step_overhead_s=draw(some([0.0, 1e-3])),
        client=ClientConfig(
            max_concurrency=draw(some([None, 4])), timeout_s=draw(some([None, 0.01, 0.03]))
        ),
    )


def crowd(seed: int, gap_s: float = 0.002) -> Requests:
    """Some come in the middle of long runs of steps that they cannot join."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(3, 24))
    return small.requests(
        np.round(np.cumsum(rng.exponential(gap_s, rows)), 4).tolist(),
        rng.integers(1, 9, rows).tolist(),
        rng.integers(1, 20, rows).tolist(),
        rng.integers(0, 3, rows).tolist(),
    )


@tries(100)
@given(watched(), st.builds(crowd, st.integers(0, 2**16), st.sampled_from([0.0005, 0.002])))
def test_random_metrics(scenario: Scenario, requests: Requests) -> None:
    assert_equal_to_reference(scenario, requests)


@pytest.mark.parametrize(
    ("scheduler", "ahead", "seats"),
    [*((scheduler, False, 1) for scheduler in SCHEDULERS), ("chunked_prefill", True, 2)],
)
def test_who_came_in_a_run_that_is_over_is_counted(scheduler: str, ahead: bool, seats: int) -> None:
    """Frozen cases: who comes while all seats are taken does not cut the run of steps short, and
    has waited in its last step."""
    scenario = small.scenario(
        replicas=2, router="llm_d",
        router_settings={"scorers": {"queue": 1.0}, "refresh_metrics_interval_s": 0.0},
        scheduler=scheduler, async_scheduling=ahead, max_num_seqs=seats, num_gpu_blocks=40,
        block_size=4, max_model_len=40, step_overhead_s=1e-3,
    )  # fmt: skip
    for seed in range(10):
        assert_equal_to_reference(scenario, crowd(seed))
