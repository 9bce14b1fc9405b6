"""KV in a store that replicas share: who finds what, over which link, and who waits, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.gpu import load_gpu
from sim.engine.tiers.store_links import READ, WRITE, StoreJob, StoreLinks
from sim.measuring.metrics import summarise
from sim.recording.result import Result
from sim.settings.cluster_config import NO_CLIENT, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.kv_store import SHARE_OF_NETWORK, KvStoreConfig
from sim.settings.kv_store import with_store as shared
from sim.settings.scenario import Scenario, build_scenario, routing_of
from sim.simulation import can_be_split, simulate
from tests.sim import small
from tests.sim.test_remote_against_reference import with_store
from tests.sim.test_tiers_against_reference import behind
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

LATENCY_S, LINK_S = 0.004, 0.001


def job(number: int, way: int, replica: int, link_s: float, store_s: float = 0.0) -> StoreJob:
    one = StoreJob(replica, way, None, [], 0.0)
    one.number, one.link_s, one.store_s = number, link_s, store_s
    return one


def test_transfers_of_one_direction_share_the_store() -> None:
    """Both move from 1 s on; alone each would take 2 s there, together 4 s; the first, whose own
    link is slower than half of the store's, is not held up."""
    links = StoreLinks(latency_s=1.0)
    slow, fast, other = job(1, READ, 0, 4.0, 2.0), job(2, READ, 1, 1.0, 2.0), job(3, WRITE, 0, 1.0)
    for each in (slow, fast, other):
        links.begin(each, 0.0)
    assert links.next_s() == 1.0
    assert links.over(1.0) == []
    assert links.next_s() == 2.0  # whoever writes is alone in its direction
    assert links.over(2.0) == [other]
    assert links.next_s() == 5.0
    assert links.over(5.0) == [slow, fast]


def test_who_is_left_goes_faster() -> None:
    links = StoreLinks(latency_s=0.0)
    long, short = job(1, READ, 0, 0.5, 4.0), job(2, READ, 1, 0.5, 1.0)
    links.begin(long, 0.0)
    links.begin(short, 0.0)
    links.over(0.0)
    assert links.over(2.0) == [short]  # 1 s of bytes at half the pace
    assert links.next_s() == 2.0 + 3.0  # 3 of 4 s are left, alone
    assert links.over(5.0) == [long]


def scenario(chunks: int = 100, replicas: int = 2, **engine: object) -> Scenario:
    """Eight blocks of four tokens on each GPU, requests dealt in turn."""
    fields: dict[str, object] = {
        "version": "0.33", "enable_prefix_caching": True, "block_size": 4, "num_gpu_blocks": 8,
    }  # fmt: skip
    made = small.scenario(replicas=replicas, **(fields | engine))
    return with_store(made, chunks, link_s=LINK_S, latency_s=LATENCY_S)


def prompts(streams: list[int], tokens: int, gap_s: float) -> Requests:
    """Prompts of so many tokens, one after the other, of these texts; one token each."""
    rows = len(streams)
    return small.requests(
        [gap_s * row for row in range(rows)], [tokens] * rows, [1] * rows,
        prefixes=prompt_prefixes(np.full(rows, tokens), prompt_id=np.array(streams)),
    )  # fmt: skip


def served(streams: list[int], tokens: int = 32, gap_s: float = 1.0, **of: object) -> Result:
    return simulate(scenario(**of), prompts(streams, tokens, gap_s))


def test_what_one_replica_computed_another_reads() -> None:
    """The second replica reads all but the last block of 32 tokens, in 7 chunks."""
    result = served([0, 0])
    columns, replicas = result.requests, result.replicas
    assert columns["replica"].tolist() == [0, 1]
    assert columns["cached_tokens"].tolist() == [0, 0]
    assert columns["brought_tokens"].tolist() == [0, 28]
    wait_s = LATENCY_S + 7 * LINK_S
    assert columns["loading_s"][1] == pytest.approx(wait_s)
    assert columns["first_scheduled_s"][1] == pytest.approx(1.0 + wait_s)
    assert replicas["computed_prefill_tokens"].tolist() == [32, 4]
    assert replicas["store_chunks_written"].tolist() == [8, 0]
    assert replicas["store_chunks_read"].tolist() == [0, 7]
    assert replicas["store_read_s"][1] == pytest.approx(wait_s)
    assert replicas["store_write_s"][0] == pytest.approx(LATENCY_S + 8 * LINK_S)
    assert replicas["store_read_stall_s"].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_what_is_not_yet_written_is_computed_again_and_written_once() -> None:
    """The second comes while the first one's copy is on its way."""
    result = served([0, 0], gap_s=LATENCY_S)
    assert result.requests["brought_tokens"].tolist() == [0, 0]
    assert result.replicas["store_chunks_written"].tolist() == [8, 0]


