"""Prefix caching over several groups: hits by hand, what windows keep, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import DENSE, Kept
from sim.engine.caches.hybrid_blocks import HybridBlocks
from sim.engine.caches.hybrid_cache import HybridCache
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.registry import ORDERS
from sim.settings.scenario import build_scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.test_against_reference import assert_equal_to_reference

EVERYTHING = BlockGroup(1, 4, None, 1 << 30)


def window(tokens: int, count: int = 1, block_size: int = 4) -> BlockGroup:
    return BlockGroup(count, block_size, tokens, 1 << 30)


def chunks(tokens: int, count: int = 1) -> BlockGroup:
    return BlockGroup(count, 4, tokens, 1 << 30, chunked=True)


def scheduler_of(
    groups: list[BlockGroup],
    texts: Callable[[int], list[tuple[int, int]]],
    retention: int = 0,
    num_blocks: int = 100,
) -> ChunkedPrefill:
    settings = HybridSettings(texts, True, True, False, retention, True)
    pool = HybridCache(num_blocks, groups, False, settings)
    return ChunkedPrefill(pool, ORDERS["fcfs"](), Settings(4, 64))


def served(scheduler: ChunkedPrefill, number: int, prompt: int, output: int = 1) -> int:
    """Serve a request alone; return the tokens that it found."""
    pool = scheduler.pool
    assert isinstance(pool, HybridBlocks)
    sequence = Sequence(number, 0.0, prompt, output, 0)
    scheduler.admit(sequence)
    while (batch := scheduler.next_batch(0.0)) is not None:
        pool.check_cache([*scheduler.running])
        scheduler.complete(batch)
    assert pool.held == 0
    return sequence.cached_tokens


def same_text(_: int) -> list[tuple[int, int]]:
    return [(7, 1000)]


@pytest.mark.parametrize("retention", [0, DENSE])
def test_a_hit_needs_what_windows_still_see(retention: int) -> None:
    # A window of 9 tokens needs the last two blocks before a hit, full attention all of them.
    scheduler = scheduler_of([EVERYTHING, window(9)], same_text, retention)
    assert served(scheduler, 0, 20) == 0
    assert served(scheduler, 1, 20) == 16  # the last token is computed, and with it its block


def test_windows_keep_the_end_of_a_prompt_and_where_others_had_more() -> None:
    scheduler = scheduler_of([EVERYTHING, window(9)], same_text)
    served(scheduler, 0, 22, output=30)
    # Full attention has 48 tokens of prompt and answer. Of the window there is what a hit needs
    # that ends at 20, where the same prompt would find it.
    assert served(scheduler, 1, 60) == 20
    # And now what one needs that ends at 48: there the last one could have begun.
    assert served(scheduler, 2, 51) == 48
    # At 52 the window sees the last block of one end and the first of the other.
    assert served(scheduler, 3, 55) == 52


def test_a_dense_window_keeps_answers_too() -> None:
    scheduler = scheduler_of([EVERYTHING, window(9)], same_text, DENSE)
    served(scheduler, 0, 22, output=30)
    assert served(scheduler, 1, 60) == 48


def test_a_retention_interval_keeps_ends_of_its_multiples() -> None:
    scheduler = scheduler_of([EVERYTHING, window(9)], same_text, retention=32)
    served(scheduler, 0, 22, output=30)
    assert served(scheduler, 1, 47) == 32


def test_a_hit_may_end_where_a_chunk_begins_and_needs_all_behind_it() -> None:
    scheduler = scheduler_of([EVERYTHING, chunks(8, count=2)], same_text)
    assert served(scheduler, 0, 20) == 0
    assert served(scheduler, 1, 20) == 16  # the beginning of the third, of which nothing is needed
    assert served(scheduler, 2, 16) == 12  # the last token is computed, behind a block of its chunk


def test_a_chunk_is_given_back_at_once() -> None:
    group = chunks(8)
    assert [group.behind(computed) for computed in (7, 8, 9, 15, 16, 17)] == [0, 2, 2, 2, 4, 4]
    assert [window(8).behind(computed) for computed in (7, 8, 11, 15)] == [0, 0, 1, 2]


def test_hits_are_multiples_of_all_blocks() -> None:
    whole = BlockGroup(1, 12, None, 1 << 30)
    scheduler = scheduler_of([whole, window(9)], same_text)
    served(scheduler, 0, 34)
    assert served(scheduler, 1, 34) == 24


def test_the_shortest_of_several_kinds_decides() -> None:
    scheduler = scheduler_of([window(30), window(5, count=2)], same_text, DENSE, num_blocks=36)
    served(scheduler, 0, 40)  # takes 30 blocks of 36, and the newest are evicted last
    assert served(scheduler, 1, 40) == 36
    served(scheduler_of([window(30), window(5)], lambda number: [(number, 40)]), 2, 40)


def test_what_nobody_can_find_is_taken_first() -> None:
    scheduler = scheduler_of([EVERYTHING, window(9)], lambda number: [(number, 40)], num_blocks=44)
    for number in range(3):
        served(scheduler, number, 40)
    # Each left 10 blocks of full attention and 2 of its window: with all 20, two would have filled
    # the 44 blocks.
    assert [served(scheduler, number, 40) for number in range(3)] == [36, 36, 36]


def test_what_a_window_keeps() -> None:
    kept = Kept(4, 9, 4, 0)
    assert (kept.need, kept.of(21, 0), kept.of(21, 8)) == (2, [(3, 5)], [(0, 2), (3, 5)])
    assert kept.within([(3, 5)], 4, 9) == [(4, 5)]
    every = Kept(4, 9, 4, 16)
    assert every.within(every.of(21, 0), 0, 12) == [(2, 5), (6, 8), (10, 12)]
    assert Kept(4, 9, 4, DENSE).of(21, 0) is None


def build(model: str, router: str = "least_requests", **engine: object) -> None:
    gpu = "h100-sxm"
    cluster = ClusterConfig(gpu=gpu, router=router, replicas=2)
    build_scenario(
        load_spec(model), load_gpu(gpu), cluster,
        EngineConfig.model_validate({"num_gpu_blocks": 9000, "max_model_len": 4096} | engine),
    )  # fmt: skip


def test_it_is_on_by_default_beside_windows() -> None:
    pool = small.scenario(windows=(None, 5), enable_prefix_caching=None).pool
    assert pool.caches_several_groups
    assert pool.engine.prefix_cache_retention_interval == 0
    older = small.scenario(windows=(None, 5), enable_prefix_caching=None, version="0.28")
    assert older.pool.engine.prefix_cache_retention_interval == "dense"


@pytest.mark.parametrize(
    ("model", "engine", "told"),
    [
        ("qwen3-next-80b-a3b", {"version": "0.26"}, "keep a state .* before vLLM 0.27"),
        ("gpt-oss-20b", {"prefix_cache_retention_interval": 24}, "= 24, expected .* of 16"),
        (
            "gpt-oss-20b",
            {"prefix_cache_retention_interval": 16, "version": "0.28"},
            "interval = 16 with version 0.28, expected dense",
        ),
        ("llama-3-8b", {"prefix_cache_retention_interval": 16}, "expected 0 or dense"),
    ],
)
def test_what_is_not_modelled_is_refused(model: str, engine: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(model, **{"enable_prefix_caching": True} | engine)


def test_states_alone_or_beside_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="has it where layers attend, beside those that keep a"):
        small.scenario(windows=(small.STATE,), enable_prefix_caching=True)
    with pytest.raises(ValueError, match="where layers keep a state beside windows"):
        small.scenario(windows=(None, 5, small.STATE), enable_prefix_caching=True)


def test_states_are_cached_by_default_where_they_are_modelled() -> None:
    for version, cached in (("0.26", False), ("0.27", True), ("0.33", True)):
        made = small.scenario(
            windows=(None, small.STATE), enable_prefix_caching=None, version=version
        )
        assert made.pool.engine.enable_prefix_caching == cached, version


def test_before_0_14_there_is_one_kind_of_windows() -> None:
    small.scenario(windows=(None, 5), version="0.12", enable_prefix_caching=True)
    with pytest.raises(ValueError, match="has it for full attention beside one kind of windows"):
        small.scenario(windows=(None, 5, 9), version="0.12", enable_prefix_caching=True)


def test_a_router_that_goes_by_kv_events_is_refused() -> None:
    with pytest.raises(ValueError, match="what KV events tell of them is not modelled"):
        build("gpt-oss-20b", router="dynamo")
    build("gpt-oss-20b", router="llm_d")
    build("gpt-oss-20b", router="dynamo", enable_prefix_caching=False)


def test_until_0_19_room_for_a_prompt_includes_what_windows_give_back() -> None:
    # 64 tokens take 4 blocks in all layers and at most 4 within the window; 128 take 8, and 5.
    requests = small.requests([0.0, 0.001], [64, 128], [30, 5])
    begins = {}
    for version in ("0.19", "0.20"):
        scenario = small.scenario(
            windows=(None, 32), version=version, scheduler_reserve_full_isl=True,
            num_gpu_blocks=22, max_num_seqs=8, max_num_batched_tokens=32,
        )  # fmt: skip
        columns = simulate(scenario, requests).requests
        begins[version] = columns["first_scheduled_s"][1] < columns["finish_s"][0]
    assert begins == {"0.19": False, "0.20": True}


@pytest.mark.parametrize(
    ("windows", "order", "ahead", "blocks"),
    [([12], "priority", False, 90), ([12], "fcfs", True, 90), ([5], "fcfs", True, 60),
     ([5], "priority", True, 130), ([12], "fcfs", False, 130), ([12, 12, 12], "fcfs", True, 180),
     ([5, 5], "priority", True, 120), ([5, 5, 5], "fcfs", False, 120)],
)  # fmt: skip
def test_what_windows_leave_while_others_are_thrown_out_is_found_as_by_the_reference(
    windows: list[int], order: str, ahead: bool, blocks: int
) -> None:
    """With every block of a window kept, in one group or in several alike: who is thrown out finds
    what it had left behind, also of its answer and where blocks fall short."""
    scenario = small.scenario(
        scheduler="chunked_prefill", max_num_seqs=9, num_gpu_blocks=blocks, block_size=4,
        max_num_batched_tokens=50, max_model_len=200, windows=(*windows, None), version="0.33",
        async_scheduling=ahead, enable_prefix_caching=True, watermark=0.0, order=order,
        prefix_cache_retention_interval="dense",
    )  # fmt: skip
    rng = np.random.default_rng(1)
    prompts, outputs = rng.integers(1, 40, 60).tolist(), rng.integers(20, 90, 60).tolist()
    arrivals = np.cumsum(rng.exponential(2e-3, 60)).tolist()
    requests = small.requests(arrivals, prompts, outputs, rng.integers(0, 3, 60).tolist())
    result = assert_equal_to_reference(scenario, requests)
    assert result.requests["preemptions"].sum() > 20
