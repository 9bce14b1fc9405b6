"""KV in the host's memory: the link, what makes room, and who waits for what, by hand."""

from collections import OrderedDict
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.gpu import load_gpu
from hardware.memory.host_link import HostLink, HostRates, host_memory, host_rates
from sim.engine.tiers.eviction import Arc, Eviction, Lru
from sim.engine.tiers.offers import OfferCounts
from sim.engine.tiers.pipe import IN, OUT, Job, Pipe
from sim.measuring.metrics import summarise
from sim.recording.result import Result
from sim.settings.engine_config import EngineConfig
from sim.simulation import simulate
from tests.sim import small
from workloads.prefixes import prompt_prefixes

LATENCY_S = 0.004
TIER: dict[str, object] = {
    "enable_prefix_caching": True,
    "version": "0.33",
    "block_size": 4,
    "kv_offloading_size": 1.0,
    "host_link": {"latency_s": LATENCY_S, "bytes_per_s": 1e15},
}


def sent(pipe: Pipe, way: int, work_s: float, now_s: float) -> Job:
    job = Job(work_s)
    pipe.send(job, way, now_s)
    return job


def test_one_job_after_the_other_in_each_direction() -> None:
    pipe = Pipe()
    first, second = sent(pipe, IN, 2.0, 1.0), sent(pipe, IN, 1.0, 1.5)
    out = sent(pipe, OUT, 1.5, 2.0)
    assert pipe.next_s() == 3.0
    assert pipe.ended(2.9) == []
    assert pipe.ended(3.0) == [first]
    assert pipe.ended(9.0) == [out, second]
    assert (out.done_s, second.done_s, pipe.next_s()) == (3.5, 4.0, inf)
    assert pipe.busy_s == [3.0, 1.5]


def test_both_directions_share_what_they_have_together() -> None:
    """At half speed each: 1 s alone, 2 s beside the other, 0.5 s alone again."""
    pipe = Pipe(together=0.5)
    brings = sent(pipe, IN, 2.5, 0.0)
    copies = sent(pipe, OUT, 1.0, 1.0)
    assert pipe.ended(9.0) == [copies, brings]
    assert (copies.done_s, brings.done_s) == (3.0, 3.5)


class ListedLru:
    """Least recently used, as a list."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def insert(self, key: int) -> None:
        self.order.append(key)

    def used(self, key: int) -> None:
        if key in self.order:
            self.order.remove(key)
            self.order.append(key)

    def evicted(self, stays: set[int]) -> int:
        key = next(each for each in self.order if each not in stays)
        self.order.remove(key)
        return key


class ListedArc(ListedLru):
    """Adaptive replacement, as four ordered dictionaries."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.target = capacity, 0.0
        self.lists: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(4)]

    def insert(self, key: int) -> None:
        _, _, gone, gone_again = self.lists
        if key in gone:
            self.target = min(self.target + max(1, len(gone_again) / len(gone)), self.capacity)
        elif key in gone_again:
            self.target = max(self.target - max(1, len(gone) / len(gone_again)), 0)
        gone.pop(key, None)
        gone_again.pop(key, None)
        self.lists[0][key] = None

    def used(self, key: int) -> None:
        once, again = self.lists[:2]
        if key in once or key in again:
            once.pop(key, None)
            again.pop(key, None)
            again[key] = None

    def evicted(self, stays: set[int]) -> int:
        once, again, gone, gone_again = self.lists
        places = [(again, gone_again), (once, gone)]
        if len(once) >= int(self.target):
            places.reverse()
        for line, ghosts in places:
            for key in line:
                if key not in stays:
                    del line[key]
                    ghosts[key] = None
                    while len(ghosts) > self.capacity:
                        ghosts.popitem(last=False)
                    return key
        raise AssertionError


