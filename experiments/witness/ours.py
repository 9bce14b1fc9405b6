"""The same scenario, simulated."""

import math
from dataclasses import replace
from math import inf

import numpy as np

from experiments.witness.handover import Handover
from experiments.witness.hybrid import DENSE
from experiments.witness.our_drafts import MODEL, speculative_of, with_drafts, with_layout
from experiments.witness.scenario import (
    TICKS_PER_S,
    Host,
    Outcome,
    Price,
    Scenario,
    Store,
)
from hardware.gpu import load_gpu
from hardware.memory.host_link import HostLink, HostMemory
from hardware.prices.chunks import ChunkTerm, ModelledChunks
from hardware.prices.work import Linear
from hardware.steps.cost import StepCost
from model.alike import attention_of
from model.caches import Reach
from model.mixers.delta import DeltaRule
from model.mixers.mamba import Mamba2
from model.mixers.mixer import Mixer
from model.shape import DecoderSpec, grouped
from model.spec import load_spec
from sim.acceptance import Given
from sim.caches import block_spans
from sim.cluster import Cluster
from sim.engine.sequence import Sequence
from sim.engine.tiers.chunk_names import name_chunks
from sim.recording.result import Result
from sim.settings import scenario as ours
from sim.settings.cluster_config import NO_CLIENT, ClientConfig, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.kv_transfer import KvTransferConfig, link_of
from sim.settings.pools import DECODE, PREFILL, Pool
from sim.settings.shared_store import SharedStore
from sim.simulation import simulate, whole
from workloads.requests import Prefixes, Requests

GPU = "a100-80gb-sxm"
"""Of no account: a step costs what the scenario says, and blocks are given."""


def simulated(scenario: Scenario, version: str) -> Outcome:
    """Simulate it as a version of vLLM would serve it."""
    acceptance = None
    if scenario.drafts is not None:
        acceptance = Given([bytes(accepted) for accepted in scenario.drafts.accepted])
    made, requests = built(scenario, version), requests_of(scenario)
    if scenario.store is None:
        result = simulate(made, requests, acceptance=acceptance)
    else:
        result = with_filled_store(made, requests, scenario)
    columns = result.requests
    steps = result.steps()
    if scenario.handover is not None:
        return _of_two(result, made)
    hits = columns["cached_tokens"] + columns.get("brought_tokens", 0)
    started = ~np.isnan(columns["first_scheduled_s"])
    return Outcome(
        first=_ticks(columns["first_token_s"]),
        finish=_ticks(columns["finish_s"]),
        hits=[
            int(hit) if once else None
            for hit, once in zip(hits, started, strict=True)
        ],
        preemptions=[int(each) for each in columns["preemptions"]],
        steps=[
            list(map(int, step))
            for step in zip(
                steps["decodes"] + steps["padding"], steps["chunks"], steps["prefill_tokens"],
                strict=True,
            )
        ],
    )  # fmt: skip


def built(scenario: Scenario, version: str) -> ours.Scenario:
    """As a scenario of ours, with its prices."""
    settings = _engine_of(scenario, version)
    client = NO_CLIENT
    if scenario.timeout is not None:
        client = ClientConfig(timeout_s=scenario.timeout / TICKS_PER_S)
    made = ours.build_scenario(
        with_groups(scenario), load_gpu(GPU),
        ClusterConfig(gpu=GPU, pipeline_parallel_size=max(1, len(scenario.stages))),
        EngineConfig.model_validate(settings), client=client,
    )  # fmt: skip
    pool = replace(made.pool, price=priced(made.pool.price, scenario.price))
    if pool.pipeline is not None:
        pool = with_stages(pool, scenario)
    if pool.draft_cost is not None:
        pool = with_drafts(pool, scenario.price)
        if len(scenario.windows) + scenario.states > 1:
            pool = with_layout(pool, scenario)
    if scenario.handover is not None:
        return with_sink(made, pool, scenario, scenario.handover)
    if scenario.host is not None:
        pool = with_host(pool, scenario.host)
        if scenario.store is not None:
            pool = with_store(pool, scenario.store, scenario.host)
    return replace(made, pools=(pool,))


