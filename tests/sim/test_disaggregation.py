"""Pools that prefill and pools that decode: equal to the reference, bit for bit, and laws."""

import math
from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.measuring.decomposition import decomposition
from sim.measuring.metrics import summarise_pools
from sim.measuring.steady_state import measured_window
from sim.measuring.transfer_use import transfer_use
from sim.recording.result import FINISHED, TIMED_OUT
from sim.settings.cluster_config import ClientConfig
from sim.settings.kv_transfer import KvTransferConfig, check_transfers, link_of
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import sessions, workloads
from tests.sim.role_clusters import assert_equal, disaggregated, with_roles
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests


@tries(100)
@given(disaggregated(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_clusters(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal(scenario, requests, stop_s)


@tries(60)
@given(disaggregated(), sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal(scenario, requests, stop_s)


PLAIN = {"step_overhead_s": 1e-3, "block_size": 4}
API = {"api_request_s": 0.25, "api_output_s": 0.125}
SLOW = KvTransferConfig(latency_s=0.002, bandwidth_gb_s=1e-3, per_descriptor_us=10)
"""A link that takes its time."""
BLOCK_BYTES = 4 * 2 * 2 * 2 * 16 * 2
"""Of the tiny model: tokens, layers, keys and values, KV heads, numbers of a head, bytes."""


def pair(
    source: dict[str, object] | None = None,
    sink: dict[str, object] | None = None,
    transfer: KvTransferConfig = SLOW,
    **client: object,
) -> Scenario:
    """One replica that prefills and one that decodes."""
    told = ClientConfig.model_validate(client)
    return with_roles(
        ("prefill", small.scenario(**(PLAIN | (source or {})), client=told)),
        ("decode", small.scenario(**(PLAIN | (sink or {})))),
        kv_transfer=transfer,
    )


def test_one_request_takes_the_sum_of_its_parts() -> None:
    scenario = pair()
    result = simulate(scenario, small.requests([0.0], [10], [3])).requests
    price = scenario.pools[0].price
    prompt_s = price.step_s(0, [0], [(10, 0)])
    # Three blocks, each of four descriptors: two layers, keys and values.
    transfer_s = 0.002 + 3 * 4 * 10e-6 + 3 * BLOCK_BYTES / 1e6
    assert result["prefilled_s"][0] == prompt_s
    assert result["blocks_s"][0] == prompt_s
    assert result["loaded_s"][0] == pytest.approx(prompt_s + transfer_s, rel=1e-12)
    last_token_s = price.step_s(0, [0], [(1, 9)])
    assert result["first_token_s"][0] == result["loaded_s"][0] + last_token_s
    assert result["transferred_tokens"][0] == 10
    assert result["transferred_bytes"][0] == 3 * BLOCK_BYTES
    assert result["kept_blocks"][0] == 3


def test_transfers_of_a_replica_share_its_links() -> None:
    """Two at the same time take twice as long, up to when the shorter one is over."""
    scenario = pair(
        transfer=KvTransferConfig(latency_s=0, bandwidth_gb_s=1e-3, per_descriptor_us=0)
    )
    result = simulate(scenario, small.requests([0.0, 0.0], [12, 36], [2, 2])).requests
    begun = result["blocks_s"]
    assert begun[0] == begun[1]
    block_s = BLOCK_BYTES / 1e6
    assert result["loaded_s"] - begun == pytest.approx([6 * block_s, 12 * block_s], rel=1e-9)


def test_blocks_stay_until_they_were_read() -> None:
    """With room for one prompt the next one waits for the end of the transfer before it."""
    scenario = pair(source={"num_gpu_blocks": 4, "max_model_len": 16})
    result = simulate(scenario, small.requests([0.0, 0.0], [13, 13], [2, 2])).requests
    assert result["first_scheduled_s"][1] == result["loaded_s"][0] > result["prefilled_s"][0]


def test_the_sink_has_room_for_the_whole_prompt_before_it_reads() -> None:
    scenario = pair(sink={"num_gpu_blocks": 5})
    result = simulate(scenario, small.requests([0.0, 0.0], [13, 13], [4, 4])).requests
    assert result["blocks_s"][1] == result["finish_s"][0]
    assert result["status"].tolist() == [FINISHED] * 2


def test_nothing_is_loaded_while_all_seats_are_taken() -> None:
    scenario = pair(sink={"max_num_seqs": 1})
    result = simulate(scenario, small.requests([0.0, 0.2], [13, 13], [400, 4])).requests
    assert result["handed_s"][1] < result["finish_s"][0] == result["blocks_s"][1]


def test_what_the_sink_has_is_not_read_again() -> None:
    scenario = pair(sink={"enable_prefix_caching": True})
    same = prompt_prefixes(np.array([30, 30]), prompt_id=np.array([0, 0]))
    requests = small.requests([0.0, 1.0], [30, 30], [2, 2], prefixes=same)
    result = simulate(scenario, requests).requests
    assert result["transferred_tokens"].tolist() == [30, 30 - 28]
    assert result["transferred_bytes"].tolist() == [8 * BLOCK_BYTES, BLOCK_BYTES]


def test_short_prompts_stay_where_the_answer_is_made() -> None:
    least = KvTransferConfig(decider="prefix_based", non_cached_tokens=20)
    scenario = pair(sink={"enable_prefix_caching": True}, transfer=least)
    same = prompt_prefixes(np.array([19, 20, 40, 40]), prompt_id=np.array([1, 2, 3, 3]))
    requests = small.requests([0.0, 1.0, 2.0, 3.0], [19, 20, 40, 40], [2] * 4, prefixes=same)
    assert simulate(scenario, requests).requests["prefill_replica"].tolist() == [-1, 0, 0, -1]


def test_nothing_is_lost_or_made() -> None:
    """Prompts are computed once, and their last tokens twice; blocks and bytes add up."""
    rng = np.random.default_rng(4)
    rows = 200
    prompts, outputs = rng.integers(1, 90, rows), rng.integers(1, 30, rows)
    arrivals = np.cumsum(rng.exponential(2e-3, rows))
    requests = small.requests(arrivals.tolist(), prompts.tolist(), outputs.tolist())
    scenario = pair(source={"num_gpu_blocks": 60}, sink={"max_num_seqs": 20})
    result = simulate(scenario, requests)
    table = result.requests
    assert (table["status"] == FINISHED).all()
    assert table["preemptions"].sum() == 0
    assert result.total("computed_prefill_tokens") == prompts.sum() + rows
    assert result.total("blocks_held") == 0
    blocks = -(-prompts // 4)
    assert table["kept_blocks"].tolist() == blocks.tolist()
    assert table["transferred_bytes"].tolist() == (blocks * BLOCK_BYTES).tolist()
    times = ("reached_s", "first_scheduled_s", "prefilled_s", "handed_s", "blocks_s", "loaded_s",
             "first_token_s", "finish_s")  # fmt: skip
    for earlier, later in pairwise(times):
        assert (table[earlier] <= table[later]).all(), (earlier, later)
    spent_s = (table["loaded_s"] - table["blocks_s"]).sum()
    alone_s = (0.002 + blocks * (4e-5 + BLOCK_BYTES / 1e6)).sum()
    assert spent_s > alone_s * 1.5  # they are in each other's way
    busy_s = table["loaded_s"].max() - table["blocks_s"].min()
    assert busy_s > blocks.sum() * BLOCK_BYTES / 1e6  # and no link is faster than it is


@pytest.mark.parametrize(
    ("timeout_s", "freed_s"), [(5e-4, None), (0.0015, "lease"), (0.004, "transfer")]
)
def test_who_gives_up_leaves_no_block_behind(timeout_s: float, freed_s: str | None) -> None:
    """In the prompt's step, on the way to the sink, while its cache is read."""
    api = {"api_request_s": 0.0, "api_output_s": 1e-3}
    lease = KvTransferConfig(latency_s=0.01, kv_lease_duration=2.0)
    scenario = pair(source=api, sink=api, transfer=lease, timeout_s=timeout_s)
    scenario = replace(scenario, api=replace(scenario.api, output_s=1e-3))
    result = simulate(scenario, small.requests([0.0], [10], [3]))
    assert result.requests["status"].tolist() == [TIMED_OUT]
    assert result.total("blocks_held") == 0
    assert np.isnan(result.requests["prefilled_s"][0]) == (freed_s is None)
    assert np.isnan(result.requests["blocks_s"][0]) == (freed_s != "transfer")
    if freed_s == "lease":
        assert result.end_s == result.requests["prefilled_s"][0] + 2.0


@pytest.mark.parametrize(
    ("ranks", "sent", "read", "whole"),
    [((1, 1), 1, 1, 1), ((1, 2), 1, 0.5, 1), ((2, 1), 0.5, 1, 1)],
)
def test_links_of_groups_of_gpus(
    ranks: tuple[int, int], sent: float, read: float, whole: int
) -> None:
    """Every rank sends or reads its heads over a link of its own."""
    source, sink = (
        replace(each, tensor_parallel_size=tp, ledger=replace(
            each.ledger, layout=replace(each.ledger.layout, block_bytes=BLOCK_BYTES // tp)
        ))
        for each, tp in zip(pair().pools, ranks, strict=True)
    )  # fmt: skip
    check_transfers((source, sink), SLOW)
    link = link_of(SLOW, source, sink)
    assert link.source_s == pytest.approx(sent * BLOCK_BYTES / 1e6)
    assert link.sink_s == pytest.approx(read * BLOCK_BYTES / 1e6)
    assert link.block_bytes == whole * BLOCK_BYTES


def test_impossible_pairs_are_refused() -> None:
    source, sink = pair().pools
    other = replace(sink, tensor_parallel_size=3), replace(source, tensor_parallel_size=2)
    with pytest.raises(ValueError, match="one divides the other"):
        check_transfers(other, SLOW)
    copies = replace(source, tensor_parallel_size=2), sink  # each rank has all of the block
    with pytest.raises(ValueError, match="copies of KV heads"):
        check_transfers(copies, SLOW)
    wider = pair(sink={"block_size": 8}).pools
    with pytest.raises(ValueError, match="block_size = 8, but 4 in pool p0"):
        check_transfers(wider, SLOW)
    v0 = pair(source={"scheduler": "prefill_first"}).pools
    with pytest.raises(ValueError, match="expected chunked_prefill"):
        check_transfers(v0, SLOW)


@tries(60)
@given(disaggregated(), workloads())
def test_where_the_time_went_adds_up(scenario: Scenario, requests: Requests) -> None:
    columns = simulate(scenario, requests).requests
    done = columns["status"] == FINISHED
    for span, end in (("ttft", "first_token_s"), ("e2e", "finish_s")):
        parts = decomposition(columns, span, scenario.api.output_s)
        assert {"kv_wait", "transfer", "first_step"} < set(parts)
        total = columns[end] - columns["sent_s"]
        for row in np.flatnonzero(done):
            found = [float(part[row]) for part in parts.values()]
            assert sum(found) == math.fsum(found) == total[row]
            assert min(found) > -1e-12
            if columns["prefill_replica"][row] < 0:
                assert not any(parts[name][row] for name in ("kv_wait", "transfer", "first_step"))


def test_parts_and_use_of_one_request_by_hand() -> None:
    """Alone on both replicas, measured from its arrival to that of a second one at 1 s."""
    scenario = pair(source=API, sink=API)
    scenario = replace(scenario, api=replace(scenario.api, request_s=0.25, output_s=0.125))
    result = simulate(scenario, small.requests([0.0, 1.0], [10, 10], [3, 3]))
    columns = result.requests
    parts = {name: float(part[0]) for name, part in decomposition(columns, "ttft", 0.125).items()}
    price = scenario.pools[0].price
    transfer_s = 0.002 + 3 * 4 * 10e-6 + 3 * BLOCK_BYTES / 1e6
    assert parts == pytest.approx(
        {
            "api": 2 * (0.25 + 0.125), "queue": 0.0, "prefill": price.step_s(0, [0], [(10, 0)]),
            "chunk_wait": 0.0, "preempted": 0.0, "kv_wait": 0.0, "transfer": transfer_s,
            "first_step": price.step_s(0, [0], [(1, 9)]),
        },
        abs=1e-12,
    )  # fmt: skip
    window = measured_window(result, 0.0)
    source, sink = (
        transfer_use(columns, pool, numbers, window)
        for pool, numbers in zip(scenario.pools, scenario.numbers, strict=True)
    )
    moved = 3 * BLOCK_BYTES
    assert sink["transfer_bytes_per_s"] == source["transfer_bytes_per_s"] == moved
    assert sink["handovers_per_s"] == 1.0
    assert sink["transfer_share"] == pytest.approx(transfer_s)
    assert sink["transfer_bytes_in_flight"] == pytest.approx(moved * transfer_s)
    leased_s = 0.25 + 0.125 + transfer_s  # from the end of its step, over the API, to the last byte
    assert source["leased_share"] == pytest.approx(3 * leased_s / 4096)
    assert np.isnan(sink["leased_share"])
    shares = [each["request_share"] for each in summarise_pools(result, scenario)]
    assert shares == [0.0, 1.0]
