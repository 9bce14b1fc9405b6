"""Steps that are taken in one function are those of the main loop, to the bit."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.calibration import DATASHEET
from hardware.engines import engine_calibration
from hardware.gpu import load_gpu
from model.spec import load_spec
from sim import replica
from sim.chunked_prefill import ChunkedPrefill
from sim.engine_config import EngineConfig
from sim.express import goes_express
from sim.result import Result
from sim.scenario import ClientConfig, ClusterConfig, Scenario, build_scenario
from sim.sequence import Batch
from sim.simulation import make_scheduler, simulate
from tests.sim import small
from tests.sim.test_against_reference import ROUTERS, assert_equal_to_reference
from tests.sim.test_long_runs import hand_over_often
from workloads.requests import Requests


def by_the_main_loop(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica, "goes_express", lambda _: False)
        return simulate(scenario, requests, stop_s)


@st.composite
def ordinary(draw: st.DrawFn) -> Scenario:
    """Chunked prefill in order of arrival, with all that may interrupt it."""
    max_num_seqs = draw(st.integers(1, 12))
    setup = small.scenario(
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        router=draw(st.sampled_from(ROUTERS)),
        seed=draw(st.integers(0, 3)),
        idle_start_s=draw(st.sampled_from([0.0, 2e-3])),
        async_scheduling=draw(st.booleans()),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 80)),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 7])),
        block_size=draw(st.sampled_from([1, 4, 16])),
        num_gpu_blocks=draw(st.integers(8, 80)),
        watermark=draw(st.sampled_from([None, 0.05])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        long_prefill_limits_alone=draw(st.booleans()),
        max_model_len=draw(st.sampled_from([40, 200])),
        api_request_s=draw(st.sampled_from([0.0, 0.0, 2e-3])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 3, 8])),
            timeout_s=draw(st.sampled_from([None, None, 2e-2, 0.1])),
        ),
    )
    return bent(setup) if draw(st.booleans()) else setup


def bent(setup: Scenario) -> Scenario:
    """Attention of decodes gets dearer by the position from 20 positions a sequence on."""
    pieces = [
        ((20 * count, flat_s - 20 * count * 9 * slope_s, 10 * slope_s), (0, flat_s, slope_s))
        for count, ((_, flat_s, slope_s),) in enumerate(setup.price.decode_pieces)
    ]
    return replace(setup, price=replace(setup.price, decode_pieces=pieces))


@st.composite
def crowds(draw: st.DrawFn) -> Requests:
    rows = draw(st.integers(1, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    prompts = rng.integers(1, draw(st.sampled_from([8, 60, 150])) + 1, rows).tolist()
    outputs = rng.integers(1, draw(st.sampled_from([1, 5, 60])) + 1, rows).tolist()
    if draw(st.integers(0, 3)) == 0:
        users, think_s = draw(st.integers(1, 10)), [draw(st.sampled_from([0.0, 0.003]))] * rows
        return small.requests([], prompts, outputs, [0] * rows, users=users, think_s=think_s)
    gaps = rng.exponential(draw(st.sampled_from([0.0, 1e-4, 2e-3, 2e-2])), rows)
    # Multiples of the step overhead make arrivals and step ends coincide.
    arrivals = np.cumsum(np.round(gaps, 3) if draw(st.booleans()) else gaps)
    return small.requests(arrivals.tolist(), prompts, outputs)


@settings(max_examples=150, deadline=None)
@given(ordinary(), crowds(), st.sampled_from([inf, inf, 0.02]), st.booleans())
def test_a_run_is_the_same_with_and_without(
    scenario: Scenario, requests: Requests, stop_s: float, in_bits: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if in_bits:
            hand_over_often(patch)
        express = simulate(scenario, requests, stop_s)
        small.assert_same(express, by_the_main_loop(scenario, requests, stop_s))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(("rate_per_s", "output_tokens"), [(12.0, 200), (0.2, 2000)])
def test_so_is_one_at_the_prices_of_a_real_model(
    ahead: bool, measured: bool, rate_per_s: float, output_tokens: int
) -> None:
    gpu = load_gpu("a100-80gb-sxm")
    setup = build_scenario(
        load_spec("llama-3-8b"), gpu, ClusterConfig(gpu="a100-80gb-sxm"),
        EngineConfig(async_scheduling=ahead),
        engine_calibration("vllm-0.8", gpu) if measured else DATASHEET,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    rows = 4000 // output_tokens * 10
    requests = small.requests(
        np.cumsum(rng.exponential(1 / rate_per_s, rows)).tolist(),
        rng.integers(1, 1500, rows).tolist(),
        rng.integers(1, 2 * output_tokens, rows).tolist(),
    )
    small.assert_same(simulate(setup, requests), by_the_main_loop(setup, requests))


@pytest.mark.parametrize("ahead", [False, True])
def test_a_router_sees_the_tokens_of_a_replica_whose_step_has_just_ended(ahead: bool) -> None:
    setup = small.scenario(
        replicas=3, router="least_tokens", max_num_seqs=4, max_num_batched_tokens=64,
        async_scheduling=ahead,
    )  # fmt: skip
    rng, rows = np.random.default_rng(0), 150
    prompts, outputs = rng.integers(1, 60, rows).tolist(), rng.integers(1, 40, rows).tolist()
    requests = small.requests([], prompts, outputs, [0] * rows, users=12, think_s=[0.0] * rows)
    assert_equal_to_reference(setup, requests)
    small.assert_same(simulate(setup, requests), by_the_main_loop(setup, requests))


@pytest.mark.parametrize("bend", [False, True])
def test_where_all_seats_are_taken_an_arrival_cuts_no_run_short(bend: bool) -> None:
    setup = small.scenario(max_num_seqs=2, num_gpu_blocks=2000)
    setup = bent(setup) if bend else setup
    rng, rows = np.random.default_rng(0), 150
    requests = small.requests(
        np.cumsum(rng.exponential(5e-3, rows)).tolist(),
        rng.integers(1, 60, rows).tolist(),
        rng.integers(1, 60, rows).tolist(),
    )
    assert_equal_to_reference(setup, requests)
    small.assert_same(simulate(setup, requests), by_the_main_loop(setup, requests))


def test_it_takes_nearly_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the main loop throw somebody out, or find nobody to compute."""
    formed, form = 0, ChunkedPrefill.next_batch

    def counted(self: ChunkedPrefill, now_s: float) -> Batch | None:
        nonlocal formed
        batch = form(self, now_s)
        formed += batch is not None
        return batch

    monkeypatch.setattr(ChunkedPrefill, "next_batch", counted)
    rng = np.random.default_rng(5)
    requests = small.requests(
        np.cumsum(rng.exponential(2e-3, 500)).tolist(),
        rng.integers(1, 200, 500).tolist(),
        rng.integers(1, 60, 500).tolist(),
    )
    roomy = simulate(small.scenario(num_gpu_blocks=2000, max_num_seqs=32), requests)
    assert len(roomy.step_end_s) > 500
    assert formed == 0
    tight = simulate(small.scenario(num_gpu_blocks=60, max_num_seqs=32), requests)
    assert 0 < formed <= tight.requests["preemptions"].sum()


@pytest.mark.parametrize(
    "other",
    [
        {"order": "priority"}, {"order": "shortest_prompt"}, {"scheduler": "prefill_first"},
        {"scheduler": "static"}, {"enable_prefix_caching": True},
        {"sliding_window": 30},
    ],
)  # fmt: skip
def test_other_schedulers_go_by_the_main_loop(other: dict[str, object]) -> None:
    for ahead in (False, True):
        assert goes_express(make_scheduler(small.scenario(async_scheduling=ahead)))
    assert not goes_express(make_scheduler(small.scenario(**other)))  # type: ignore[arg-type]