def test_what_the_gpu_has_no_more_comes_back_from_the_store() -> None:
    """One replica: the second text takes all of its blocks."""
    result = served([0, 1, 0], replicas=1)
    assert result.requests["brought_tokens"].tolist() == [0, 0, 28]


def test_blocks_stay_on_the_gpu_until_they_are_written() -> None:
    """Two prompts of 16 and 24 tokens, 8 blocks: the second fits only when the first is written."""
    requests = small.requests([0.0, 1e-6], [16, 24], [1, 1])
    result = simulate(scenario(replicas=1, scheduler_reserve_full_isl=True), requests)
    first_s = result.requests["first_token_s"][0]
    written_s = first_s + LATENCY_S + 4 * LINK_S
    assert result.requests["first_scheduled_s"][1] == pytest.approx(written_s)


def test_a_full_store_keeps_what_was_used_last() -> None:
    """Room for two prompts: the third makes room of the first one's chunks."""
    result = served([0, 1, 2, 1, 0], chunks=16, replicas=1)
    assert result.requests["brought_tokens"].tolist() == [0, 0, 0, 28, 0]
    assert result.replicas["store_chunks_evicted"].tolist() == [16]
    assert result.replicas["store_chunks_written"].tolist() == [32]


def test_few_tokens_are_computed_rather_than_read() -> None:
    made = scenario()
    store = replace(made.pool.store, min_load_tokens=29)
    made = replace(made, pools=(replace(made.pool, store=store),))
    assert simulate(made, prompts([0, 0], 32, 1.0)).requests["brought_tokens"].tolist() == [0, 0]


HOST_S = 0.002
"""Latency of the link between GPU and host."""


def above_store(chunks: int, host_chunks: int, **of: object) -> Scenario:
    made = scenario(chunks, kv_offloading_size=1.0, **of)
    return behind(made, host_chunks, 1e-9, HOST_S)


def test_what_one_host_wrote_another_host_gets_and_its_gpu_from_there() -> None:
    """The second replica's host reads all 8 chunks, its GPU brings them, the last token is
    computed."""
    result = simulate(above_store(100, 100), prompts([0, 0], 32, 1.0))
    columns, replicas = result.requests, result.replicas
    assert columns["brought_tokens"].tolist() == columns["store_tokens"].tolist() == [0, 31]
    promoted_s, brought_s = LATENCY_S + 8 * LINK_S, HOST_S
    assert columns["loading_s"][1] == pytest.approx(brought_s, rel=1e-4)
    assert columns["first_scheduled_s"][1] == pytest.approx(1.0 + promoted_s + brought_s, abs=1e-7)
    assert replicas["store_chunks_written"].tolist() == [8, 0]
    assert replicas["store_chunks_read"].tolist() == [0, 8]
    assert replicas["host_chunks_stored"].tolist() == [8, 0]
    assert replicas["host_chunks_kept"].tolist() == [8, 8]


def test_what_the_own_host_has_is_not_read_from_the_store() -> None:
    result = simulate(above_store(100, 100, replicas=1), prompts([0, 1, 0], 32, 1.0))
    assert result.requests["brought_tokens"].tolist() == [0, 0, 31]
    assert result.requests["store_tokens"].tolist() == [0, 0, 0]
    assert result.replicas["store_chunks_written"].tolist() == [16]


def test_chunks_that_make_room_in_the_host_are_written_back() -> None:
    """A host of one prompt: the second one's chunks make the first one's go to the store."""
    made = above_store(100, 8, replicas=1)
    store = replace(made.pool.store, writes_back=True)
    made = replace(made, pools=(replace(made.pool, store=store),))
    result = simulate(made, prompts([0, 1], 32, 1.0))
    assert result.replicas["store_chunks_written"].tolist() == [8]
    result = simulate(made, prompts([0, 1, 0], 32, 1.0))
    assert result.requests["store_tokens"].tolist() == [0, 0, 31]
    assert result.replicas["store_chunks_written"].tolist() == [16]


def test_a_host_s_hits_and_the_store_s_are_told_apart() -> None:
    made = above_store(100, 100)
    requests = prompts([0, 0, 1, 1, 0, 0], 32, 1.0)
    found = summarise(simulate(made, requests), made, warmup_fraction=0.0)
    assert found["store_cache_hit_rate"] == 2 * 31 / (6 * 32)
    assert found["host_cache_hit_rate"] == 2 * 31 / (6 * 32)


