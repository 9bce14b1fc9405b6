"""What makes the simulator fast changes nothing: runs of steps, the clock's shortcut, dealing."""

from array import array
from dataclasses import replace
from itertools import accumulate
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.gpu import load_gpu
from hardware.steps.cost import StepCost
from model.spec import load_spec
from sim import simulation
from sim.clock import Clock
from sim.engine.agenda import ARRIVAL, STEP_END
from sim.engine.arrivals import Arrivals, Coming
from sim.engine.sequence import Sequence
from sim.recording.result import UNFINISHED
from sim.settings.cluster_config import ClientConfig, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.registry import ORDERS
from sim.settings.scenario import Scenario, build_scenario
from tests.sim import small
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.requests import Requests

PRICES = {
    (model, attention): build_scenario(
        load_spec(model),
        load_gpu("a100-80gb-sxm"),
        ClusterConfig(gpu="a100-80gb-sxm"),
        EngineConfig(attention=attention, max_num_seqs=64),
    ).pool.price
    for model in ("llama-3-8b", "mistral-7b")
    for attention in ("fused", "standard")
}


def decode_ends_s(price: StepCost, *run: float) -> list[float]:
    ends_s = array("d")
    last_s = price.decode_ends_s(*run, ends_s)
    assert last_s == ends_s[-1]
    assert type(last_s) is float
    return ends_s.tolist()


@tries(200)
@given(
    which=st.sampled_from(sorted(PRICES)),
    start_s=st.floats(0, 1e6),
    decodes=st.integers(1, 64),
    mean_context=st.integers(1, 8000),
    steps=st.integers(1, 150),
    after_s=st.one_of(st.just(inf), st.floats(1e-9, 3.0)),
)
def test_ends_of_a_run_are_sums_of_its_steps(
    which: tuple[str, str],
    start_s: float,
    decodes: int,
    mean_context: int,
    steps: int,
    after_s: float,
) -> None:
    price, context = PRICES[which], decodes * mean_context
    until_s = start_s + after_s
    got = decode_ends_s(price, start_s, decodes, context, decodes, steps, until_s)
    durations = [price.step_s(decodes, context + i * decodes, ()) for i in range(steps)]
    ends_s = list(accumulate(durations, initial=start_s))[1:]
    before = sum(end_s < until_s for end_s in ends_s)  # and the step in progress at until_s
    assert got == ends_s[: before + 1]


def test_the_step_in_progress_at_an_arrival_is_the_last_of_its_run() -> None:
    price = PRICES["llama-3-8b", "fused"]
    ends_s = decode_ends_s(price, 0.0, 4, 400, 4, 100, inf)
    for until_s, steps in ((ends_s[40], 41), (np.nextafter(ends_s[40], inf), 42)):
        assert decode_ends_s(price, 0.0, 4, 400, 4, 100, float(until_s)) == ends_s[:steps]


def test_arrivals_wait_where_something_happens_before() -> None:
    """They go on by themselves; at one instant it is as with events: who was there first."""
    clock, log = Clock(), []
    times_s = [1.0, 1.0, 2.0, 3.0, 9.0, inf]
    blocks = [(list(range(6)), times_s, [1] * 6, [1] * 6, [0] * 6)]
    for time_s, priority in ((2.5, STEP_END), (3.0, ARRIVAL), (3.0, STEP_END)):
        clock.at(time_s, priority).callbacks.append(lambda _: log.append(("event", clock.now)))
    arrivals = Arrivals(
        clock.agenda, ARRIVAL, Coming(iter(blocks)),
        lambda each: log.append((each.request, clock.now)),
    )  # fmt: skip
    arrivals.start()
    clock.run_through(5.0)
    assert log == [(0, 1), (1, 1), (2, 2), ("event", 2.5), ("event", 3), (3, 3), ("event", 3)]
    assert clock.now == 3.0
    clock.run_through(inf)
    assert log[7:] == [(4, 9)]  # and nobody comes at the end of time


@pytest.mark.parametrize("seed", [249, 486, 498, *range(20)])
def test_every_gap_is_the_reference_s_with_split_prompts_and_priorities(seed: int) -> None:
    """Preemption in the midst of split prompts: whoever is thrown out gives back its budget."""
    assert_equal_to_reference(*split_prompts(seed, 40))


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(("seed", "budget"), [(77, 12), (101, 16), (140, 40), (134, 9)])
def test_every_gap_is_the_reference_s_where_decodes_are_held_back(
    seed: int, budget: int, planned: bool
) -> None:
    """Seeds in which it happens, rare as it is: until 0.32 a victim ends the round."""
    setup, requests = split_prompts(seed, budget, async_scheduling=planned, version="0.32")
    result = assert_equal_to_reference(setup, requests)
    assert len(result.returned_step)


