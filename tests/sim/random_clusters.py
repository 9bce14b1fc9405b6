"""Random scenarios and workloads, to be simulated twice."""

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from sim.routers.registry import ROUTERS, reads_caches
from sim.routers.scorers import SCORERS
from sim.settings.cluster_config import ClientConfig
from sim.settings.registry import ORDERS, POLICIES
from sim.settings.scenario import Scenario
from tests.sim import small
from workloads.generate import generate
from workloads.prefixes import block_prefixes, prompt_prefixes
from workloads.requests import After, Prefixes, Requests
from workloads.workload import Workload

SCHEDULERS = tuple(POLICIES)
GROUPS = (
    (None, 5), (30, 9, None), (7, 40), (None, small.STATE, small.STATE), (12, small.STATE),
    (None, small.SCAN), (None, small.CHUNK, small.CHUNK), (small.CHUNK, 9, None),
)  # fmt: skip
"""Windows of layers that do not keep equally much."""
CACHE_ROUTERS = ("cache_aware", "llm_d", "dynamo")
PLAIN_ROUTERS = tuple(name for name in ROUTERS if name not in CACHE_ROUTERS)
"""Whoever is not here has no naive twin either, and fails."""


@st.composite
def routers(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """Any router, with any settings: small numbers, so that they come into play."""
    some = st.sampled_from
    name = draw(some([*PLAIN_ROUTERS, *CACHE_ROUTERS * 3]))
    settings: dict[str, object] = {}
    if name == "bounded_consistent_hashing":
        settings = {"max_load_skew": draw(some([1.0, 1.5]))}
    elif name == "prefix_hash":
        settings = {
            "prefix_token_count": draw(some([1, 5, 30, 256])),
            "load_factor": draw(some([1.0, 1.25])),
        }
    elif name == "cache_aware":
        settings = {
            "cache_threshold": draw(some([0.0, 0.3, 0.9])),
            "balance_abs_threshold": draw(some([0, 2, 64])),
            "balance_rel_threshold": draw(some([1.0, 1.5])),
            "without_match": draw(some(["shortest_queue", "smallest_tree"])),
        }
    elif name == "dynamo":
        settings = {
            "overlap_score_credit": draw(some([0.0, 1.0, 1.5])),
            "prefill_load_scale": draw(some([0.5, 1.0])),
            "decode_active_request_weight": draw(some([0.0, 2.0])),
            "router_temperature": draw(some([0.0, 0.0, 0.5])),
            "use_kv_events": draw(st.booleans()),
            "router_ttl_secs": draw(some([0.004, 120.0])),
        }
    elif name == "llm_d":
        scorers = draw(st.lists(some([*SCORERS]), min_size=1, max_size=4, unique=True))
        settings = {
            "scorers": {scorer: draw(some([1.0, 2.0, 3.0])) for scorer in scorers},
            "picker": draw(some(["max_score", "max_score", "weighted_random", "random"])),
            "refresh_metrics_interval_s": draw(some([0.0, 0.001, 0.003, 0.05])),
            "prefix_cache": {
                "auto_tune": draw(st.booleans()),
                "block_size_tokens": draw(some([1, 4, 16])),
                "lru_capacity_per_server": draw(some([5, 40, 31_250])),
                "max_prefix_blocks_to_match": draw(some([3, 256])),
                "max_prefix_tokens_to_match": draw(some([0, 0, 33])),
                "characters_per_token": draw(some([4.0, 6.0])),
            },
            "precise_prefix_cache": {
                "speculative_indexing": draw(st.booleans()),
                "speculative_ttl_s": draw(some([0.002, 2.0])),
            },
            "active_request": {
                "idle_threshold": draw(some([0, 2])), "max_busy_score": draw(some([0.5, 1.0]))
            },
            "queue_threshold_tokens": draw(some([100, 4_194_304])),
            "load_aware_threshold": draw(some([2.0, 128.0])),
        }  # fmt: skip
    return name, settings


WINDOWS = st.sampled_from([(None,), (None,), (5,), *GROUPS])


@st.composite
def scenarios(draw: st.DrawFn, windows: tuple[int | None, ...] | None = None) -> Scenario:
    max_num_seqs = draw(st.integers(1, 12))
    scheduler = draw(st.sampled_from(SCHEDULERS))
    given, windows = windows, windows or draw(WINDOWS)
    states = small.STATE in windows or small.SCAN in windows
    one_group = not states and draw(st.integers(0, 3)) == 0
    if scheduler != "chunked_prefill" and not one_group and given is None:
        windows = (None,)
    elif not one_group and len(windows) > 1:
        scheduler = "chunked_prefill"
    alike = one_group or len(windows) == 1
    router, router_settings = draw(routers())
    block_size = draw(st.sampled_from([1, 4, 16]))
    version = draw(st.sampled_from(["0.33", *(("0.31", "0.29") if states else ("0.33", "0.22"))]))
    finds = not states or (None in windows and (small.SCAN not in windows or version == "0.33"))
    caching = scheduler == "chunked_prefill" and (alike or finds) and draw(st.booleans())
    hits = max(block_size, 16) if states else block_size
    retention = draw(st.sampled_from([None, "dense", 0, 3 * hits]))
    retention = retention if caching and not alike and version != "0.22" else None
    if caching and not alike and reads_caches(router, router_settings):
        router, router_settings = "least_requests", {}
    return small.scenario(
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        router=router,
        router_settings=router_settings,
        seed=draw(st.integers(0, 3)),
        windows=windows,
        version=version,
        disable_hybrid_kv_cache_manager=one_group,
        scheduler=scheduler,
        enable_prefix_caching=caching,
        prefix_cache_retention_interval=retention,
        async_scheduling=scheduler == "chunked_prefill" and draw(st.booleans()),
        idle_start_s=draw(st.sampled_from([0.0, 0.0, 2e-3])),
        order=draw(st.sampled_from([*ORDERS])),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 80)),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 7, 16])),
        block_size=block_size,
        num_gpu_blocks=draw(st.integers(8, 80)),
        watermark=draw(st.sampled_from([None, 0.0, 0.05])),
        null_block=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        long_prefill_limits_alone=draw(st.booleans()),
        reuse_unhashed_first=draw(st.booleans()),
        batch_timeout_s=draw(st.sampled_from([0.0, 0.004, 0.05])),
        max_model_len=draw(st.sampled_from([40, 200, None])),
        step_overhead_s=draw(st.sampled_from([0.0, 1e-3])),
        api_request_s=draw(st.sampled_from([0.0, 0.0, 2e-3])),
        api_token_s=draw(st.sampled_from([0.0, 0.0, 1e-4])),
        api_output_s=draw(st.sampled_from([0.0, 0.0, 3e-3])),
        client=ClientConfig(
            max_concurrency=draw(st.sampled_from([None, None, 1, 3, 8])),
            timeout_s=draw(st.sampled_from([None, None, 2e-3, 2e-2, 0.1])),
        ),
    )


