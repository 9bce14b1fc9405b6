"""Pools: identical ones are one, each has figures of its own, and together they are the cluster."""

import math
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.evidence import CoveredRange
from hardware.gpu import load_gpu
from sim.measuring.caveats import caveats
from sim.measuring.metrics import METRICS, POOL_SHARES, summarise, summarise_pools
from sim.measuring.slo import Slo
from sim.measuring.timeline import timeline
from sim.recording.result import REJECTED
from sim.recording.tape import Scratch
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pool_building import build_pool
from sim.settings.pools import Pool, PoolConfig, PoolEngine, numbers_of
from sim.settings.scenario import Scenario, build_scenario, scenario_of_pools
from sim.simulation import can_be_split, simulate, simulate_part, whole
from tests.sim import small
from tests.sim.random_clusters import PLAIN_ROUTERS, workloads
from tests.tries import tries
from workloads.requests import Requests

PLAIN = EngineConfig.model_validate(small.PLAIN | {"max_num_batched_tokens": 2048})


def pool(gpu: str = "a100-80gb-sxm", replicas: int = 1, tp: int = 1, **config: object) -> Pool:
    engine = PLAIN.model_copy(update=dict(config.pop("engine", {})))
    fields = {"gpu": gpu, "replicas": replicas, "tensor_parallel_size": tp, **config}
    return build_pool(PoolConfig.model_validate(fields), small.tiny_spec(), load_gpu(gpu), engine)


def burst(rows: int, prompt: int = 100, output: int = 20, gap_s: float = 0.01) -> Requests:
    return small.requests([gap_s * row for row in range(rows)], [prompt] * rows, [output] * rows)


@tries(100)
@given(
    workloads(), st.sampled_from(PLAIN_ROUTERS),
    st.lists(st.integers(1, 3), min_size=2, max_size=4), st.sampled_from([inf, inf, 0.02]),
    st.integers(0, 3),
)  # fmt: skip
def test_identical_pools_are_one_pool_to_the_last_bit(
    requests: Requests, router: str, replicas: list[int], stop_s: float, seed: int
) -> None:
    def of(count: int) -> Scenario:
        return small.scenario(
            replicas=count, router=router, seed=seed, max_num_seqs=3, num_gpu_blocks=60,
            max_num_batched_tokens=70,
        )  # fmt: skip

    one, many = of(sum(replicas)), small.pooled(*map(of, replicas))
    assert [kind.pool.replicas for kind in many.kinds] == [sum(replicas)]
    result, same = (simulate(scenario, requests, stop_s) for scenario in (one, many))
    small.assert_same(result, same)
    if result.requests["arrival_s"][0] <= result.end_s:
        slo = Slo(ttft_s=0.05, tpot_s=0.01)
        np.testing.assert_equal(summarise(same, many, slo), summarise(result, one, slo))
        np.testing.assert_equal(timeline(same), timeline(result))


@tries(60)
@given(workloads(), st.sampled_from(PLAIN_ROUTERS), st.sampled_from([inf, 0.05]))
def test_pools_add_up_to_the_cluster(requests: Requests, router: str, stop_s: float) -> None:
    fast, slow = (
        small.scenario(
            replicas=count, router=router, step_overhead_s=step_s, num_gpu_blocks=blocks,
            max_num_seqs=4, max_num_batched_tokens=99,
        )
        for count, step_s, blocks in ((1, 1e-3, 90), (2, 5e-3, 70))
    )  # fmt: skip
    scenario = small.pooled(fast, slow)
    result = simulate(scenario, requests, stop_s)
    if not result.requests["arrival_s"][0] <= result.end_s:
        return
    every = summarise(result, scenario)
    pools = summarise_pools(result, scenario)
    assert [list(each) for each in pools] == [[*POOL_SHARES, *METRICS]] * 2
    sent = int((result.requests["replica"] >= 0).sum())
    assert sum(each["requests"] for each in pools) == sent
    for name in ("finished", "preemptions"):
        assert sum(each[name] for each in pools) == every[name], name
    for name in ("request_throughput_per_s", "output_tokens_per_s", "total_tokens_per_s"):
        total = sum(each[name] for each in pools)
        assert total == pytest.approx(every[name], rel=1e-12, nan_ok=True), name
    for name in ("busy_share", "kv_use_mean"):
        mean = (pools[0][name] + 2 * pools[1][name]) / 3
        assert mean == pytest.approx(every[name], rel=1e-9, nan_ok=True), name
    assert max(each["kv_use_max"] for each in pools) == every["kv_use_max"]
    if sent:
        assert sum(each["request_share"] for each in pools) == pytest.approx(1)


