"""The fast path equals the step-by-step reference simulator, to the bit."""

from collections import Counter
from math import copysign, inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.measuring.token_gaps import token_gaps
from sim.recording.result import FINISHED, REJECTED, TIMED_OUT, UNFINISHED, Result
from sim.settings.cluster_config import NO_CLIENT
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.reference_sequence import Seq
from tests.reference_simulator import reference
from tests.reference_world import World, rows_before
from tests.sim import small
from tests.sim.random_clusters import GROUPS, SCHEDULERS, clusters, scenarios, sessions, workloads
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests


def assert_equal_to_reference(
    scenario: Scenario, requests: Requests, stop_s: float = inf
) -> Result:
    return compare(scenario, requests, stop_s)[0]


def compare(
    scenario: Scenario, requests: Requests, stop_s: float = inf, world: type[World] = World
) -> tuple[Result, dict]:
    """Compare every column and every step; return both results."""
    result = simulate(scenario, requests, stop_s)
    expected = reference(scenario, requests, stop_s, world)
    columns = {name: values.tolist() for name, values in result.requests.items()}
    for row, seq in enumerate(expected["seqs"]):
        got = {name: values[row] for name, values in columns.items()}
        if requests.users is None and not np.isnan(requests.arrival_s[row]):
            seq.asked_s = float(requests.arrival_s[row])  # known beforehand, whenever one stops
        has_client = scenario.client != NO_CLIENT or bool(requests.waits and scenario.api)
        for name, value in _columns(seq, scenario, stop_s, has_client).items():
            exactly(got[name], value, f"row {row} {name}")
        if "claimed_tokens" in got:
            exactly(got["claimed_tokens"], seq.claimed, f"row {row} claimed_tokens")
            age_s = float(np.float32(seq.metrics_age_s))
            exactly(got["metrics_age_s"], age_s, f"row {row} metrics_age_s")
    names = ("start_s", "end_s", "decodes", "padding", "chunks", "prefill_tokens")
    steps = result.steps()
    for number, rows in enumerate(expected["steps"]):
        mine = steps["replica"] == number
        got_steps = list(zip(*(steps[name][mine].tolist() for name in names), strict=True))
        assert got_steps == rows
    assert [[list(each) for each in reads] for reads in result.reads] == expected["work"]
    if stop_s == inf:
        assert result.total("blocks_held") == expected["held"] == 0
    assert _gaps(result) == Counter(
        gap for seq in expected["seqs"] for gap in np.diff(seq.token_s).tolist()
    )  # every inter-token latency of the run
    return result, expected


def exactly(got: float, expected: float, place: str) -> None:
    """See that two numbers are the same to the bit, the sign of a zero as well."""
    equal = got == expected and copysign(1, got) == copysign(1, expected)
    assert equal or (isnan(got) and isnan(expected)), f"{place}: {got!r}, expected {expected!r}"


def _columns(seq: Seq, scenario: Scenario, stop_s: float, has_client: bool) -> dict[str, float]:
    """What the client has seen of a request when the clock stops."""
    seen = [token_s + scenario.api.output_s for token_s in seq.token_s]
    seen = [time_s for time_s in seen if time_s <= stop_s and not time_s >= seq.given_up_s]
    finished = len(seen) == seq.output
    status = {"rejected": REJECTED, "given up": TIMED_OUT}.get(
        seq.status, FINISHED if finished else UNFINISHED
    )
    sent_s = seq.sent_s if has_client else seq.asked_s
    computed = {"computed_s": seq.computed_s} if finished else {}
    return {
        **computed,
        "status": status,
        "replica": seq.home,
        "preemptions": seq.preemptions,
        "cached_tokens": seq.cached,
        "arrival_s": seq.asked_s,
        "sent_s": sent_s,
        "reached_s": scenario.api.reached_s(sent_s, seq.prompt),
        "first_scheduled_s": seq.first_scheduled_s,
        "first_token_s": seen[0] if seen else np.nan,
        "finish_s": seen[-1] if finished else np.nan,
        "timed_out_s": seq.given_up_s,
    }


