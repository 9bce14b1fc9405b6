"""Pipeline stages: closed forms, what is conserved, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.gpu import load_gpu
from hardware.prices.chunks import ModelledChunks
from hardware.steps.cost import StepCost
from model.spec import load_spec
from sim.ceilings import ceilings_of
from sim.engine.caches.block_groups import BlockGroup
from sim.engine.sequence import Sequence
from sim.engine.stages.pipelined_groups import PipelinedGroups
from sim.lone import lone_steps_s
from sim.measuring.metrics import summarise
from sim.measuring.token_gaps import token_gaps
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import Scenario, build_scenario, scenario_of_pools
from sim.simulation import simulate
from tests.sim import small

STAGE_S = 2.0**-7
SPACED, HELD, FOLLOWED = ("0.33", None), ("0.33", False), ("0.20", None)


def flat(cost: StepCost, seconds: float) -> StepCost:
    """Every step takes as long."""
    return replace(
        cost,
        idle_start_s=0.0,
        overhead_s=seconds,
        token_s=[0.0] * len(cost.token_s),
        sequence_s=[0.0] * len(cost.sequence_s),
        decode_pieces=[[((0, 0.0, 0.0),)] * len(each) for each in cost.decode_pieces],
        chunk_cost=ModelledChunks(terms=(), overhead_s=0.0, fused=True),
    )


def staged(
    stages: int, rule: tuple[str, bool | None], *times_s: float, **engine: object
) -> Scenario:
    """Stages that take so long for any step; equally long ones if nothing is said."""
    version, asynchronous = rule
    made = small.scenario(
        stages=stages, windows=(None,) * stages, version=version, async_scheduling=asynchronous,
        **engine,
    )  # fmt: skip
    pool = made.pool
    assert pool.pipeline is not None
    each = times_s or (STAGE_S,) * stages
    costs = tuple(map(flat, pool.pipeline.stages, each))
    gpu = pool.gpu.model_copy(update={"link_latency_s": 0.0})
    pipeline = replace(pool.pipeline, stages=costs)
    return replace(made, pools=(replace(pool, gpu=gpu, pipeline=pipeline),))


@pytest.mark.parametrize("rule", [SPACED, HELD, FOLLOWED])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_a_lone_request_has_a_token_every_time_all_stages_are_passed(
    stages: int, rule: tuple[str, bool | None]
) -> None:
    result = simulate(staged(stages, rule), small.requests([0.0], [5], [9]))
    token_s = stages * STAGE_S
    assert result.requests["first_token_s"][0] == token_s
    assert result.requests["finish_s"][0] == 9 * token_s
    for gaps in token_gaps(result):
        assert set(gaps.gap_s[gaps.weight > 0]) <= {token_s}


@pytest.mark.parametrize("rule", [SPACED, HELD])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_as_many_requests_as_stages_keep_all_stages_busy(
    stages: int, rule: tuple[str, bool | None]
) -> None:
    # Each prompt fills a step, so that the requests go one behind the other.
    tokens, prompt = 50, 16
    scenario = staged(stages, rule, max_num_seqs=stages, max_num_batched_tokens=prompt)
    requests = small.requests([0.0] * stages, [prompt] * stages, [tokens] * stages)
    result = simulate(scenario, requests)
    ends = np.sort(np.asarray(result.step_end_s))
    assert (np.diff(ends) == STAGE_S).all()  # one step ends whenever a stage has passed
    assert len(ends) == stages * tokens
    assert result.end_s == (stages * tokens + stages - 1) * STAGE_S
    assert summarise(result, scenario, warmup_fraction=0.0)["busy_share"] == 1.0


def test_the_slowest_stage_sets_the_pace() -> None:
    scenario = staged(
        3, HELD, STAGE_S, 4 * STAGE_S, STAGE_S, max_num_seqs=3, max_num_batched_tokens=16
    )
    result = simulate(scenario, small.requests([0.0] * 3, [16] * 3, [40] * 3))
    ends = np.sort(np.asarray(result.step_end_s))
    assert (np.diff(ends) == 4 * STAGE_S).all()


@pytest.mark.parametrize("stages", [2, 4])
def test_steps_that_wait_for_each_other_use_one_stage_at_a_time(stages: int) -> None:
    scenario = staged(stages, FOLLOWED, max_num_seqs=stages, max_num_batched_tokens=16)
    result = simulate(scenario, small.requests([0.0] * stages, [16] * stages, [40] * stages))
    decoding = result.steps()["decodes"] > 0
    assert (np.diff(np.asarray(result.step_end_s))[decoding[1:]] == stages * STAGE_S).all()


def test_chunks_of_one_prompt_follow_each_other_through_the_stages() -> None:
    scenario = staged(3, HELD, max_num_batched_tokens=16, max_num_seqs=4)
    result = simulate(scenario, small.requests([0.0], [64], [1]))
    assert result.requests["first_token_s"][0] == (4 + 3 - 1) * STAGE_S
    assert lone_steps_s(scenario.pool, 64) == 6 * STAGE_S


def test_every_token_is_made_once_and_every_block_comes_back() -> None:
    rng = np.random.default_rng(3)
    scenario = small.scenario(
        stages=4, windows=(None,) * 5, version="0.33", async_scheduling=None, max_num_seqs=12,
        num_gpu_blocks=30, block_size=4, max_num_batched_tokens=64, max_model_len=200,
        enable_prefix_caching=True,
    )  # fmt: skip
    prompts, outputs = rng.integers(1, 60, 60), rng.integers(1, 50, 60)
    result = simulate(scenario, small.requests([0.0] * 60, prompts.tolist(), outputs.tolist()))
    assert result.requests["preemptions"].sum() > 10
    gaps = sum(int(each.weight.sum()) for each in token_gaps(result))
    assert gaps == (outputs - 1).sum()
    assert len(result.resumed_gap_s) > 5
    assert result.total("blocks_held") == 0


def test_a_pipeline_is_as_fast_as_one_group_where_steps_are_alone() -> None:
    """What all stages take is what one group takes, but for what is handed over."""
    spec, gpu = load_spec("llama-3.1-8b"), load_gpu("h100-sxm")
    engine = EngineConfig(version="0.33", max_model_len=4096)
    one, four = (
        build_scenario(spec, gpu, ClusterConfig(gpu="h100-sxm", pipeline_parallel_size=pp), engine)
        for pp in (1, 4)
    )
    cost = four.pool.pipeline
    assert cost is not None
    for decodes, reads, chunks in ((1, 500, ()), (64, 40_000, ((512, 0),))):
        whole_s = one.pool.price.step_s(decodes, reads, chunks)
        stages_s = [stage.step_s(decodes, reads, chunks) for stage in cost.stages]
        tokens = decodes + sum(chunk for chunk, _ in chunks)
        sent_s = 3 * (2 * tokens * 4096 * 2 / gpu.link_bytes_per_s + gpu.link_latency_s)
        assert sum(stages_s) == pytest.approx(whole_s + sent_s, rel=1e-12)
        assert four.pool.price.step_s(decodes, reads, chunks) == pytest.approx(sum(stages_s))
    assert four.pool.ledger.num_gpu_blocks > 4 * one.pool.ledger.num_gpu_blocks
    ceilings = ceilings_of(four.pool), ceilings_of(one.pool)
    assert ceilings[0]["prefill_tokens_per_s"] > 3 * ceilings[1]["prefill_tokens_per_s"]
    assert ceilings[0]["fastest_token_s"] > ceilings[1]["fastest_token_s"]
    assert four.pool.gpus == 4


@pytest.mark.parametrize(
    ("changes", "engine", "message"),
    [
        ({"data_parallel_size": 2}, {}, "data_parallel_size = 2 is not modelled"),
        ({}, {"version": "0.8"}, "modelled from 0.9 on"),
        ({}, {"version": "0.12", "async_scheduling": True}, "this version has none with pipeline"),
        ({}, {"scheduler": "prefill_first"}, "expected chunked_prefill"),
        ({}, {"speculative": {"method": "ngram", "num_speculative_tokens": 2,
                              "synthetic_acceptance_length": 1.5}}, "engine.speculative is not"),
        ({}, {"kv_offloading_size": 10}, "kv_offloading_size = 10 is not modelled"),
        ({"pipeline_parallel_size": 33}, {}, "expected at most 32"),
        ({"pipeline_parallel_size": 4, "tensor_parallel_size": 4, "gpu": {
            "like": "h100-sxm", "gpus_per_server": 6, "network_bytes_per_s": 5e10}}, {},
         "a stage would lie across servers"),
    ],
)  # fmt: skip
def test_what_is_not_modelled_is_refused_by_name(
    changes: dict[str, object], engine: dict[str, object], message: str
) -> None:
    cluster = ClusterConfig.model_validate(
        {"gpu": "h100-sxm", "pipeline_parallel_size": 2} | changes
    )
    gpu = load_gpu(cluster.gpu)
    settings = EngineConfig.model_validate({"max_model_len": 2048} | engine)
    with pytest.raises(ValueError, match=message):
        build_scenario(load_spec("llama-3.1-8b"), gpu, cluster, settings)


@pytest.mark.parametrize(
    ("name", "engine", "message"),
    [
        ("gpt-oss-20b", {"version": "0.10"}, "in several groups of the KV cache"),
        ("deepseek-v4-flash", {}, "entries stand for several tokens"),
        ("qwen3-next-80b-a3b", {"enable_prefix_caching": True}, "keep a state behind stages"),
    ],
)
def test_some_groups_of_the_cache_are_refused(
    name: str, engine: dict[str, object], message: str
) -> None:
    cluster = ClusterConfig(gpu="h100-sxm", pipeline_parallel_size=2, tensor_parallel_size=8)
    settings = EngineConfig.model_validate({"max_model_len": 2048} | engine)
    with pytest.raises(ValueError, match=message):
        build_scenario(load_spec(name), load_gpu("h100-sxm"), cluster, settings)


@pytest.mark.parametrize(("lag", "under_way", "given"), [(True, 1, 2), (True, 0, 3), (False, 1, 3)])
def test_windows_give_back_what_no_step_under_way_reads(
    lag: bool, under_way: int, given: int
) -> None:
    """A window of 4, in blocks of one token: of 6 tokens the last 3 are seen by the next one."""
    groups = [BlockGroup(1, 1, None, 100), BlockGroup(1, 1, 4, 100)]
    pool = PipelinedGroups(100, groups, states=1, lag=lag)
    sequence = Sequence(0, 0.0, 6, 10, 0)
    pool.start(sequence, 6)
    assert pool.free == 100 - 2 * 6 - 1
    sequence.under_way_tokens = under_way
    for _ in range(2):  # asked again where somebody had to be thrown out
        assert pool.grow(sequence, 6, 1) == 2
        assert pool.free == 100 - 2 * 6 - 1 + given
    pool.take(2)
    pool.throw_out(sequence, 7, 0)
    assert pool.free == 100


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("rule", [SPACED, HELD, FOLLOWED])
def test_groups_behind_stages_lose_no_block(rule: tuple[str, bool | None], caching: bool) -> None:
    version, asynchronous = rule
    made = small.scenario(
        stages=2, windows=(None, 4, 4, None, 4, 4), version=version, async_scheduling=asynchronous,
        block_size=2, num_gpu_blocks=96, max_num_seqs=8, max_num_batched_tokens=24,
        enable_prefix_caching=caching,
    )  # fmt: skip
    layout = made.pool.ledger.layout
    assert [group.window for group in layout.groups] == [None, 4, 4]
    count = 12
    prompts, outputs = np.arange(5, 5 + count), np.arange(30, 30 + count)
    result = simulate(made, small.requests([0.0] * count, list(prompts), list(outputs)))
    assert not np.isnan(result.requests["finish_s"]).any()
    assert result.requests["preemptions"].sum() > 0
    assert result.total("blocks_held") == 0


def test_routers_that_look_at_caches_are_refused() -> None:
    pool = staged(2, SPACED).pool
    with pytest.raises(ValueError, match="caches of pipelines is not modelled"):
        scenario_of_pools((replace(pool, replicas=2),), "dynamo")