def test_each_pool_is_measured_as_if_it_had_been_alone_with_its_requests() -> None:
    """Round robin over one fast and one slow replica: every other request, at the same times."""
    scenario = small.pooled(
        small.scenario(step_overhead_s=1e-3), small.scenario(step_overhead_s=4e-3)
    )
    requests = burst(60)
    found = summarise_pools(simulate(scenario, requests), scenario, warmup_fraction=0.0)
    for place in (0, 1):
        rows = slice(place, None, 2)
        own = replace(
            requests,
            **{
                name: getattr(requests, name)[rows]
                for name in ("arrival_s", "prompt_tokens", "output_tokens", "priority")
            },
        )
        alone = scenario.alone(scenario.pools[place])
        expected = summarise(simulate(alone, own), alone, warmup_fraction=0.0)
        for name in ("ttft_mean_s", "ttft_p99_s", "e2e_p50_s", "mfu", "mbu", "context_tokens_max"):
            assert found[place][name] == pytest.approx(expected[name], rel=1e-12), name


def test_use_of_the_hardware_is_weighted_with_what_each_kind_could_have_done() -> None:
    pools = (pool("h100-sxm", name="fast", tp=2), pool("l40s", 3, name="slow"))
    scenario = scenario_of_pools(pools, "round_robin")
    result = simulate(scenario, burst(400))
    every, (fast, slow) = summarise(result, scenario), summarise_pools(result, scenario)
    ends, starts = (np.asarray(result.segments[name]) for name in ("end_s", "start_s"))
    replica = np.asarray(result.segments["replica"])
    busy_s = [float((ends - starts)[kind].sum()) for kind in (replica == 0, replica > 0)]
    for name, peak in (
        ("mfu", lambda gpu: gpu.peak("bf16")), ("mbu", lambda gpu: gpu.bandwidth_bytes_per_s)
    ):  # fmt: skip
        could = [
            seconds * peak(each.gpu) * each.tensor_parallel_size
            for seconds, each in zip(busy_s, pools, strict=True)
        ]
        did = fast[name] * could[0] + slow[name] * could[1]
        assert every[name] == pytest.approx(did / sum(could), rel=1e-12)
        assert min(fast[name], slow[name]) < every[name] < max(fast[name], slow[name])
    prices = [each.gpu.usd_per_hour or math.nan for each in pools]
    assert fast["usd_per_hour"] == 2 * prices[0]
    assert slow["usd_per_hour"] == 3 * prices[1]
    assert every["usd_per_hour"] == 2 * prices[0] + 3 * prices[1]
    for each in (every, fast, slow):
        millions_per_hour = each["output_tokens_per_s"] * 3600 / 1e6
        price = each["usd_per_hour"] / millions_per_hour
        assert each["usd_per_million_output_tokens"] == pytest.approx(price, rel=1e-12)


def test_what_leaves_a_calibration_is_counted_with_that_of_each_kind() -> None:
    """Two kinds with a range, one without: who reaches beyond its own range adds to the others."""
    few = CoveredRange(max_step_tokens=12, max_context_tokens=110, max_decodes=3)
    more = CoveredRange(max_step_tokens=99, max_context_tokens=110, max_decodes=64)

    def told(of: Pool, covered: CoveredRange | None) -> Pool:
        return replace(of, calibration=of.calibration.model_copy(update={"covered": covered}))

    pools = (
        told(pool("h100-sxm", name="fast"), few), told(pool("l40s", name="slow"), more),
        told(pool("t4", name="free"), None),
    )  # fmt: skip
    scenario = scenario_of_pools(pools, "round_robin")
    result = simulate(scenario, burst(30, gap_s=0.001))
    every, (fast, slow, free) = summarise(result, scenario), summarise_pools(result, scenario)
    for name in ("steps_outside_calibration", "requests_outside_calibration"):
        assert math.isnan(free[name])
        assert min(fast[name], slow[name]) > 0
        assert every[name] == fast[name] + slow[name], name
    assert every["requests_outside_calibration"] == 20, "a third of them went to each"


def test_kv_blocks_are_those_of_each_replica() -> None:
    few, many = (small.scenario(num_gpu_blocks=blocks, max_num_seqs=8) for blocks in (20, 200))
    scenario = small.pooled(few, many)
    result = simulate(scenario, burst(40, output=90, gap_s=0.0))
    assert result.replicas["num_gpu_blocks"].tolist() == [20, 200]
    tight, roomy = summarise_pools(result, scenario)
    assert tight["preemptions"] > 0 == roomy["preemptions"]
    assert tight["kv_use_max"] > 0.9 > 0.5 > roomy["kv_use_max"]
    mean = (tight["kv_use_mean"] + roomy["kv_use_mean"]) / 2
    assert summarise(result, scenario)["kv_use_mean"] == pytest.approx(mean, rel=1e-12)
    use = timeline(result, bins=50)["kv_use"]
    assert 0.3 < use.max() <= 1, "a share of each replica's own blocks"


def test_a_request_too_long_for_the_chosen_pool_alone_is_rejected_there() -> None:
    short, long = (small.scenario(max_model_len=length) for length in (64, 512))
    scenario = small.pooled(short, long)
    requests = small.requests([0.0, 0.1, 0.2, 0.3, 0.4], [100, 100, 20, 600, 20], [10] * 5)
    result = simulate(scenario, requests)
    # In turn: the first to the short pool, the second to the long one; nobody asks for the fourth.
    assert (result.requests["status"] == REJECTED).tolist() == [True, False, False, True, False]
    assert result.requests["replica"].tolist() == [-1, 1, 0, -1, 1]


