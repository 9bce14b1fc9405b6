"""Pipeline stages: the engine equals vLLM's engine core, written out step by step, to the bit."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import Scenario
from tests.sim import small
from tests.sim.random_clusters import PLAIN_ROUTERS, sessions, workloads
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.requests import Requests

RULES = (("0.33", None), ("0.33", False), ("0.20", None), ("0.20", False), ("0.15", None))
"""Spaced, held (with a queue that steps of nobody fill), followed, held, held."""


@st.composite
def pipelines(draw: st.DrawFn) -> Scenario:
    max_num_seqs = draw(st.integers(1, 12))
    version, asynchronous = draw(st.sampled_from(RULES))
    stages = draw(st.integers(2, 5))
    return small.scenario(
        stages=stages,
        replicas=draw(st.sampled_from([1, 1, 2])),
        router=draw(st.sampled_from(PLAIN_ROUTERS)),
        seed=draw(st.integers(0, 3)),
        windows=(draw(st.sampled_from([None, None, 5])),) * draw(st.integers(stages, 7)),
        version=version,
        async_scheduling=asynchronous,
        enable_prefix_caching=draw(st.booleans()),
        idle_start_s=draw(st.sampled_from([0.0, 0.0, 2e-3])),
        first_request_s=draw(st.sampled_from([0.0, 0.0, 4e-3])),
        order=draw(st.sampled_from(["fcfs", "shortest_prompt", "priority"])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 80)),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 7, 16])),
        block_size=draw(st.sampled_from([1, 4, 16])),
        num_gpu_blocks=draw(st.integers(8, 80)),
        watermark=draw(st.sampled_from([None, 0.0, 0.05])),
        null_block=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        long_prefill_limits_alone=draw(st.booleans()),
        reuse_unhashed_first=draw(st.booleans()),
        max_model_len=draw(st.sampled_from([40, 200, None])),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 3, 8])),
            timeout_s=draw(st.sampled_from([None, None, 2e-3, 2e-2, 0.1])),
        ),
    )


@tries(200)
@given(pipelines(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@tries(60)
@given(pipelines(), sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)