def _engine_of(scenario: Scenario, version: str) -> dict[str, object]:
    """Return the settings of the engine."""
    settings: dict[str, object] = {
        "max_num_seqs": scenario.seats,
        "max_num_batched_tokens": scenario.budget,
        "num_gpu_blocks": scenario.blocks + 1,
        "block_size": scenario.block_size,
        "order": scenario.order,
        "long_prefill_token_threshold": scenario.long_prefill_token_threshold,
        "scheduler_reserve_full_isl": scenario.scheduler_reserve_full_isl,
        "watermark": scenario.watermark,
        "async_scheduling": scenario.ahead,
        "enable_prefix_caching": scenario.caching,
        "max_model_len": 1024,
        "step_overhead_s": 0.0,
        "sequence_overhead_s": 0.0,
        "version": ".".join(version.split(".")[:2]),
    }
    if scenario.scheduler == "prefill_first":  # no null block, and the watermark of v0
        settings |= {"scheduler": "prefill_first", "version": "0.7", "watermark": 0.01}
        settings["num_gpu_blocks"] = scenario.blocks
        del settings["scheduler_reserve_full_isl"], settings["long_prefill_token_threshold"]
    if scenario.host is not None:
        host = scenario.host
        settings |= {
            "kv_offloading_size": 1,
            "kv_connector_extra_config": {
                name: getattr(host, name)
                for name in (
                    "blocks_per_chunk", "eviction_policy", "store_threshold", "offload_prompt_only",
                )
            },
        }  # fmt: skip
    if scenario.hybrid is not None and scenario.hybrid.retention is not None:
        told = scenario.hybrid.retention
        settings["prefix_cache_retention_interval"] = "dense" if told == DENSE else told
    if scenario.drafts is not None:
        settings["speculative"] = speculative_of(scenario.drafts)
    if scenario.handover is not None:  # tables of prices for the larger of two engines
        sink = scenario.handover
        settings["max_num_seqs"] = max(scenario.seats, sink.seats)
        settings["max_num_batched_tokens"] = max(scenario.budget, sink.budget)
    return settings


def with_sink(made: ours.Scenario, pool: Pool, scenario: Scenario, sink: Handover) -> ours.Scenario:
    """Two pools, of which the second one answers; transfers take so many ticks."""
    first = _side(pool, PREFILL, scenario.seats, scenario.budget, scenario.blocks)
    other = _side(pool, DECODE, sink.seats, sink.budget, sink.blocks)
    transfer = KvTransferConfig(latency_s=sink.ticks / TICKS_PER_S, per_descriptor_us=0)
    endless = transfer.model_copy(update={"bandwidth_gb_s": inf})
    return replace(made, pools=(first, other), kv_transfer=endless)


def _side(pool: Pool, role: str, seats: int, budget: int, blocks: int) -> Pool:
    """One engine of two, with prices that hold for both."""
    steps = pool.ledger.in_flight_tokens // pool.engine.max_num_batched_tokens
    return replace(
        pool, name=role, role=role, token_budget=budget,
        engine=pool.engine.model_copy(
            update={"max_num_seqs": seats, "max_num_batched_tokens": budget}
        ),
        watermark_blocks=int(pool.engine.watermark * (blocks + 1)),
        ledger=replace(
            pool.ledger, num_gpu_blocks=blocks + 1, in_flight_tokens=steps * budget
        ),
    )  # fmt: skip