def _gaps(result: Result) -> Counter[float]:
    count = Counter[float]()
    for gaps in token_gaps(result):
        for gap_s, weight in zip(gaps.gap_s.tolist(), gaps.weight.tolist(), strict=True):
            count[gap_s] += weight
    return +count


@tries(100)
@given(scenarios(), sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    result = assert_equal_to_reference(scenario, requests, stop_s)
    status, asked = result.requests["status"], ~np.isnan(result.requests["arrival_s"])
    for row in np.flatnonzero(requests.turn > 0):
        before = rows_before(requests, row)
        if asked[row]:
            assert (status[before] == FINISHED).all()
            due_s = result.requests["finish_s"][before].max() + requests.think_s[row]
            assert result.requests["arrival_s"][row] == due_s


@tries(200)
@given(scenarios(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@tries(100)
@given(clusters(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_pools(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


def test_the_random_scenarios_include_much_preemption() -> None:
    """A frozen case, so that the property above cannot pass for want of the hard part."""
    for scheduler in SCHEDULERS:
        scenario = small.scenario(
            scheduler=scheduler, max_num_seqs=12, num_gpu_blocks=40, block_size=4,
            max_num_batched_tokens=64, max_model_len=200,
        )  # fmt: skip
        rng = np.random.default_rng(3)
        requests = small.requests(
            [0.0] * 60, rng.integers(1, 30, 60).tolist(), rng.integers(1, 90, 60).tolist()
        )
        result = assert_equal_to_reference(scenario, requests)
        assert result.requests["preemptions"].sum() > 10
        assert len(result.resumed_gap_s) > 5


@pytest.mark.parametrize("version", ["0.22", "0.33"])
@pytest.mark.parametrize("order", ["fcfs", "priority"])
@pytest.mark.parametrize("windows", GROUPS)
def test_groups_give_blocks_back_while_others_are_thrown_out(
    windows: small.Windows, order: str, version: str
) -> None:
    """Windows free blocks in the middle of a run; who falls short is served in order."""
    scenario = small.scenario(
        scheduler="chunked_prefill", max_num_seqs=9, num_gpu_blocks=46, block_size=4, order=order,
        max_num_batched_tokens=50, max_model_len=200, windows=windows, version=version,
        async_scheduling=version == "0.33", watermark=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    prompts, outputs = rng.integers(1, 90, 60).tolist(), rng.integers(1, 90, 60).tolist()
    arrivals = np.cumsum(rng.exponential(2e-3, 60)).tolist()
    requests = small.requests(arrivals, prompts, outputs, rng.integers(0, 3, 60).tolist())
    result = assert_equal_to_reference(scenario, requests)
    assert len(scenario.pool.ledger.layout.groups) > 1
    assert (result.requests["status"] == FINISHED).sum() > 10
    if windows == (None, 5):
        assert result.requests["preemptions"].sum() > 10


@pytest.mark.parametrize("retention", [0, "dense", 48])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("layer", "version"), [(small.STATE, "0.33"), (small.SCAN, "0.33"), (small.STATE, "0.29")]
)
def test_states_are_found_while_others_are_thrown_out(
    layer: int, version: str, ahead: bool, retention: int | str
) -> None:
    """Prompts that begin alike, and blocks for a few of them."""
    scenario = small.scenario(
        max_num_seqs=9, num_gpu_blocks=48, block_size=16, max_num_batched_tokens=60,
        version=version, max_model_len=300, windows=(None, layer, layer), async_scheduling=ahead,
        watermark=0.0, enable_prefix_caching=True, prefix_cache_retention_interval=retention,
    )  # fmt: skip
    rng = np.random.default_rng(11)
    prompts, outputs = rng.integers(20, 150, 50).tolist(), rng.integers(1, 90, 50).tolist()
    arrivals = np.cumsum(rng.exponential(4e-3, 50)).tolist()
    prefixes = prompt_prefixes(np.array(prompts) + 9, prompt_id=rng.integers(0, 4, 50))
    result = assert_equal_to_reference(
        scenario, small.requests(arrivals, prompts, outputs, prefixes=prefixes)
    )
    assert result.requests["preemptions"].sum() > 10
    assert (result.requests["cached_tokens"] > 0).sum() > 5