@pytest.mark.parametrize("router", ["round_robin", "random"])
def test_pools_that_know_nothing_of_each_other_can_be_simulated_apart(
    router: str, tmp_path: Path
) -> None:
    scenario = small.pooled(
        small.scenario(replicas=2, router=router, max_num_seqs=3, max_model_len=130),
        small.scenario(replicas=1, step_overhead_s=3e-3),
    )
    requests = burst(200, output=30)
    assert can_be_split(scenario, requests)
    parts = [
        simulate_part(scenario, requests, numbers, inf, Scratch(tmp_path, shared=True))
        for numbers in ([1], [0, 2])
    ]
    small.assert_same(whole(scenario, requests, parts), simulate(scenario, requests))
    looking = replace(scenario, router="least_tokens")
    assert not can_be_split(looking, requests)


def test_a_router_that_looks_sends_more_to_the_faster_pool() -> None:
    requests = burst(300, prompt=50, output=50, gap_s=0.004)
    shares = {}
    for router in PLAIN_ROUTERS:
        fast, slow = (
            small.scenario(router=router, step_overhead_s=step_s) for step_s in (1e-3, 8e-3)
        )
        scenario = small.pooled(fast, slow)
        share = summarise_pools(simulate(scenario, requests), scenario)[0]["request_share"]
        shares[router] = share
    assert shares["round_robin"] == 0.5
    assert shares["random"] == pytest.approx(0.5, abs=0.1)
    assert min(shares["least_requests"], shares["least_tokens"]) > 0.75
    assert shares["power_of_two_choices"] == shares["least_requests"], "two choices of two"


def test_what_a_pool_reports_is_read_from_disk_as_from_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenario = small.pooled(
        small.scenario(replicas=2, max_num_seqs=3, num_gpu_blocks=40), small.scenario()
    )
    requests = burst(300, output=40, gap_s=0.001)
    in_memory = summarise_pools(simulate(scenario, requests), scenario)
    monkeypatch.setattr("sim.recording.recorder.FULL_STEPS", 64)
    result = simulate(scenario, requests, scratch=Scratch(tmp_path))
    assert not isinstance(result.step_end_s, np.ndarray)
    np.testing.assert_equal(summarise_pools(result, scenario), in_memory)


def test_a_pool_without_requests_has_no_latencies_and_costs_what_it_costs() -> None:
    scenario = small.pooled(small.scenario(), small.scenario(step_overhead_s=2e-3))
    _, idle = summarise_pools(simulate(scenario, burst(1)), scenario)
    assert (idle["requests"], idle["busy_share"], idle["request_share"]) == (0, 0, 0)
    assert math.isnan(idle["ttft_p50_s"])
    assert math.isnan(idle["mfu"])
    assert idle["usd_per_hour"] > 0
    assert caveats(idle)


def test_pools_that_differ_in_their_api_are_refused() -> None:
    pools = (pool(name="a"), pool(name="b", engine={"api_request_s": 0.002}))
    with pytest.raises(ValueError, match=r"pool b: api_request_s, .* = 0\.002, 0, .* but 0, 0,"):
        scenario_of_pools(pools, "random")


def test_the_short_form_is_one_pool_without_a_name() -> None:
    short = ClusterConfig(gpu="t4", replicas=3, tensor_parallel_size=2, gpu_usd_per_hour=1.5)
    (only,) = short.all_pools
    assert (only.name, only.gpu, only.replicas, only.role) == ("", "t4", 3, "serve")
    assert (only.tensor_parallel_size, only.gpu_usd_per_hour) == (2, 1.5)
    assert "pools" not in short.model_dump()
    several = ClusterConfig.model_validate(
        {"pools": [{"gpu": "t4", "engine": {"block_size": 8}}, {"gpu": "l40s", "replicas": 2}]}
    )
    assert [each.name for each in several.all_pools] == ["pool1", "pool2"]
    assert several.all_replicas == 3
    assert numbers_of(pool.all_ranks for pool in several.all_pools) == (range(1), range(1, 3))
    written = several.model_dump()
    assert written.keys() == {"pools", "router", "router_settings", "kv_store"}
    assert written["pools"][0]["engine"] == {"block_size": 8}, "the rest is the study's"
    assert ClusterConfig.model_validate(written) == several
    assert PoolEngine().model_dump() == {}


def test_one_gpu_is_no_cluster_of_pools() -> None:
    cluster = ClusterConfig.model_validate({"pools": [{"gpu": "t4"}, {"gpu": "t4"}]})
    with pytest.raises(ValueError, match="expected 1"):
        build_scenario(small.tiny_spec(), load_gpu("t4"), cluster, PLAIN)
    scenario = small.pooled(small.scenario(), small.scenario())
    with pytest.raises(ValueError, match=r"cluster\.pools: 2 of them, expected one"):
        _ = scenario.pool
