"""Ranks that compute every step together: equal to the slow reference, and to what vLLM's loop says."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import load_gpu
from model.mlps.experts import Experts
from model.spec import DecoderSpec
from sim.engine_config import EngineConfig
from sim.result import FINISHED
from sim.scenario import NO_CLIENT, ClientConfig, ClusterConfig, Scenario, build_scenario
from sim.simulation import can_be_split, simulate
from tests.sim import small
from tests.sim.test_against_reference import WINDOWS, assert_equal_to_reference, sessions, workloads
from workloads.requests import Requests

GPU = load_gpu("h100-sxm")


def mixture(windows: small.Windows = (None, None), dense: int = 0) -> DecoderSpec:
    """The tiny model with 8 experts, of which a token takes 2; the first layers may be dense."""
    spec = small.tiny_spec(windows)
    experts = Experts(hidden_size=64, num_experts=8, per_token=2, width=32)
    kinds = [
        replace(kind, mlp=kind.mlp if kind.places[0] < dense else experts) for kind in spec.layers
    ]
    return replace(spec, layers=tuple(kinds))


def of_ranks(
    *,
    dp: int,
    tp: int = 1,
    replicas: int = 1,
    router: str = "round_robin",
    windows: small.Windows = (None, None),
    spec: DecoderSpec | None = None,
    client: ClientConfig = NO_CLIENT,
    idle_start_s: float = 0.0,
    **engine: object,
) -> Scenario:
    """Engines of some ranks of a tiny mixture, with few blocks and a host that takes its time."""
    given: dict[str, object] = {
        **small.PLAIN, "version": "0.33", "enable_expert_parallel": True, "num_gpu_blocks": 64,
        "step_overhead_s": 1e-3, "sequence_overhead_s": 1e-5, "max_num_batched_tokens": 64,
        "max_num_seqs": 8, "block_size": 4,
    }  # fmt: skip
    prices = Calibration(name="small", source="a test", idle_start_s=idle_start_s)
    cluster = ClusterConfig(
        gpu="h100-sxm", tensor_parallel_size=tp, data_parallel_size=dp, replicas=replicas,
        router=router,
    )  # fmt: skip
    return build_scenario(
        spec or mixture(windows), GPU, cluster, EngineConfig.model_validate(given | engine),
        prices if idle_start_s else DATASHEET, client=client,
    )  # fmt: skip


@st.composite
def engines(draw: st.DrawFn) -> Scenario:
    windows = draw(WINDOWS)
    seats = draw(st.integers(1, 8))
    alike = len(windows) == 1
    return of_ranks(
        dp=draw(st.integers(2, 4)),
        tp=draw(st.sampled_from([1, 1, 2])),
        replicas=draw(st.sampled_from([1, 1, 2])),
        router=draw(st.sampled_from(["round_robin", "least_requests"])),
        windows=windows,
        idle_start_s=draw(st.sampled_from([0.0, 2e-3])),
        version=draw(st.sampled_from(["0.12", "0.20", "0.27", "0.33"])),
        async_scheduling=draw(st.booleans()),
        enable_prefix_caching=alike and draw(st.booleans()),
        order=draw(st.sampled_from(["fcfs", "priority"])),
        max_num_seqs=seats,
        max_num_batched_tokens=seats + draw(st.integers(0, 60)),
        num_gpu_blocks=draw(st.integers(10, 60)),
        scheduler_reserve_full_isl=draw(st.booleans()),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 3])),
            timeout_s=draw(st.sampled_from([None, None, 2e-2, 0.1])),
        ),
    )


@settings(max_examples=150, deadline=None)
@given(engines(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_engines(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@settings(max_examples=40, deadline=None)
@given(engines(), sessions(), st.sampled_from([inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)