@pytest.mark.parametrize("kind", [Lru, Arc])
@settings(deadline=None)
@given(
    capacity=st.integers(2, 6),
    events=st.lists(st.tuples(st.sampled_from("swp"), st.integers(0, 11)), max_size=80),
)
def test_what_makes_room_is_what_plain_lists_say(
    kind: type[Eviction], capacity: int, events: list[tuple[str, int]]
) -> None:
    """A request stores a chunk, uses one again, or pins one so that it stays."""
    mine, plain = kind(capacity), ListedLru() if kind is Lru else ListedArc(capacity)
    pinned: set[int] = set()
    for what, key in events:
        if what == "p" and key in mine.chunks:
            chunk = mine.chunks[key]
            chunk.readers = 1 - chunk.readers
            pinned ^= {key}
        elif what == "w":
            mine.used(key, reused=True, inserted=False)
            plain.used(key)
        elif what == "s" and key not in mine.chunks:
            mine.missed(key)
            if len(mine.chunks) == capacity:
                if len(pinned) == capacity:
                    assert mine.victims(1, offer=-1) is None
                    continue
                (victim,) = mine.victims(1, offer=-1) or []
                mine.remove(victim)
                if kind is Arc:  # told of the miss first, as by a connector
                    assert isinstance(plain, ListedArc)
                assert victim.key == plain.evicted(pinned)
            mine.insert(key).readers = 0
            plain.insert(key)


def test_of_chunks_offered_too_long_ago_the_count_is_forgotten() -> None:
    counts = OfferCounts(3)
    counts.offered([1, 2])
    counts.offered([2, 3])
    counts.offered([4])
    assert [counts.of(key) for key in (1, 2, 3, 4)] == [0, 2, 1, 1]
    counts.offered([5, 6, 7, 8])  # none of one offer makes room for another
    assert [counts.of(key) for key in (4, 5, 6, 7, 8)] == [0, 1, 1, 1, 0]


def prompts(streams: list[int], tokens: int, gap_s: float, **engine: object) -> Result:
    """Prompts of so many tokens, one after the other, of these texts; one token each."""
    rows = len(streams)
    scenario = small.scenario(num_gpu_blocks=8, **(TIER | engine))
    return simulate(
        scenario,
        small.requests(
            [gap_s * row for row in range(rows)], [tokens] * rows, [1] * rows,
            prefixes=prompt_prefixes(np.full(rows, tokens), prompt_id=np.array(streams)),
        ),
    )  # fmt: skip


def test_what_the_gpu_has_no_more_is_brought_and_the_last_token_computed() -> None:
    """Eight blocks of four tokens hold one prompt of 32; the second text takes them all."""
    result = prompts([0, 1, 0], 32, gap_s=1.0)
    columns = result.requests
    assert columns["cached_tokens"].tolist() == [0, 0, 0]
    assert columns["brought_tokens"].tolist() == [0, 0, 31]
    assert columns["loading_s"][2] == pytest.approx(LATENCY_S)
    assert columns["first_scheduled_s"][2] == pytest.approx(2.0 + LATENCY_S)
    assert result.replicas["computed_prefill_tokens"].tolist() == [32 + 32 + 1]
    assert result.replicas["host_chunks_stored"].tolist() == [16]
    assert result.replicas["host_chunks_brought"].tolist() == [8]
    assert result.replicas["blocks_held"].tolist() == [0]


def test_what_the_gpu_still_has_is_not_brought() -> None:
    result = prompts([0, 0], 30, gap_s=1.0)
    assert result.requests["cached_tokens"].tolist() == [0, 28]
    assert result.requests["brought_tokens"].tolist() == [0, 0]


def test_without_a_host_all_is_computed_again() -> None:
    result = prompts([0, 1, 0], 32, gap_s=1.0, kv_offloading_size=None)
    assert "brought_tokens" not in result.requests
    assert result.replicas["computed_prefill_tokens"].tolist() == [96]


def test_a_full_host_keeps_what_was_used_last() -> None:
    """Room for 16 chunks: the third text makes room of the first one's."""
    spec = small.tiny_spec()
    scenario = small.scenario(num_gpu_blocks=8, **TIER)
    assert scenario.pool.host is not None
    chunk_gib = scenario.pool.host.chunk_bytes / 2**30
    result = prompts([0, 1, 2, 1, 0], 32, gap_s=1.0, kv_offloading_size=16.5 * chunk_gib)
    assert result.requests["brought_tokens"].tolist() == [0, 0, 0, 31, 0]
    assert result.replicas["host_chunks_evicted"].tolist() == [16]
    assert spec.num_layers == 2


