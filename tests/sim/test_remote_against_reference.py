"""KV in a store that replicas share: the fast path equals the reference, to the bit, and loses
nothing."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.recording.result import FINISHED, Result
from sim.settings.scenario import Scenario
from sim.settings.shared_store import SharedStore
from tests.sim import small
from tests.sim.random_clusters import routers, workloads
from tests.sim.test_tiers_against_reference import behind, brought, caching_engines
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests


@st.composite
def sharing(draw: st.DrawFn, below_host: bool = False) -> Scenario:
    some = st.sampled_from
    router, router_settings = draw(routers())
    scenario = small.scenario(
        replicas=draw(some([1, 2, 2, 3])),
        router=router,
        router_settings=router_settings,
        seed=draw(st.integers(0, 3)),
        version=draw(some(["0.33", "0.33", "0.32"])),
        **draw(caching_engines()),
        kv_offloading_size=1.0 if below_host else None,
        kv_connector_extra_config={
            "blocks_per_chunk": draw(some([1, 1, 2, 3])),
            "offload_prompt_only": draw(st.booleans()),
            "eviction_policy": draw(some(["lru", "arc"])) if below_host else "lru",
        },
    )
    if below_host:
        scenario = behind(
            scenario, draw(st.integers(1, 120)), draw(some([1e-6, 1e-4, 1e-3])),
            draw(some([0.0, 1e-3, 3e-3])),
        )  # fmt: skip
    return with_store(
        scenario, draw(st.integers(1, 120)), link_s=draw(some([1e-6, 1e-4, 1e-3])),
        store_s=draw(some([0.0, 1e-4, 1e-3])), latency_s=draw(some([0.0, 1e-3, 3e-3])),
        min_load_tokens=0 if below_host else draw(some([0, 0, 9])),
        writes_back=below_host and draw(st.booleans()),
    )  # fmt: skip


def with_store(
    scenario: Scenario, chunks: int, *, link_s: float, store_s: float = 0.0, latency_s: float = 0.0,
    min_load_tokens: int = 0, writes_back: bool = False,
) -> Scenario:  # fmt: skip
    """The same with a store of so many chunks, each of which takes so long on either link."""
    blocks = scenario.pools[0].engine.kv_connector_extra_config.blocks_per_chunk
    tokens = scenario.pools[0].ledger.block_size * blocks
    store = SharedStore(chunks, 1, tokens, link_s, store_s, latency_s, min_load_tokens, writes_back)
    return replace(scenario, pools=tuple(replace(pool, store=store) for pool in scenario.pools))


def checked(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    """See ``brought``; compare the store's columns too, and look at what laws say of it."""
    result, expected = brought(scenario, requests, stop_s)
    columns, replicas = result.requests, result.replicas
    for row, seq in enumerate(expected["seqs"]):
        if columns["status"][row] == FINISHED:
            assert columns["store_tokens"][row] == seq.store_tokens, row
    done = columns["status"] == FINISHED
    engines = expected["world"].engines
    names = {"written": "wrote", "read": "read", "evicted": "evicted", "refused": "refused"}
    for name, attribute in names.items():
        counts = [getattr(engine, attribute) for engine in engines]
        assert replicas[f"store_chunks_{name}"].tolist() == counts, name
    for way in ("read", "write"):
        assert replicas[f"store_{way}_s"].tolist() == [engine.moved_s[way] for engine in engines]
        assert (replicas[f"store_{way}_stall_s"] >= 0).all()
    kept = result.total("store_chunks_written") - result.total("store_chunks_evicted")
    assert 0 <= kept == len(expected["world"].store.chunks) <= replicas["store_chunks"][0]
    if "host_chunks" in replicas:
        come = replicas["host_chunks_stored"] + replicas["store_chunks_read"]
        kept_by_host = [engine.host.count for engine in engines]
        assert (come - replicas["host_chunks_evicted"]).tolist() == kept_by_host
        assert replicas["host_chunks_kept"].tolist() == kept_by_host
    else:
        assert (columns["store_tokens"] == columns["brought_tokens"])[done].all()
    assert (columns["store_tokens"] <= columns["brought_tokens"])[done].all()
    return result


@tries(150)
@given(sharing(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios_with_a_store(
    scenario: Scenario, requests: Requests, stop_s: float
) -> None:
    checked(scenario, requests, stop_s)


@tries(100)
@given(sharing(below_host=True), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios_with_a_store_below_the_hosts(
    scenario: Scenario, requests: Requests, stop_s: float
) -> None:
    checked(scenario, requests, stop_s)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("tier", "version"),
    [("store", "0.33"), ("store, hosts", "0.33"), ("store, hosts", "0.32"),
     ("store, hosts, write_back", "0.33")],
)  # fmt: skip
def test_much_is_read_evicted_and_preempted(tier: str, version: str, ahead: bool) -> None:
    """Frozen cases, so that the properties above cannot pass for want of the hard part."""
    router = "round_robin" if tier == "store" else "least_requests"
    scenario = small.scenario(
        replicas=3, router=router, version=version, enable_prefix_caching=True,
        async_scheduling=ahead, max_num_seqs=8, num_gpu_blocks=44, block_size=4,
        max_num_batched_tokens=64, max_model_len=200,
        kv_connector_extra_config={"offload_prompt_only": False},
        kv_offloading_size=1.0 if "hosts" in tier else None,
    )  # fmt: skip
    if "hosts" in tier:
        scenario = behind(scenario, 60, 5e-5, 3e-4)
    scenario = with_store(
        scenario, 150, link_s=1e-4, store_s=8e-5, latency_s=7e-4, writes_back="back" in tier
    )
    rng = np.random.default_rng(7)
    rows = 120
    prompts = rng.integers(20, 90, rows)
    requests = small.requests(
        np.cumsum(rng.exponential(0.0015, rows)).tolist(), prompts.tolist(),
        rng.integers(1, 60, rows).tolist(),
        prefixes=prompt_prefixes(prompts, prompt_id=rng.integers(0, 9, rows)),
    )  # fmt: skip
    result = checked(scenario, requests)
    assert (result.requests["store_tokens"] > 0).sum() > 15
    assert result.requests["preemptions"].sum() > 10
    assert result.total("store_chunks_evicted") > 50
    if "hosts" in tier:
        assert result.total("host_chunks_evicted") > 50
    assert result.replicas["store_read_stall_s"].sum() > 0.01
