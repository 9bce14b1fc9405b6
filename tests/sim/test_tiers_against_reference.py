"""KV in the host's memory: the fast path equals the reference, to the bit, and loses nothing."""

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.memory.host_link import HostLink
from sim.recording.result import FINISHED, Result
from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import Scenario
from tests.sim import small
from tests.sim.random_clusters import workloads
from tests.sim.test_against_reference import compare
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

GROUPED: tuple[small.Windows, ...] = ((None, 6), (3, None), (None, 5, 5), (6, None, 30))


@st.composite
def caching_engines(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of engines that find prefixes, small enough that all of them come into play."""
    some, seats = st.sampled_from, draw(st.integers(1, 12))
    return {
        "enable_prefix_caching": True,
        "async_scheduling": draw(st.booleans()),
        "idle_start_s": draw(some([0.0, 0.0, 2e-3])),
        "order": draw(some(["fcfs", "shortest_prompt", "priority"])),
        "max_num_seqs": seats,
        "max_num_batched_tokens": seats + draw(st.integers(0, 80)),
        "long_prefill_token_threshold": draw(some([0, 0, 7])),
        "block_size": draw(some([1, 4, 16])),
        "num_gpu_blocks": draw(st.integers(8, 80)),
        "watermark": draw(some([None, 0.0, 0.05])),
        "scheduler_reserve_full_isl": draw(st.booleans()),
        "long_prefill_limits_alone": draw(st.booleans()),
        "reuse_unhashed_first": draw(st.booleans()),
        "max_model_len": draw(some([40, 200, None])),
        "step_overhead_s": draw(some([0.0, 1e-3])),
        "client": ClientConfig(timeout_s=draw(some([None, None, 2e-3, 2e-2]))),
    }


@st.composite
def tiered(draw: st.DrawFn, grouped: bool = False) -> Scenario:
    told: dict[str, object] = {}
    if grouped:
        block_size = draw(st.sampled_from([1, 4, 16]))
        told = {
            "windows": draw(st.sampled_from(GROUPED)),
            "block_size": block_size,
            "prefix_cache_retention_interval": draw(
                st.sampled_from([None, "dense", 0, 3 * block_size])
            ),
        }
    scenario = small.scenario(
        replicas=draw(st.sampled_from([1, 1, 2])),
        version="0.33",
        **(draw(caching_engines()) | told),
        kv_offloading_size=1.0,
        kv_connector_extra_config={
            "blocks_per_chunk": 1 if grouped else draw(st.sampled_from([1, 1, 2, 3])),
            "eviction_policy": draw(st.sampled_from(["lru", "arc"])),
            "store_threshold": draw(st.sampled_from([0, 0, 2])),
            "max_tracker_size": draw(st.sampled_from([8, 64_000])),
            "offload_prompt_only": draw(st.booleans()),
        },
    )
    block_s = draw(st.sampled_from([1e-6, 1e-4, 1e-3]))
    latency_s = draw(st.sampled_from([0.0, 1e-3, 3e-3]))
    return behind(scenario, draw(st.integers(1, 120)), block_s, latency_s)


def behind(scenario: Scenario, chunks: int, block_s: float, latency_s: float = 0.0) -> Scenario:
    """The same with room for so many chunks, behind a link that takes so long for a block."""
    pool = scenario.pool
    assert pool.host is not None
    host = replace(pool.host, size_bytes=pool.host.chunk_bytes * chunks)
    link = HostLink(bytes_per_s=pool.ledger.block_bytes / block_s, latency_s=latency_s)
    engine = pool.engine.model_copy(update={"host_link": link})
    return replace(scenario, pools=(replace(pool, host=host, engine=engine),))


def brought(
    scenario: Scenario, requests: Requests, stop_s: float = inf
) -> tuple[Result, dict[str, Any]]:
    """Compare every column, those of what is brought as well: nothing is lost, nothing made."""
    result, expected = compare(scenario, requests, stop_s)
    columns = result.requests
    for row, seq in enumerate(expected["seqs"]):
        if columns["status"][row] == FINISHED:
            assert columns["brought_tokens"][row] == seq.brought, row
            assert columns["loading_s"][row] == seq.loading_s, row
    done = columns["status"] == FINISHED
    found = columns["cached_tokens"] + columns["brought_tokens"]
    assert (found[done] < columns["prompt_tokens"][done]).all()
    if done.all() and not columns["preemptions"].any():
        computed = result.total("computed_prefill_tokens") + found.sum()
        padded = computed - columns["prompt_tokens"].sum()  # last tokens with rows as of drafts
        assert padded >= 0 if scenario.pool.drafts else padded == 0
    return result, expected


def checked(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    """See ``brought``; and look at what laws say of the tier."""
    result, _ = brought(scenario, requests, stop_s)
    replicas = result.replicas
    assert (replicas["host_chunks_kept"] <= replicas["host_chunks"]).all()
    kept = replicas["host_chunks_stored"] - replicas["host_chunks_evicted"]
    assert kept.tolist() == replicas["host_chunks_kept"].tolist()
    return result


@tries(150)
@given(tiered(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios_with_a_host(
    scenario: Scenario, requests: Requests, stop_s: float
) -> None:
    checked(scenario, requests, stop_s)


@tries(200)
@given(tiered(grouped=True), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios_with_a_host_of_several_groups(
    scenario: Scenario, requests: Requests, stop_s: float
) -> None:
    checked(scenario, requests, stop_s)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("policy", ["lru", "arc"])
@pytest.mark.parametrize("windows", [(None, None), (None, 9), (5, None, 30)])
def test_much_is_brought_evicted_and_preempted(
    windows: small.Windows, policy: str, ahead: bool
) -> None:
    """A frozen case, so that the property above cannot pass for want of the hard part."""
    scenario = small.scenario(
        version="0.33", enable_prefix_caching=True, async_scheduling=ahead, max_num_seqs=8,
        num_gpu_blocks=44 * len({*windows}), block_size=4, max_num_batched_tokens=64,
        max_model_len=200, windows=windows, kv_offloading_size=1.0,
        kv_connector_extra_config={"eviction_policy": policy, "offload_prompt_only": False},
        host_link={"latency_s": 0.0007, "bytes_per_s": 1e7},
    )  # fmt: skip
    pool = scenario.pool
    assert pool.host is not None
    host = replace(pool.host, size_bytes=pool.host.chunk_bytes * 150 * len({*windows}))
    scenario = replace(scenario, pools=(replace(pool, host=host),))
    rng = np.random.default_rng(7)
    rows = 120
    prompts = rng.integers(20, 90, rows)
    requests = small.requests(
        np.cumsum(rng.exponential(0.004, rows)).tolist(), prompts.tolist(),
        rng.integers(1, 60, rows).tolist(),
        prefixes=prompt_prefixes(prompts, prompt_id=rng.integers(0, 9, rows)),
    )  # fmt: skip
    result = checked(scenario, requests)
    assert (result.requests["brought_tokens"] > 0).sum() > 15
    assert result.requests["preemptions"].sum() > 10
    assert result.total("host_chunks_evicted") > 50


def tiny(**changes: object) -> Scenario:
    """Blocks of one token, prefixes that are found, and a host."""
    fields: dict[str, object] = {
        "version": "0.33", "enable_prefix_caching": True, "kv_offloading_size": 1.0,
        "block_size": 1, "watermark": 0.0, "max_model_len": 40, "step_overhead_s": 1e-3,
    }  # fmt: skip
    return small.scenario(**{**fields, **changes})


def test_copies_begin_while_the_only_request_loads() -> None:
    """Nobody computes, but an engine goes on planning while somebody waits: what one that has just
    ended left to copy does not wait for the load."""
    scenario = tiny(
        max_num_seqs=1, max_num_batched_tokens=6, num_gpu_blocks=8, long_prefill_limits_alone=False,
        kv_connector_extra_config={"offload_prompt_only": False},
    )  # fmt: skip
    prompts = np.array([7, 6, 5, 3, 3, 1, 1])
    requests = small.requests(
        [], prompts.tolist(), [3, 3, 3, 1, 1, 1, 1], users=1, think_s=[0.0] * 7,
        prefixes=prompt_prefixes(prompts, prompt_id=np.array([3, 3, 2, 0, 3, 0, 2])),
    )  # fmt: skip
    result = checked(behind(scenario, 6, 1e-3), requests)
    assert result.requests["brought_tokens"].tolist() == [0, 0, 0, 0, 2, 0, 0]


def test_copies_of_one_that_has_ended_begin_with_the_next_step() -> None:
    """The second ends with its last chunk not yet offered; the first goes on decoding, in many
    equal steps, and the copies do not wait for the last of them."""
    scenario = tiny(async_scheduling=True, max_num_seqs=2, max_num_batched_tokens=32)
    prefixes = prompt_prefixes(np.array([16, 23, 16]), prompt_id=np.array([0, 1, 1]))
    requests = small.requests(
        [0.0015, 0.0017, 0.002], [1, 8, 1], [8, 3, 18], prefixes=prefixes
    )  # fmt: skip
    result = checked(behind(scenario, 8, 1e-4), requests)
    assert result.total("host_chunks_stored") > 7


def test_room_that_a_last_offer_takes_is_known_to_the_next_plan() -> None:
    """One has ended, another loads, and a third fits in once chunks made room for a last one."""
    scenario = tiny(
        async_scheduling=True, order="priority", max_num_seqs=2, max_num_batched_tokens=3,
        num_gpu_blocks=22, scheduler_reserve_full_isl=True,
        kv_connector_extra_config={"eviction_policy": "arc", "offload_prompt_only": False},
    )  # fmt: skip
    prefixes = prompt_prefixes(
        np.array([22, 34, 20, 19, 20]), prompt_id=np.array([1, 2, 0, 2, 1])
    )  # fmt: skip
    requests = small.requests(
        [0.001, 0.0026, 0.0056, 0.0067, 0.0077], [7, 19, 5, 4, 5], [14, 1, 14, 9, 17],
        [0, 1, 2, 0, 0], prefixes=prefixes,
    )  # fmt: skip
    result = checked(behind(scenario, 39, 1e-6), requests)
    assert result.total("host_chunks_evicted") > 0