def test_with_a_threshold_of_two_only_the_second_offer_is_kept() -> None:
    result = prompts(
        [0, 1, 0, 1, 0], 32, gap_s=1.0, kv_connector_extra_config={"store_threshold": 2}
    )
    assert result.requests["brought_tokens"].tolist() == [0, 0, 0, 0, 31]


def test_who_wants_what_is_just_being_copied_asks_again() -> None:
    """The copy of the first prompt begins with the end of its step and takes the latency; until
    then the second one, whose text the GPU has but for its last block, waits for that."""
    result = prompts([0, 0], 32, gap_s=1e-6)
    first_s, second_s = result.requests["first_token_s"]
    assert second_s - first_s > 2 * LATENCY_S
    assert result.requests["cached_tokens"].tolist() == [0, 28]
    assert result.requests["brought_tokens"].tolist() == [0, 3]


def test_metrics_of_the_tier_are_there_with_it_alone() -> None:
    scenario = small.scenario(num_gpu_blocks=8, **TIER)
    found = summarise(prompts([0, 1, 0, 1], 32, gap_s=1.0), scenario, warmup_fraction=0.0)
    assert found["host_cache_hit_rate"] == 62 / 128
    assert found["prefix_cache_hit_rate"] == 0.0
    assert found["load_wait_mean_s"] == pytest.approx(LATENCY_S)
    assert found["host_link_in_share"] == pytest.approx(
        2 * LATENCY_S / found["duration_s"], rel=1e-3
    )
    without = summarise(
        prompts([0, 1], 32, gap_s=1.0, kv_offloading_size=None), scenario, warmup_fraction=0.0
    )
    assert not [name for name in without if name.startswith("host_")]


def test_the_link_of_a_gpu_is_its_generation_s() -> None:
    h100, a100 = host_rates(load_gpu("h100-sxm")), host_rates(load_gpu("a100-80gb-sxm"))
    assert (h100.bytes_per_s, h100.both_bytes_per_s) == (50e9, 83.4e9)
    assert a100.bytes_per_s == 25e9
    assert h100.together == pytest.approx(0.834)
    own = host_rates(load_gpu("h100-sxm"), HostLink(bytes_per_s=38e9))
    assert (own.both_bytes_per_s, own.together, own.latency_s) == (76e9, 1.0, 1e-3)
    assert HostRates(25e9, 80e9, 1e-3).together == 1.0  # no faster than alone
    strange = load_gpu("h100-sxm").model_copy(update={"name": "x1"})
    with pytest.raises(ValueError, match=r"engine.host_link.*x1.*expected engine.host_link.bytes"):
        host_rates(strange)


def test_chunks_in_the_host_begin_with_a_page() -> None:
    """Llama-3-8B: 16 tokens of 128 KiB on one of two ranks each half; two blocks a chunk."""
    memory = host_memory(
        8.0, block_bytes=2**20, block_tokens=16, blocks_per_chunk=2, ranks=2
    )  # fmt: skip
    assert (memory.chunk_bytes, memory.chunks, memory.kv_tokens) == (2**22, 2048, 65536)
    odd = host_memory(1.0, block_bytes=1000, block_tokens=16, blocks_per_chunk=1, ranks=1)
    assert odd.chunk_bytes == 4096
    with pytest.raises(ValueError, match="holds no chunk of 32 tokens"):
        host_memory(0.001, block_bytes=2**20, block_tokens=16, blocks_per_chunk=2, ranks=2)


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        ({"version": "0.30"}, "with version 0.30, expected 0.31 or later"),
        ({"enable_prefix_caching": False}, "with enable_prefix_caching: false, expected true"),
        ({"scheduler": "prefill_first", "enable_prefix_caching": False}, "expected chunked"),
    ],
)
def test_what_is_not_modelled_is_refused(engine: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=f"engine.kv_offloading_size: .*{what}"):
        small.scenario(**(TIER | engine))
    with pytest.raises(ValueError, match="eviction_policy"):
        EngineConfig.model_validate({"kv_connector_extra_config": {"eviction_policy": "fifo"}})
