"""Prefill and decode apart where layers keep different tokens: what goes over the link."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.recording.result import FINISHED
from sim.settings.kv_transfer import KvTransferConfig, check_transfers, link_of
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import sessions, workloads
from tests.sim.role_clusters import GROUPS, STATES, assert_equal, disaggregated, with_roles
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

WINDOW = 5
SLOW = KvTransferConfig(latency_s=0.002, bandwidth_gb_s=1e-3, per_descriptor_us=10)
BLOCK_BYTES = 4 * 1 * 2 * 2 * 16 * 2
"""Of one group of the tiny model: tokens, a layer, keys and values, KV heads, numbers, bytes."""


def pair(
    source: dict[str, object] | None = None, sink: dict[str, object] | None = None
) -> Scenario:
    """One replica that prefills and one that decodes: a layer sees everything, one five tokens."""
    plain = {"step_overhead_s": 1e-3, "block_size": 4, "windows": (None, WINDOW)}
    return with_roles(
        ("prefill", small.scenario(**(plain | (source or {})))),
        ("decode", small.scenario(**(plain | (sink or {})))),
        kv_transfer=SLOW,
    )


def blocks_of(prompts: np.ndarray) -> np.ndarray:
    """Of full attention all, of the window those of the last four tokens: what a fifth sees."""
    return -(-prompts // 4) + -(-prompts // 4) - np.maximum(prompts - WINDOW + 1, 0) // 4


@tries(150)
@given(disaggregated(GROUPS), workloads() | sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_clusters(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal(scenario, requests, stop_s)


@tries(80)
@given(disaggregated(STATES), workloads() | sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_clusters_with_states(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal(scenario, requests, stop_s)


def test_a_window_hands_over_what_it_still_sees() -> None:
    scenario = pair()
    result = simulate(scenario, small.requests([0.0], [30], [3])).requests
    # 8 blocks of full attention; of the window tokens 26 to 29, in blocks 6 and 7.
    assert result["kept_blocks"][0] == 8 + 2
    assert result["transferred_bytes"][0] == 10 * BLOCK_BYTES
    # Each of 10 blocks has two descriptors: keys and values of the one layer of its group.
    transfer_s = 0.002 + 10 * 2 * 10e-6 + 10 * BLOCK_BYTES / 1e6
    assert result["loaded_s"][0] - result["blocks_s"][0] == pytest.approx(transfer_s, rel=1e-9)
    unified = {"disable_hybrid_kv_cache_manager": True}
    whole = simulate(pair(unified, unified), small.requests([0.0], [30], [3])).requests
    assert whole["transferred_bytes"][0] == 16 * BLOCK_BYTES


def test_a_state_goes_whole_and_the_last_token_is_computed_where_the_answer_is() -> None:
    """A prompt of 30 tokens: 29 are computed by one replica, the last one by the other."""
    told: dict[str, object] = {"windows": (None, small.STATE), "block_size": 16}
    scenario = pair(told, told)
    result = simulate(scenario, small.requests([0.0, 1.0], [30, 1], [3, 3]))
    table = result.requests
    assert result.total("computed_prefill_tokens") == 29 + 1 + 1 + 1
    (state,) = [cache for cache in scenario.pools[0].spec.caches if cache.states]
    of_state = int(state.sequence_bytes(2.0, 1))
    size = scenario.pools[0].ledger.block_size
    of_block = size * BLOCK_BYTES // 4
    blocks = -(-29 // size)
    assert table["transferred_tokens"].tolist() == [29, 1]
    assert table["transferred_bytes"].tolist() == [
        blocks * of_block + of_state,
        of_block + of_state,
    ]
    assert table["kept_blocks"].tolist() == [blocks + 1, 2]
    posted_s = (2 * blocks + 4) * 10e-6  # keys and values of each block, four parts of the state
    transfer_s = 0.002 + posted_s + (blocks * of_block + of_state) / 1e6
    assert table["loaded_s"][0] - table["blocks_s"][0] == pytest.approx(transfer_s, rel=1e-9)
    last_s = scenario.pools[1].price.step_s(0, [0], [(1, 29)])
    assert table["first_token_s"][0] - table["loaded_s"][0] == pytest.approx(last_s)


def test_nothing_is_lost_or_made() -> None:
    rng = np.random.default_rng(4)
    rows = 150
    prompts, outputs = rng.integers(1, 90, rows), rng.integers(1, 30, rows)
    arrivals = np.cumsum(rng.exponential(2e-3, rows))
    requests = small.requests(arrivals.tolist(), prompts.tolist(), outputs.tolist())
    for ahead in (False, True):
        told = {"async_scheduling": ahead}
        result = simulate(
            pair({"num_gpu_blocks": 90} | told, {"max_num_seqs": 20} | told), requests
        )
        table = result.requests
        assert (table["status"] == FINISHED).all()
        assert result.total("computed_prefill_tokens") == prompts.sum() + rows
        assert result.total("blocks_held") == 0
        assert table["kept_blocks"].tolist() == blocks_of(prompts).tolist()
        assert table["transferred_bytes"].tolist() == (blocks_of(prompts) * BLOCK_BYTES).tolist()


@pytest.mark.parametrize(("blocks", "together"), [(31, False), (32, True)])
def test_a_load_takes_no_blocks_that_a_window_has_left_behind(blocks: int, together: bool) -> None:
    """A prompt of 60 tokens has 15 blocks of full attention and one of the window, behind which
    four tokens are seen. All that would be computed at once is 15 of each."""
    small_steps = {"max_num_seqs": 8, "max_num_batched_tokens": 16, "max_model_len": 64}
    result = simulate(
        pair(sink=small_steps | {"num_gpu_blocks": blocks}),
        small.requests([0.0, 0.0], [60, 60], [2, 2]),
    ).requests
    assert result["status"].tolist() == [FINISHED] * 2
    assert (result["blocks_s"][1] < result["finish_s"][0]) == together


def test_blocks_of_a_window_that_the_sink_has_are_not_read_again() -> None:
    told = {"enable_prefix_caching": True}
    same = prompt_prefixes(np.array([30, 30, 60]), prompt_id=np.array([0, 0, 0]))
    requests = small.requests([0.0, 1.0, 2.0], [30, 30, 60], [2, 2, 2], prefixes=same)
    result = simulate(pair(told, told), requests).requests
    # 28 tokens are found in both groups: one block of each is left, then 8 of full attention and
    # those of the window that 60 tokens still see.
    assert result["transferred_tokens"].tolist() == [30, 2, 32]
    assert result["transferred_bytes"].tolist() == [
        10 * BLOCK_BYTES, 2 * BLOCK_BYTES, (8 + 1) * BLOCK_BYTES,
    ]  # fmt: skip


def test_larger_groups_of_gpus_read_their_heads() -> None:
    source, sink = (
        replace(each, tensor_parallel_size=tp, ledger=replace(
            each.ledger, layout=replace(each.ledger.layout, block_bytes=BLOCK_BYTES // tp)
        ))
        for each, tp in zip(pair().pools, (1, 2), strict=True)
    )  # fmt: skip
    check_transfers((source, sink), SLOW)
    link = link_of(SLOW, source, sink)
    assert link.block_bytes == BLOCK_BYTES
    assert link.sink_s == pytest.approx(BLOCK_BYTES / 2 / 1e6)
    assert link.block_s == pytest.approx(2 * 10e-6)


def test_what_nobody_hands_over_is_refused() -> None:
    for key, told, match in (
        ("version", "0.20", r"engine.version = 0.20: before 0.22 .*_manager: true, or 0.22"),
        ("speculative", {"method": "ngram", "num_speculative_tokens": 2,
                         "synthetic_acceptance_length": 1.5}, "= 0.32, expected 0.33 or later"),
    ):  # fmt: skip
        both = {"version": "0.32"} | {key: told}
        pools = pair(both, both).pools
        with pytest.raises(ValueError, match=match):
            check_transfers(pools, SLOW)
    states = {"windows": (None, small.STATE), "enable_prefix_caching": True}
    with pytest.raises(
        ValueError, match=r"a state, and engine.enable_prefix_caching: true: .* fal"
    ):
        check_transfers(pair(states, states).pools, SLOW)
    told = pair({"windows": (None, small.STATE)}, {"windows": (None, small.STATE)}).pools
    with pytest.raises(ValueError, match="states go between equal ranks here"):
        check_transfers((replace(told[0], tensor_parallel_size=2), told[1]), SLOW)
    unlike = pair(sink={"disable_hybrid_kv_cache_manager": True}).pools
    with pytest.raises(ValueError, match="expected the same groups of the KV cache in both"):
        check_transfers(unlike, SLOW)
    one = {"disable_hybrid_kv_cache_manager": True, "version": "0.20"}
    check_transfers(pair(one, one).pools, SLOW)