def split_prompts(seed: int, budget: int, **engine: object) -> tuple[Scenario, Requests]:
    rng = np.random.default_rng(seed)
    setup = small.scenario(
        scheduler="chunked_prefill", order="priority", max_num_seqs=8,
        max_num_batched_tokens=budget, block_size=4, max_model_len=200,
        long_prefill_token_threshold=int(rng.integers(3, 12)),
        num_gpu_blocks=int(rng.integers(20, 40)), **engine,
    )  # fmt: skip
    rows = 40
    requests = small.requests(
        np.cumsum(rng.exponential(1e-3, rows)).tolist(),
        rng.integers(1, 70, rows).tolist(),
        rng.integers(1, 30, rows).tolist(),
        rng.integers(0, 3, rows).tolist(),
    )
    return setup, requests


@pytest.mark.parametrize("order", ["fcfs", "shortest_prompt", "priority"])
@pytest.mark.parametrize("router", ["random", "least_requests"])
def test_every_request_is_accounted_for_wherever_the_clock_stops(order: str, router: str) -> None:
    setup = small.scenario(replicas=2, router=router, order=order, max_num_seqs=3)
    rng = np.random.default_rng(7)
    rows = 60
    requests = small.requests(
        np.cumsum(rng.exponential(2e-3, rows)).tolist(),
        rng.integers(1, 60, rows).tolist(),
        rng.integers(1, 40, rows).tolist(),
    )
    whole = simulation.simulate(setup, requests)
    for stop_s in (0.0, 0.03, 0.07, whole.end_s):
        stopped = simulation.simulate(setup, requests, stop_s).requests
        arrived = requests.arrival_s <= stop_s
        assert (stopped["replica"][arrived] == whole.requests["replica"][arrived]).all()
        assert (stopped["replica"][~arrived] == -1).all()
        finished = whole.requests["finish_s"] <= stop_s
        assert (stopped["finish_s"][finished] == whole.requests["finish_s"][finished]).all()
        assert (stopped["status"][~finished] == UNFINISHED).all()


def test_who_waits_can_be_listed() -> None:
    for order in ("fcfs", "priority"):
        queue = ORDERS[order]()
        rows = [Sequence(row, 0.0, 5, 5, 3 - row) for row in range(3)]
        for sequence in rows:
            queue.push(sequence)
        assert sorted(each.request for each in queue.members()) == [0, 1, 2]
        assert len(queue) == 3


@pytest.mark.parametrize("ahead", [False, True])
def test_an_answer_sends_the_next_request_to_a_replica_whose_step_has_just_ended(
    ahead: bool,
) -> None:
    """Replicas in lockstep: at one instant ends go by number, so the first one's next step began.

    Whether that step is one of a run that was slept through must not matter.
    """
    scenario = small.scenario(
        replicas=2, router="round_robin", scheduler="chunked_prefill", async_scheduling=ahead,
        max_num_seqs=6, max_num_batched_tokens=17, num_gpu_blocks=20, step_overhead_s=1e-3,
    )  # fmt: skip
    for outputs in ([5, 3, 1, 5], [9, 2, 3, 2], [8, 5, 4, 4]):
        requests = small.requests([], [6, 6, 3, 6], outputs, [0] * 4, users=2, think_s=[0.0] * 4)
        assert_equal_to_reference(scenario, requests)


def test_so_does_an_answer_that_a_client_sees_at_once() -> None:
    """It looks when the second replica has had its turn: the first one's next step has begun."""
    scenario = small.scenario(replicas=2, max_num_seqs=3, client=ClientConfig(max_concurrency=2))
    requests = small.requests([], [2] * 6, [5, 4, 2, 3, 1, 1], [0] * 6, users=2, think_s=[0.0] * 6)
    assert_equal_to_reference(scenario, requests)


def bent(setup: Scenario) -> Scenario:
    """Attention of decodes gets dearer by the position from 20 positions a sequence on."""
    pieces = [
        ((20 * count, flat_s - 20 * count * 9 * slope_s, 10 * slope_s), (0, flat_s, slope_s))
        for count, ((_, flat_s, slope_s),) in enumerate(setup.pool.price.decode_pieces[0])
    ]
    price = replace(setup.pool.price, decode_pieces=[pieces])
    return replace(setup, pools=(replace(setup.pool, price=price),))


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