def test_replicas_that_share_a_store_are_no_longer_simulated_apart() -> None:
    requests, made = prompts([0, 0], 32, 1.0), scenario()
    assert not can_be_split(made, requests)
    alone = replace(made, pools=(replace(made.pool, store=None),))
    assert can_be_split(alone, requests)
    told = {"gpu": "h100-sxm", "replicas": 2, "kv_store": {"size_gib": 1}}
    for cluster, parts in ((told, 1), ({**told, "kv_store": None}, 2)):
        found = routing_of(ClusterConfig.model_validate(cluster), NO_CLIENT, open_arrivals=True)
        assert (found.parts, found.dealt) == (parts, parts > 1)


def test_metrics_of_the_store_are_there_with_it_alone() -> None:
    made = scenario()
    found = summarise(served([0, 0, 0, 0]), made, warmup_fraction=0.0)
    assert found["store_cache_hit_rate"] == 28 / 128  # the others find it on their GPUs
    assert found["store_use"] == 8 / 100
    assert found["store_read_stall_share"] == pytest.approx(0.0)
    assert found["load_wait_mean_s"] == pytest.approx(LATENCY_S + 7 * LINK_S)
    assert found["store_read_bytes_per_s"] == pytest.approx(7 / found["duration_s"])
    without = replace(made, pools=(replace(made.pool, store=None),))
    plain = summarise(simulate(without, prompts([0, 0], 32, 1.0)), without, warmup_fraction=0.0)
    assert not [name for name in plain if name.startswith("store_")]


def built(config: dict[str, object], gpu: str = "h100-sxm", **engine: object) -> Scenario:
    settings = EngineConfig.model_validate({"version": "0.33", **engine})
    cluster = ClusterConfig(gpu=gpu, kv_store=KvStoreConfig.model_validate(config))
    return build_scenario(small.tiny_spec(), load_gpu(gpu), cluster, settings)


def test_a_link_is_a_share_of_the_network_and_the_store_has_its_own() -> None:
    """256 bytes a token: 2 layers, K and V, 2 heads of 16 numbers of 2 bytes."""
    pool = built({"size_gib": 1, "store_bandwidth_gb_s": 10}, num_gpu_blocks=100).pool
    store = pool.store
    assert store is not None
    assert store.chunk_bytes == pool.ledger.block_bytes == 16 * 256
    assert store.chunks == 2**30 // store.chunk_bytes
    assert store.link_s == pytest.approx(store.chunk_bytes / (SHARE_OF_NETWORK * 50e9))
    assert store.store_s == pytest.approx(store.chunk_bytes / 10e9)
    assert "shared KV store" in pool.ledger_text()
    told = {"blocks_per_chunk": 16}
    large = built({"size_gib": 1}, num_gpu_blocks=100, kv_connector_extra_config=told).pool.store
    assert large is not None
    assert (large.chunk_tokens, large.store_s) == (256, 0.0)


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        ({"version": "0.30"}, "engine.version 0.30, expected 0.31 or later"),
        ({"enable_prefix_caching": False}, "enable_prefix_caching: false, expected"),
        ({"kv_offloading_size": 1, "kv_connector_extra_config": {"store_threshold": 2}},
         "store_threshold = 2 with cluster.kv_store, expected 0"),
        ({"kv_connector_extra_config": {"eviction_policy": "arc"}}, "eviction_policy = arc"),
        ({"kv_connector_extra_config": {"store_threshold": 2}}, "store_threshold = 2"),
        ({"speculative": {"method": "ngram", "num_speculative_tokens": 2,
                          "synthetic_acceptance_length": 1.5}}, "engine.speculative, expected"),
    ],
)  # fmt: skip
def test_what_is_not_modelled_is_refused(engine: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        built({"size_gib": 1}, num_gpu_blocks=100, **engine)


def test_settings_of_a_store_that_do_not_go_with_a_host_or_without_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"write_policy = write_back without engine.kv_offload"):
        built({"size_gib": 1, "write_policy": "write_back"}, num_gpu_blocks=100)
    with pytest.raises(ValueError, match=r"min_load_tokens = 9 below engine.kv_offloading_size"):
        built({"size_gib": 1, "min_load_tokens": 9}, num_gpu_blocks=100, kv_offloading_size=1)


def test_a_store_needs_room_a_link_and_pools_that_write_alike() -> None:
    with pytest.raises(ValueError, match=r"cluster.kv_store.size_gib = 1e-06 holds no chunk"):
        built({"size_gib": 1e-6}, num_gpu_blocks=100)
    with pytest.raises(ValueError, match=r"cluster.kv_store.bandwidth_gb_s: the network of l40s"):
        built({"size_gib": 1}, gpu="l40s", num_gpu_blocks=100)
    pools = tuple(
        replace(small.scenario(version="0.33", enable_prefix_caching=True, block_size=size).pool,
                name=f"p{size}")
        for size in (4, 16)
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"cluster.kv_store: pools p4 and p16 differ"):
        shared(pools, KvStoreConfig(size_gib=1))
