"""From the settings of an engine to its scheduler: queue, KV cache and policy put together."""

from collections.abc import Callable

from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.kv_cache import BlockPool
from sim.engine.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.waiting import waiting_queue
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.scenario import Scenario
from workloads.requests import Prefixes


def make_scheduler(scenario: Scenario, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine = scenario.engine
    num_blocks, size = scenario.ledger.num_gpu_blocks - engine.null_block, engine.block_size
    pool = BlockPool(num_blocks, size)
    if engine.enable_prefix_caching:
        spans_of = None if prefixes is None else block_spans(prefixes, size)
        pool = PrefixCache(
            num_blocks, size, spans_of, engine.reuse_unhashed_first, scenario.async_scheduling
        )
    queue, windows = waiting_queue(engine.order), scenario.spec.windows
    seats, budget = engine.max_num_seqs, scenario.token_budget
    watermark = scenario.watermark_blocks
    if engine.scheduler == "static":
        return Static(
            pool, queue, seats, budget, watermark, windows, batch_timeout_s=engine.batch_timeout_s
        )
    if engine.scheduler == "prefill_first":
        return PrefillFirst(pool, queue, seats, budget, watermark, windows)
    return ChunkedPrefill(
        pool, queue, seats, budget, watermark, windows,
        ahead=scenario.async_scheduling,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
    )  # fmt: skip


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    offsets, streams, blocks = prefixes.offsets, prefixes.streams, prefixes.ends // block_size

    def spans_of(request: int) -> list[tuple[int, int]]:
        row = slice(*offsets[request : request + 2].tolist())
        return list(zip(streams[row].tolist(), blocks[row].tolist(), strict=True))

    return spans_of
