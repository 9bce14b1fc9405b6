"""A scheduler by composition: a queue, a cache and a policy, as a scenario names them."""

from collections import Counter
from collections.abc import Callable

from hardware.kv_layout import KvGroup
from sim.engine.block_groups import BlockGroup
from sim.engine.grouped_cache import GroupedPool
from sim.engine.kv_cache import BlockPool
from sim.engine.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.settings import Settings
from sim.plugins import built
from sim.pools import Pool
from sim.registry import order, policy
from sim.routers.router import ReplicaFacts
from workloads.requests import Prefixes


def make_scheduler(pool: Pool, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica of a pool; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine = pool.engine
    queue = built(order(engine.order), engine.order_settings)
    settings = Settings(
        max_num_seqs=engine.max_num_seqs,
        token_budget=pool.token_budget,
        watermark_blocks=pool.watermark_blocks,
        windows=pool.spec.windows,
        ahead=pool.async_scheduling,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        batch_timeout_s=engine.batch_timeout_s,
    )
    blocks = make_blocks(pool, prefixes)
    return built(policy(engine.scheduler), engine.scheduler_settings, blocks, queue, settings)


def make_blocks(pool: Pool, prefixes: Prefixes | None) -> BlockPool:
    """Return the empty KV cache of one replica."""
    engine, ledger, count = pool.engine, pool.ledger, pool.num_gpu_blocks
    size, groups = ledger.block_size, ledger.layout.groups
    if len(groups) != 1 or groups[0].state:
        return grouped_blocks(pool)
    if not engine.enable_prefix_caching:
        return BlockPool(count, size)
    spans_of = None if prefixes is None else block_spans(prefixes, size)
    return PrefixCache(count, size, spans_of, engine.reuse_unhashed_first, pool.async_scheduling)


def facts_of(pool: Pool) -> ReplicaFacts:
    """Return what a router may know of each replica of a pool."""
    fitting = make_scheduler(pool).longest_request_tokens
    return ReplicaFacts(
        pool=pool.name,
        gpu=pool.gpu.name,
        tensor_parallel_size=pool.tensor_parallel_size,
        max_num_seqs=pool.engine.max_num_seqs,
        kv_tokens=pool.ledger.kv_tokens,
        longest_request_tokens=min(pool.max_model_len, fitting),
        block_size=pool.ledger.block_size,
    )


def grouped_blocks(pool: Pool) -> GroupedPool:
    """Return an empty cache for several groups of layers."""
    ledger = pool.ledger
    kinds = [(each.block_tokens, each.window, each.state) for each in ledger.layout.groups]
    groups, states = [], 0
    for (block_tokens, window, state), count in Counter(kinds).items():
        if state:
            states += count
            continue
        one = KvGroup(layers=1, block_tokens=block_tokens, window=window)
        most = one.most_blocks(pool.max_model_len, ledger.in_flight_tokens)
        groups.append(BlockGroup(count, block_tokens, window, most))
    return GroupedPool(pool.num_gpu_blocks, groups, states, ledger.waits_for_steps)


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    offsets, streams, blocks = prefixes.offsets, prefixes.streams, prefixes.ends // block_size

    def spans_of(request: int) -> list[tuple[int, int]]:
        row = slice(*offsets[request : request + 2].tolist())
        return list(zip(streams[row].tolist(), blocks[row].tolist(), strict=True))

    return spans_of
