"""From the settings of an engine to its scheduler: queue, KV cache and policy put together."""

from collections.abc import Callable

from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.kv_cache import BlockPool
from sim.engine.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.waiting import waiting_queue
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.pools import Pool
from sim.routers.router import ReplicaFacts
from workloads.requests import Prefixes


def make_scheduler(pool: Pool, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica of a pool; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine, size = pool.engine, pool.engine.block_size
    blocks = BlockPool(pool.num_gpu_blocks, size)
    if engine.enable_prefix_caching:
        spans_of = None if prefixes is None else block_spans(prefixes, size)
        blocks = PrefixCache(
            pool.num_gpu_blocks, size, spans_of, engine.reuse_unhashed_first, pool.async_scheduling
        )
    queue, window = waiting_queue(engine.order), pool.spec.sliding_window
    seats, budget, watermark = engine.max_num_seqs, pool.token_budget, pool.watermark_blocks
    if engine.scheduler == "static":
        return Static(
            blocks, queue, seats, budget, watermark, window, batch_timeout_s=engine.batch_timeout_s
        )
    if engine.scheduler == "prefill_first":
        return PrefillFirst(blocks, queue, seats, budget, watermark, window)
    return ChunkedPrefill(
        blocks, queue, seats, budget, watermark, window,
        ahead=pool.async_scheduling,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
    )  # fmt: skip


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
    )


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    offsets, streams, blocks = prefixes.offsets, prefixes.streams, prefixes.ends // block_size

    def spans_of(request: int) -> list[tuple[int, int]]:
        row = slice(*offsets[request : request + 2].tolist())
        return list(zip(streams[row].tolist(), blocks[row].tolist(), strict=True))

    return spans_of
