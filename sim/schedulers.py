"""A scheduler by composition: a queue, a cache and a policy, as a scenario names them."""

from collections import Counter
from collections.abc import Callable

from hardware.kv_groups import KvGroup
from sim.engine.block_groups import BlockGroup
from sim.engine.grouped_cache import GroupedPool
from sim.engine.kv_cache import BlockPool
from sim.engine.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.settings import Settings
from sim.plugins import built
from sim.registry import order, policy
from sim.scenario import Scenario
from workloads.requests import Prefixes


def make_scheduler(scenario: Scenario, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine = scenario.engine
    queue = built(order(engine.order), engine.order_settings)
    settings = Settings(
        max_num_seqs=engine.max_num_seqs,
        token_budget=scenario.token_budget,
        watermark_blocks=scenario.watermark_blocks,
        windows=scenario.spec.windows,
        ahead=scenario.async_scheduling,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        batch_timeout_s=engine.batch_timeout_s,
    )
    pool = make_pool(scenario, prefixes)
    return built(policy(engine.scheduler), engine.scheduler_settings, pool, queue, settings)


def make_pool(scenario: Scenario, prefixes: Prefixes | None) -> BlockPool:
    """Return the empty KV cache of one replica."""
    engine, ledger = scenario.engine, scenario.ledger
    num_blocks, size = ledger.num_gpu_blocks - engine.null_block, ledger.block_size
    groups = ledger.layout.groups
    if len(groups) != 1 or groups[0].state:
        return grouped_pool(scenario, num_blocks)
    if not engine.enable_prefix_caching:
        return BlockPool(num_blocks, size)
    spans_of = None if prefixes is None else block_spans(prefixes, size)
    return PrefixCache(
        num_blocks, size, spans_of, engine.reuse_unhashed_first, scenario.async_scheduling
    )


def grouped_pool(scenario: Scenario, num_blocks: int) -> GroupedPool:
    """Return a pool of so many blocks for several groups of layers."""
    ledger = scenario.ledger
    kinds = [(each.block_tokens, each.window, each.state) for each in ledger.layout.groups]
    groups, states = [], 0
    for (block_tokens, window, state), count in Counter(kinds).items():
        if state:
            states += count
            continue
        one = KvGroup(layers=1, block_tokens=block_tokens, window=window)
        most = one.most_blocks(scenario.max_model_len, ledger.in_flight_tokens)
        groups.append(BlockGroup(count, block_tokens, window, most))
    return GroupedPool(num_blocks, groups, states, ledger.waits_for_steps)


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    offsets, streams, blocks = prefixes.offsets, prefixes.streams, prefixes.ends // block_size

    def spans_of(request: int) -> list[tuple[int, int]]:
        row = slice(*offsets[request : request + 2].tolist())
        return list(zip(streams[row].tolist(), blocks[row].tolist(), strict=True))

    return spans_of
