"""Drafts: the engine equals vLLM's loop, written out step by step, to the bit."""

from array import array
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from sim.engine.caches.held import held_runs
from sim.engine.drafts.drafted_cache import DraftedCache
from sim.engine.drafts.drafted_prefill import DraftedPrefill
from sim.engine.machine import Machine
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.machines import priced_machine
from sim.settings.cluster_config import ClientConfig
from sim.settings.registry import ORDERS
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import PLAIN_ROUTERS, sessions, workloads
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.requests import Requests

RATES = ([0.9], [0.0, 0.0], [1.0, 1.0], [0.8, 0.55, 0.3], [0.7, 0.7, 0.2, 0.1, 0.1])


@st.composite
def speculative(draw: st.DrawFn) -> dict[str, object]:
    rates = draw(st.sampled_from(RATES))
    k = len(rates)
    ranges = [[1, 2, k], [3, 5, max(0, k - 1)], [6, 9, draw(st.integers(0, k))]]
    method = draw(st.sampled_from(["ngram", "eagle", "eagle", "eagle3", "draft_model"]))
    found: dict[str, object] = {
        "method": method,
        "num_speculative_tokens": k,
        "synthetic_acceptance_rates": rates,
        "num_speculative_tokens_per_batch_size": draw(st.sampled_from([None, None, ranges])),
    }
    if method == "draft_model":
        found["model"] = str(small.draft_config())
    elif method != "ngram":
        found["disable_eagle_block_drop"] = draw(st.sampled_from([False, False, True]))
    if 0 < sum(rates) < k:
        found["acceptance_length_std"] = draw(st.sampled_from([0.0, 0.2]))
    return found


@st.composite
def drafting(
    draw: st.DrawFn, windows: small.Windows | None = None, version: str | None = None
) -> Scenario:
    """With layers of these windows, or where they are alike."""
    drafts = draw(speculative())
    if windows is None:
        alike = st.sampled_from([(None,), (None,), (5,)])
        windows = draw(alike) if drafts["method"] == "ngram" else (None,)
    max_num_seqs = draw(st.integers(1, 12))
    ahead = drafts["method"] != "ngram" and draw(st.booleans())
    return small.scenario(
        replicas=draw(st.sampled_from([1, 1, 2])),
        router=draw(st.sampled_from(PLAIN_ROUTERS)),
        seed=draw(st.integers(0, 3)),
        windows=windows,
        version=version,
        enable_prefix_caching=small.STATE not in windows and draw(st.booleans()),
        async_scheduling=ahead,
        idle_start_s=draw(st.sampled_from([0.0, 0.0, 2e-3])),
        order=draw(st.sampled_from([*ORDERS])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(7, 80)),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 0, 6, 16])),
        block_size=draw(st.sampled_from([1, 4, 16])),
        num_gpu_blocks=draw(st.integers(8, 80)),
        watermark=draw(st.sampled_from([None, 0.0, 0.05])),
        null_block=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        long_prefill_limits_alone=draw(st.booleans()),
        reuse_unhashed_first=draw(st.booleans()),
        max_model_len=draw(st.sampled_from([40, 200, None])),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 3, 8])),
            timeout_s=draw(st.sampled_from([None, None, 2e-3, 2e-2, 0.1])),
        ),
        speculative=drafts,
    )  # fmt: skip


@tries(200)
@given(drafting(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@tries(80)
@given(drafting(), sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@st.composite
def short_of_blocks(draw: st.DrawFn) -> Scenario:
    """Few small blocks, so that many are thrown out, also when they have ended already."""
    method = draw(st.sampled_from(["eagle", "draft_model"]))
    model = {"model": str(small.draft_config())} if method == "draft_model" else {}
    return small.scenario(
        seed=draw(st.integers(0, 3)),
        windows=(None,),
        enable_prefix_caching=True,
        async_scheduling=draw(st.sampled_from([True, True, False])),
        order=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        max_num_seqs=draw(st.integers(2, 6)),
        max_num_batched_tokens=draw(st.integers(12, 20)),
        block_size=4,
        num_gpu_blocks=draw(st.integers(12, 20)),
        reuse_unhashed_first=draw(st.booleans()),
        speculative={
            **model,
            "method": method,
            "num_speculative_tokens": 5,
            "synthetic_acceptance_rates": [0.9, 0.8, 0.7, 0.6, 0.5],
        },
    )


@tries(80)
@given(short_of_blocks(), sessions())
def test_sessions_that_fall_short_of_blocks(scenario: Scenario, requests: Requests) -> None:
    assert_equal_to_reference(scenario, requests)


class Checked(Machine):
    """Computes batches at their price, and looks at the cache before each."""

    def __init__(self, scheduler: Scheduler, machine: Machine) -> None:
        assert isinstance(scheduler, DraftedPrefill)
        self.scheduler, self.machine = scheduler, machine

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        scheduler = self.scheduler
        self.blocks_add_up(list(scheduler.running))
        for each in scheduler.drafts.members:
            assert each.kv_tokens + 1 == each.prompt_tokens + each.generated_tokens
            assert each.kv_tokens <= each.planned_tokens <= each.slots
        tokens = batch.rows + sum(chunk for chunk, _ in batch.chunks)
        assert 0 < tokens <= scheduler.token_budget
        assert batch.decodes + batch.padding + len(batch.chunks) <= scheduler.max_num_seqs
        return self.machine.compute(batch, start_s, until_s, ends_s)

    def blocks_add_up(self, running: list[Sequence]) -> None:
        pool = self.scheduler.pool
        if isinstance(pool, DraftedCache):
            pool.check_cache(running)
            shared = {id(run): run.count for each in running for run in held_runs(each)}
            own = sum(pool.blocks(each.slots) - each.named_blocks for each in running)
            assert pool.held == sum(shared.values()) + own
        else:
            pool.check_integrity(sum(pool.blocks(each.slots) for each in running))


@tries(80)
@given(drafting(), workloads())
def test_blocks_and_tokens_add_up_in_every_step(scenario: Scenario, requests: Requests) -> None:
    machine = priced_machine(scenario.pool)
    simulate(scenario, requests, machine=lambda scheduler: Checked(scheduler, machine))