def shared(draw: st.DrawFn, rng: np.random.Generator, lengths: list[int]) -> Prefixes | None:
    """Prompts that repeat, share system prompts, have blocks with identities, or are all new."""
    kind = draw(st.sampled_from(["none", "prompts", "system prompts", "blocks", "answers"]))
    rows, prompts = len(lengths), np.array(lengths, dtype=np.int64)
    of_prompt, of_prefix = rng.integers(0, 4, rows), rng.integers(0, 3, rows)
    if kind == "prompts":
        return prompt_prefixes(prompts, prompt_id=of_prompt)
    if kind == "system prompts":
        return prompt_prefixes(
            prompts, prompt_id=of_prompt, prefix_id=of_prefix,
            prefix_tokens=np.full(rows, draw(st.integers(1, 40))),
        )  # fmt: skip
    if kind == "blocks":
        size = draw(st.sampled_from([3, 16, 32]))
        counts = -(-prompts // size)
        ids = rng.integers(0, 2, int(counts.sum()))
        return block_prefixes(np.concatenate(([0], np.cumsum(counts))), ids, size, prompts)
    if kind == "answers":  # later prompts go on where an answer ended
        return prompt_prefixes(prompts + 7, prompt_id=of_prompt)
    return None


@st.composite
def workloads(draw: st.DrawFn) -> Requests:
    rows = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    prompts = rng.integers(1, draw(st.sampled_from([8, 60, 150])) + 1, rows).tolist()
    outputs = rng.integers(1, draw(st.sampled_from([1, 5, 60])) + 1, rows).tolist()
    priority = rng.integers(0, 3, rows).tolist()
    prefixes = shared(draw, rng, prompts)
    if draw(st.integers(0, 3)) == 0:
        think = draw(st.sampled_from([0.0, 0.0, 0.003]))
        return small.requests(
            [], prompts, outputs, priority,
            users=draw(st.integers(1, 10)),
            think_s=[think] * rows,
            prefixes=prefixes,
        )  # fmt: skip
    gaps = rng.exponential(draw(st.sampled_from([0.0, 1e-4, 2e-3, 2e-2])), rows)
    # Multiples of the step overhead make arrivals and step ends coincide.
    arrivals = np.cumsum(np.round(gaps, 3) if draw(st.booleans()) else gaps)
    return small.requests(arrivals.tolist(), prompts, outputs, priority, prefixes=prefixes)


@st.composite
def sessions(draw: st.DrawFn) -> Requests:
    """Conversations of users, or that come by themselves, some cut at a most of tokens."""
    whole = st.sampled_from

    def law(most: int) -> dict[str, object]:
        return {"distribution": "uniform", "min": 1, "max": draw(whole([1, most]))}

    arrivals = draw(
        whole(
            [
                {"process": "closed_loop", "users": 4, "think_s": 0.003},
                {"process": "closed_loop", "users": 9},
                {"process": "deterministic", "rate_per_s": 500.0},
                {"process": "poisson", "rate_per_s": 100.0},
                {"process": "all_at_once"},
            ]
        )
    )
    given = draw(whole([{}, {"max_context_tokens": 90}, {"max_context_tokens": 70}]))
    config = {
        "arrivals": arrivals,
        "lengths": {"prompt": law(40), "output": law(25)},
        "sessions": {
            "turns": law(6),
            "added": law(9),
            "think_s": draw(whole([0.0, 0.0, 0.002, 0.05])),
            "think_law": draw(whole(["constant", "exponential"])),
            "system_tokens": draw(whole([None, 5, 20])),
            **given,
            "at_max_context": draw(whole(["end", "truncate"])) if given else "end",
        },
        "num_requests": draw(st.integers(1, 40)),
        "priorities": draw(whole([None, {0: 1.0, 1: 1.0}])),
    }
    requests = generate(Workload.model_validate(config), draw(st.integers(0, 2**16)))
    return replace(requests, after=draw(whole([None, branching(requests, draw)])))


def branching(requests: Requests, draw: st.DrawFn) -> After:
    """Each further turn after one to three earlier ones of its session."""
    assert requests.turn is not None
    luck = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows: list[int] = []
    ends = []
    for row, turn in enumerate(requests.turn.tolist()):
        if turn:
            some = luck.choice(turn, size=min(turn, int(luck.integers(1, 4))), replace=False)
            rows += sorted((row - turn + some).tolist())
        ends.append(len(rows))
    return After(np.array([0, *ends], dtype=np.int64), np.array(rows, dtype=np.int64))


@st.composite
def clusters(draw: st.DrawFn) -> Scenario:
    """Two or three pools: other schedulers, memory, lengths and step times, one model and API."""
    pools = draw(st.lists(scenarios(windows=draw(WINDOWS)), min_size=2, max_size=3))
    seen = reads_caches(pools[0].router, pools[0].router_settings)
    assume(not (seen and any(each.pool.caches_several_groups for each in pools)))
    return small.pooled(*pools)
