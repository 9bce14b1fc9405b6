"""Planning ahead where KV comes from elsewhere: whom a step under way computes is left alone."""

import numpy as np
import pytest

from sim.engine.deferring_prefill import DeferringPrefill
from sim.engine.drafts.drafted_deferring import DraftedDeferring
from sim.recording.result import FINISHED
from sim.schedulers import make_scheduler
from sim.settings.cluster_config import ClientConfig
from sim.settings.kv_transfer import KvTransferConfig
from sim.settings.scenario import Scenario
from tests.sim import small
from tests.sim.role_clusters import assert_equal, with_roles
from tests.sim.test_against_reference import compare
from tests.sim.test_tiers_against_reference import behind, brought
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

NEAR = KvTransferConfig(latency_s=0.001, bandwidth_gb_s=1.0)


def tight(version: str, order: str = "fcfs", windows: small.Windows = (None, None)) -> Scenario:
    """A pool that decodes, with blocks for two of the longest requests."""
    told = {"version": version, "windows": windows, "async_scheduling": True, "block_size": 4,
            "order": order, "max_num_seqs": 9, "max_num_batched_tokens": 40,
            "max_model_len": 160}  # fmt: skip
    blocks = 90 if len({*windows}) == 1 else 120
    return with_roles(
        ("prefill", small.scenario(**told)),
        ("decode", small.scenario(**told, num_gpu_blocks=blocks)),
        kv_transfer=NEAR,
    )


def crowd() -> Requests:
    rng = np.random.default_rng(3)
    prompts, outputs = rng.integers(1, 60, 60), rng.integers(20, 90, 60)
    arrivals = np.cumsum(rng.exponential(3e-3, 60))
    ranks = rng.integers(0, 3, 60)
    return small.requests(arrivals.tolist(), prompts.tolist(), outputs.tolist(), ranks.tolist())


@pytest.mark.parametrize("windows", [(None, None), (None, 5), (30, 9, None)])
@pytest.mark.parametrize("order", ["fcfs", "priority"])
def test_who_lacks_a_block_waits_for_the_step_under_way(order: str, windows: small.Windows) -> None:
    now, before = (
        assert_equal(tight(version, order, windows), crowd()) for version in ("0.33", "0.29")
    )
    for result in (now, before):
        assert (result.requests["status"] == FINISHED).all()
        assert result.requests["preemptions"].sum() > 5
    later = now.requests["finish_s"] != before.requests["finish_s"]
    assert later.sum() > 10


def test_engines_that_do_not_plan_ahead_or_load_nothing_need_not_wait() -> None:
    pools = [
        small.scenario(version="0.33", async_scheduling=True),
        with_roles(("prefill", small.scenario(version="0.33")), ("decode", small.scenario())),
        tight("0.29"),
    ]
    for scenario in pools:
        kinds = [type(make_scheduler(pool)) for pool in scenario.pools]
        assert DeferringPrefill not in kinds
    assert [type(make_scheduler(pool)) for pool in tight("0.30").pools] == [DeferringPrefill] * 2


def with_host(**more: object) -> Scenario:
    """Planned ahead, blocks for two short requests, and a host for their KV, or none."""
    return small.scenario(
        version="0.33", enable_prefix_caching=True, async_scheduling=True, block_size=4,
        num_gpu_blocks=7, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=20,
        watermark=0.0, step_overhead_s=1e-2, client=ClientConfig(timeout_s=0.065), **more,
    )  # fmt: skip


def test_who_gives_up_keeps_its_blocks_as_long_as_a_step_computes_it() -> None:
    """The first gives up in its seventh step, and is in the eighth one, which was planned before;
    the second goes on decoding. The third lacks the blocks of the first: beside a host, which could
    fill them, it has them a step later."""
    prefixes = prompt_prefixes(np.array([8, 1, 16]), prompt_id=np.array([1, 2, 3]))
    requests = small.requests([0.0, 0.03, 0.05], [8, 1, 16], [12, 10, 1], prefixes=prefixes)
    plain, _ = compare(with_host(), requests)
    beside, _ = brought(behind(with_host(kv_offloading_size=1.0), 100, 1e-6), requests)
    assert plain.requests["status"].tolist() == beside.requests["status"].tolist()
    first = [float(result.requests["first_token_s"][2]) for result in (plain, beside)]
    assert first == pytest.approx([0.09, 0.1], rel=0.01)


def test_whoever_has_a_host_and_plans_ahead_defers() -> None:
    drafts = {
        "method": "eagle", "num_speculative_tokens": 1, "synthetic_acceptance_length": 1.5,
    }  # fmt: skip
    alone = make_scheduler(with_host().pool)
    beside = make_scheduler(with_host(kv_offloading_size=1.0).pool)
    drafted = make_scheduler(with_host(kv_offloading_size=1.0, speculative=drafts).pool)
    assert not isinstance(alone, DeferringPrefill)
    assert isinstance(beside, DeferringPrefill)
    assert isinstance(drafted, DraftedDeferring)
