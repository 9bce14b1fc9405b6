"""The host's memory for layers that keep different tokens: what is kept and brought, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.settings.kv_store import KvStoreConfig
from sim.settings.kv_store import with_store as shared
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.test_remote_against_reference import with_store
from tests.sim.test_tiers_against_reference import behind
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests


def prompts(streams: list[int], tokens: int) -> Requests:
    """Prompts of so many tokens of these texts, one after the other, with one token each."""
    rows = len(streams)
    return small.requests(
        list(map(float, range(rows))), [tokens] * rows, [1] * rows,
        prefixes=prompt_prefixes(np.full(rows, tokens), prompt_id=np.array(streams)),
    )  # fmt: skip


def scenario(blocks: int, chunks: int = 100, replicas: int = 1) -> Scenario:
    """Full attention and a window of six tokens, in blocks of four."""
    made = small.scenario(
        replicas=replicas,
        windows=(None, 6), version="0.33", enable_prefix_caching=True, block_size=4, watermark=0.0,
        num_gpu_blocks=blocks, max_num_seqs=4, max_num_batched_tokens=64, kv_offloading_size=1.0,
        max_model_len=40,
    )  # fmt: skip
    return behind(made, chunks, 1e-6)


def test_a_hit_is_as_long_as_every_group_has_it() -> None:
    """16 tokens: all four blocks of full attention are kept, and those two of the window that see a
    hit before the last token. Of the 12 tokens that both have three blocks come, and two of the
    window; the fourth block is computed again."""
    result = simulate(scenario(blocks=9), prompts([1, 2, 1], 16))
    assert result.requests["cached_tokens"].tolist() == [0, 0, 0]
    assert result.requests["brought_tokens"].tolist() == [0, 0, 12]
    assert result.total("host_chunks_stored") == 2 * (4 + 2)
    assert result.total("host_chunks_brought") == 3 + 2


def test_what_was_brought_is_found_on_the_gpu_afterwards() -> None:
    """The third prompt has brought 12 tokens, and the fourth one, the same, finds them there."""
    result = simulate(scenario(blocks=9), prompts([1, 2, 1, 1], 16))
    assert result.requests["cached_tokens"].tolist() == [0, 0, 0, 12]
    assert result.requests["brought_tokens"].tolist() == [0, 0, 12, 0]


def test_another_host_gets_from_the_store_what_a_hit_may_need() -> None:
    """Of 16 tokens the first host writes all it keeps. The other one finds four blocks of full
    attention and the two of the window, and reads them all; 12 tokens come to its GPU."""
    made = with_store(scenario(blocks=9, replicas=2), 100, link_s=0.001, latency_s=0.004)
    result = simulate(made, prompts([1, 1], 16))
    columns, replicas = result.requests, result.replicas
    assert replicas["store_chunks_written"].tolist() == [4 + 2, 0]
    assert replicas["store_chunks_read"].tolist() == [0, 4 + 2]
    assert replicas["host_chunks_brought"].tolist() == [0, 3 + 2]
    assert columns["brought_tokens"].tolist() == columns["store_tokens"].tolist() == [0, 12]
    promoted_s = 0.004 + 6 * 0.001
    assert columns["first_scheduled_s"][1] == pytest.approx(1.0 + promoted_s, abs=1e-3)


def test_a_store_alone_is_refused_and_so_are_pools_with_other_groups() -> None:
    told = {"version": "0.33", "enable_prefix_caching": True, "block_size": 4}
    windows = small.scenario(windows=(None, 6), **told).pool
    with pytest.raises(ValueError, match=r"above it, expected engine.kv_offloading_size, or"):
        shared((windows,), KvStoreConfig(size_gib=1))
    pools = [replace(scenario(9).pool, name=name) for name in "ab"]
    assert all(pool.store for pool in shared(tuple(pools), KvStoreConfig(size_gib=1)))
    layout = replace(pools[1].ledger.layout, groups=pools[1].ledger.layout.groups[:1])
    pools[1] = replace(pools[1], ledger=replace(pools[1].ledger, layout=layout))
    with pytest.raises(ValueError, match="pools a and b differ"):
        shared(tuple(pools), KvStoreConfig(size_gib=1))


REFUSED: dict[str, dict[str, Any]] = {
    "version 0.32, expected 0.33 or later": {"version": "0.32"},
    "with engine.speculative, expected one group": {
        "speculative": {
            "method": "eagle",
            "num_speculative_tokens": 1,
            "synthetic_acceptance_length": 1.5,
        },
    },
    "layers keep a state, expected none": {"windows": (None, small.SCAN), "block_size": 16},
    "blocks_per_chunk = 2, expected 1": {"kv_connector_extra_config": {"blocks_per_chunk": 2}},
}


@pytest.mark.parametrize("expected", REFUSED)
def test_what_is_not_modelled_is_refused_by_name(expected: str) -> None:
    told = {"version": "0.33", "windows": (None, 6), "block_size": 4} | REFUSED[expected]
    with pytest.raises(ValueError, match=r"engine.kv_offloading_size = 1 .*" + expected):
        small.scenario(enable_prefix_caching=True, kv_offloading_size=1.0, **told)


def test_windows_that_keep_everything_are_one_group() -> None:
    made = small.scenario(
        version="0.32", windows=(None, 6), enable_prefix_caching=True, kv_offloading_size=1.0,
        disable_hybrid_kv_cache_manager=True, kv_connector_extra_config={"blocks_per_chunk": 2},
    )  # fmt: skip
    assert made.pool.host is not None


def test_a_block_that_the_last_tokens_fill_is_offered_though_none_was_before() -> None:
    """3 + 2 tokens: the first block is full as the last token comes, and is offered then, that of
    the window not, as no hit ends with it."""
    made = small.scenario(
        windows=(None, 6), version="0.33", enable_prefix_caching=True, block_size=4, watermark=0.0,
        num_gpu_blocks=9, max_num_seqs=4, max_num_batched_tokens=64, kv_offloading_size=1.0,
        max_model_len=40, async_scheduling=True,
        kv_connector_extra_config={"offload_prompt_only": False},
    )  # fmt: skip
    one = small.requests(
        [0.0], [3], [2], prefixes=prompt_prefixes(np.array([3]), prompt_id=np.array([1]))
    )
    assert simulate(behind(made, 100, 1e-6), one).total("host_chunks_stored") == 1