def _of_two(result: Result, made: ours.Scenario) -> Outcome:
    """Of an engine that prefills, and one that decodes."""
    columns, steps = result.requests, result.steps()
    rows = [
        list(map(int, step))
        for step in zip(
            steps["decodes"] + steps["padding"], steps["chunks"], steps["prefill_tokens"],
            strict=True,
        )
    ]  # fmt: skip
    first = int((steps["replica"] == 0).sum())
    link = link_of(made.kv_transfer, *made.pools)
    states = sum(group.state for group in made.pools[1].ledger.layout.groups)  # one block of each
    moved = columns["transferred_bytes"]
    blocks = np.where(moved > 0, (moved - link.bytes_of(0)) // link.block_bytes + states, 0)
    return Outcome(
        first=_ticks(columns["first_token_s"]),
        finish=_ticks(columns["finish_s"]),
        hits=[
            None if math.isnan(begun) else int(hit)
            for hit, begun in zip(
                columns["cached_tokens"], columns["first_scheduled_s"], strict=True
            )
        ],
        preemptions=[int(each) for each in columns["preemptions"]],
        steps=[*rows[:first], [-1, -1, -1], *rows[first:]],
        brought=[int(each) for each in blocks],
    )


def with_stages(pool: Pool, scenario: Scenario) -> Pool:
    """The same pool with stages that take so many whole ticks, and links that take no time."""
    cost = pool.pipeline
    assert cost is not None
    costs = tuple(
        priced(stage, Price(*(share * ticks for ticks in scenario.price)))
        for stage, share in zip(cost.stages, scenario.stages, strict=True)
    )
    gpu = pool.gpu.model_copy(update={"link_latency_s": 0.0})
    return replace(pool, gpu=gpu, pipeline=replace(cost, stages=costs))


def with_host(pool: Pool, host: Host) -> Pool:
    """The same pool with a host's memory of so many chunks, behind a link in whole ticks."""
    memory = HostMemory(host.chunks, 1, 1)
    block_bytes = pool.ledger.block_bytes
    link = HostLink(
        bytes_per_s=block_bytes * TICKS_PER_S / host.block, latency_s=host.transfer / TICKS_PER_S
    )
    engine = pool.engine.model_copy(update={"host_link": link})
    return replace(pool, host=memory, engine=engine)


def with_store(pool: Pool, store: Store, host: Host) -> Pool:
    """The same pool with a store below its host, behind a link in whole ticks."""
    tick = 1 / TICKS_PER_S
    below = SharedStore(
        size_bytes=store.chunks, chunk_bytes=1,
        chunk_tokens=pool.ledger.block_size * host.blocks_per_chunk, link_s=store.block * tick,
        store_s=0.0, latency_s=store.transfer * tick, min_load_tokens=0,
    )  # fmt: skip
    return replace(pool, store=below)


def with_filled_store(made: ours.Scenario, requests: Requests, scenario: Scenario) -> Result:
    """Simulate with a store that has some prompts already."""
    assert scenario.store is not None
    assert scenario.host is not None
    cluster = Cluster(made, requests, [0], inf, None)
    assert cluster.store is not None
    assert requests.prefixes is not None
    spans_of = block_spans(requests.prefixes, scenario.block_size)
    blocks = scenario.host.blocks_per_chunk
    chunks = cluster.store.eviction.chunks
    for row in scenario.store.rows:
        _, prompt, output, priority, _ = scenario.requests[row]
        sequence, keys = Sequence(row, 0.0, prompt, output, priority), list[int]()
        sequence.spans = spans_of(row)
        most = min(sequence.spans[-1][1], prompt // scenario.block_size) if sequence.spans else 0
        name_chunks(sequence, keys, blocks, most // blocks)
        count = len(scenario.windows)
        for key in [name * count + group for group in range(count) for name in keys]:
            if key not in chunks:
                one = cluster.store.eviction.insert(key)
                one.readers, one.writer = 0, 0
                cluster.store.evictable += 1
    cluster.run()
    return whole(made, requests, [cluster.part()])


def with_groups(scenario: Scenario) -> DecoderSpec:
    """Return a model with a layer for every group of the scenario's KV cache."""
    spec = load_spec(MODEL)
    (kind,) = spec.layers
    attention, hybrid = attention_of(spec), scenario.hybrid
    times = [1] * len(scenario.windows) if hybrid is None else hybrid.times
    mixers: list[Mixer] = [  # blocks of as many bytes hold more tokens of fewer heads
        replace(
            attention, sliding_window=window,
            num_kv_heads=attention.num_kv_heads // blocks,
        )
        for window, blocks in zip(scenario.windows, times, strict=True)
    ]  # fmt: skip
    mixers += [_state(scenario, spec.hidden_size)] * scenario.states
    if scenario.chunked:
        chunk = next(window for window in scenario.windows if window is not None)
        spec = replace(spec, attention_chunk_tokens=chunk)
    if scenario.stages:  # the model of the witness
        mixers *= len(scenario.stages)
        spec = replace(spec, architecture="llama")
    return replace(spec, layers=grouped([(mixer, kind.mlp) for mixer in mixers], kind.norm))


def _state(scenario: Scenario, hidden_size: int) -> Mixer:
    """Of the kind whose kernel leaves one state of a step behind, or two."""
    if scenario.hybrid is not None and scenario.hybrid.exports:
        return Mamba2(
            hidden_size=hidden_size, num_heads=1, head_dim=8, groups=1, state_size=8,
            conv_kernel=4,
        )  # fmt: skip
    return DeltaRule(
        hidden_size=hidden_size, num_key_heads=1, num_value_heads=1, key_dim=8, value_dim=8,
        conv_kernel=4,
    )  # fmt: skip


def priced(cost: StepCost, price: Price) -> StepCost:
    """The same tables with prices in whole ticks."""
    tick = 1 / TICKS_PER_S
    tokens, sequences = len(cost.token_s), len(cost.sequence_s)
    return replace(
        cost,
        idle_start_s=0.0,
        overhead_s=price.step * tick,
        token_s=[price.token * tick * count for count in range(tokens)],
        sequence_s=[price.sequence * tick * count for count in range(sequences)],
        decode_pieces=[
            [((0, 0.0, price.position * tick if window is None else 0.0),)] * len(each)
            for window, each in zip(cost.windows, cost.decode_pieces, strict=True)
        ],
        beside=None,
        chunk_cost=ModelledChunks(
            terms=(ChunkTerm(Reach(None), Linear(per_pair=price.pair * tick), Linear()),),
            overhead_s=0.0, fused=True,
        ),
    )  # fmt: skip


def requests_of(scenario: Scenario) -> Requests:
    """As a workload of ours."""
    rows = scenario.requests
    places = [place for row in rows for place in row.streams]
    counts = [len(row.streams) for row in rows]
    prefixes = Prefixes(
        np.cumsum([0, *counts]),
        np.array([stream for stream, _ in places], dtype=np.int64),
        np.array([end for _, end in places], dtype=np.int64),
    )
    return Requests(
        arrival_s=np.array([row.arrival for row in rows], dtype=float) / TICKS_PER_S,
        prompt_tokens=np.array([row.prompt for row in rows], dtype=np.int64),
        output_tokens=np.array([row.output for row in rows], dtype=np.int64),
        priority=np.array([row.priority for row in rows], dtype=np.int64),
        prefixes=prefixes if scenario.caching else None,
    )


def _ticks(seconds: object) -> list[int | None]:
    values = np.asarray(seconds, dtype=float) * TICKS_PER_S
    return [None if np.isnan(value) else int(value) for value in values]
