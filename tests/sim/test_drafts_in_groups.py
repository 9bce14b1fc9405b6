"""Drafts where layers keep different tokens: as vLLM's loop over blocks has it, to the bit."""

from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from hardware.gpu import load_gpu
from hardware.memory.kv_layout import KvGroup
from hardware.prices.modelled import line
from hardware.prices.work import Linear
from model.caches import Reach
from model.spec import load_spec
from sim.caches import make_cache
from sim.engine.caches.block_tables import runs_of
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.runs import Run
from sim.engine.drafts.drafted_hybrid import DraftedHybrid
from sim.engine.sequence import Sequence
from sim.machines import priced_machine
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pools import Pool
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import sessions, workloads
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.sim.test_drafts_against_reference import Checked, drafting
from tests.tries import tries
from workloads.requests import Requests

STATE = small.STATE
LAYERS: list[small.Windows] = [
    (None, 5), (5, None), (None, 3, 9), (None, STATE), (None, 5, STATE, STATE),
]  # fmt: skip


@st.composite
def in_groups(draw: st.DrawFn) -> Scenario:
    """Groups of any windows and sizes, some of them with layers of the drafter."""
    windows = draw(st.sampled_from(LAYERS))
    made = draw(drafting(windows, draw(st.sampled_from(["0.33", "0.33", "0.32", "0.31"]))))
    pool = made.pool
    assert pool.drafts is not None
    size, kinds = pool.engine.block_size, [each for each in windows if each != STATE]
    larger = draw(st.sampled_from([1, 1, 2, 3]))
    theirs = draw(st.sets(st.sampled_from(kinds), min_size=1))
    groups = tuple(
        KvGroup(layers=1, block_tokens=size, state=True, states=1 + pool.drafts.drafting.tokens)
        if window == STATE
        else KvGroup(
            layers=1, block_tokens=size * (1 if window else larger), window=window,
            drafts=window in theirs,
        )
        for window in windows
    )  # fmt: skip
    layout = replace(pool.ledger.layout, groups=groups)
    retention = draw(st.sampled_from(["dense", 0, 6 * size]))
    blocks = draw(st.integers(30, 120))
    pool = replace(
        pool,
        ledger=replace(pool.ledger, layout=layout, num_gpu_blocks=blocks),
        engine=pool.engine.model_copy(update={"prefix_cache_retention_interval": retention}),
    )
    return replace(made, pools=(pool,))


@tries(200)
@given(in_groups(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


@tries(80)
@given(in_groups(), sessions(), st.sampled_from([inf, inf, 0.05]))
def test_random_sessions(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    assert_equal_to_reference(scenario, requests, stop_s)


class CheckedInGroups(Checked):
    """Computes batches at their price, and looks at the blocks of every group before each."""

    def blocks_add_up(self, running: list[Sequence]) -> None:
        pool = self.scheduler.pool
        if isinstance(pool, DraftedHybrid):
            pool.check_cache(running)
            shared = {id(run): run.count for each in running for run in held(each)}
            own = sum(
                pool.held_by(each, each.slots) - sum(run.count for run in held(each))
                for each in running
            )
            assert pool.held == sum(shared.values()) + own
        else:
            assert isinstance(pool, GroupedPool)
            pool.check_integrity(sum(pool.held_by(each, each.slots) for each in running))


def held(sequence: Sequence) -> list[Run]:
    return [run for table in sequence.tables for run in runs_of(table)]


@tries(80)
@given(in_groups(), workloads())
def test_blocks_of_every_group_add_up_in_every_step(scenario: Scenario, requests: Requests) -> None:
    machine = priced_machine(scenario.pool)
    simulate(scenario, requests, machine=lambda scheduler: CheckedInGroups(scheduler, machine))


def built(model: str, tp: int, **engine: object) -> Pool:
    gpu = "h100-sxm"
    cluster = ClusterConfig(gpu=gpu, tensor_parallel_size=tp)
    settings = EngineConfig.model_validate({"max_model_len": 8192} | engine)
    return build_scenario(load_spec(model), load_gpu(gpu), cluster, settings).pool


def drafts(method: str, tokens: int) -> dict[str, object]:
    lengths = {"synthetic_acceptance_length": 1.5} if tokens else {}
    return {"speculative": {"method": method, "num_speculative_tokens": tokens, **lengths}}


def test_a_hybrid_keeps_a_state_for_every_row() -> None:
    """Qwen3-Next on four GPUs: a block of attention has to hold a state of a layer.

    Of 8 value heads, 128 x 128 numbers in float32, and a convolution over 2,048 channels, which
    keeps 3 inputs, and one more for each draft, in 16 bits.
    """
    model = "qwen3-next-80b-a3b"
    without = built(model, 4, enable_prefix_caching=False)
    three = built(model, 4, **drafts("mtp", 3))
    token = 2 * 256 * 2  # keys and values of one head
    recurrent, channels = 8 * 128 * 128 * 2, 2048 * 2
    for pool, inputs, attention in ((without, 3, 12), (three, 6, 13)):
        least = -(-(recurrent + inputs * channels) // (16 * token)) * 16
        whole, *states = pool.ledger.layout.groups
        assert (whole.block_tokens, whole.layers, whole.drafts) == (
            least, attention, attention == 13,
        )  # fmt: skip
        assert [each.states for each in states] == [inputs - 2] * 3
    longest = 8192
    assert three.ledger.layout.most_blocks(longest, 0) == -(-longest // 288) + 3 * 4


def test_drafts_of_a_window_model_drop_a_block_where_their_layer_is() -> None:
    pool = built("gemma-3-27b", 2, **drafts("eagle3", 2))
    cache = make_cache(pool, None)
    assert isinstance(cache, DraftedHybrid)
    assert [(group.window, group.drops) for group in cache.groups] == [(1024, False), (None, True)]
    older = make_cache(built("gemma-3-27b", 2, version="0.32", **drafts("eagle3", 2)), None)
    assert isinstance(older, DraftedHybrid)
    assert [group.drops for group in older.groups] == [True, True]
    kept = make_cache(built("gemma-3-27b", 2, **drafts("ngram", 2)), None)
    assert isinstance(kept, DraftedHybrid)
    assert not any(group.drops for group in kept.groups)


def test_rejected_drafts_of_a_state_are_written_as_well() -> None:
    """A state is read once, and written behind each of the rows."""
    of_one = Linear(per_sequence=6.0, per_row=1.0)
    assert line(of_one, 10) == (70.0, 0.0)
    assert line(of_one, 10, rows=4) == (10 * (4 * 1.0 + 6.0 / 2 * (1 + 4)), 0.0)
    assert line(of_one, 10, rows=4, reach=Reach(None)) == (10 * (4 * 1.0 + 6.0), 0.0)


def test_drafts_that_read_the_target_leave_no_groups_beside_chunks() -> None:
    """As vLLM decides: n-grams go with chunks' groups, and share prompts; with EAGLE, chunks keep
    everything."""
    told = {"version": "0.33", "enable_prefix_caching": True, "windows": (None, small.CHUNK)}
    own = small.scenario(**told, **drafts("ngram", 2)).pool
    assert [(each.window, each.chunked) for each in own.ledger.layout.groups] == [
        (None, False), (small.CHUNK, True),
    ]  # fmt: skip
    read = small.scenario(**told, **drafts("eagle", 2)).pool
    assert [(each.window, each.chunked) for each in read.ledger.layout.groups] == [(None, False)]
    assert read.engine.disable_hybrid_kv_cache_manager
