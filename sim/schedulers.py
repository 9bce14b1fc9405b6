"""A scheduler by composition: a queue, a cache and a policy, as a scenario names them."""

from functools import lru_cache

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from model.same import Same
from sim.caches import Place, make_cache, make_connector
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.deferring_prefill import DeferringPrefill
from sim.engine.drafts.drafted_deferring import DraftedDeferring
from sim.engine.drafts.drafted_loading import DraftedLoading
from sim.engine.drafts.drafted_prefill import DraftedPrefill
from sim.engine.drafts.drafting import Acceptance
from sim.engine.scheduler import Scheduler
from sim.engine.settings import Settings
from sim.engine.stages.pipelined_prefill import PipelinedPrefill
from sim.plugins import built
from sim.routers.router import ReplicaFacts
from sim.settings.pools import DECODE, SERVE, Pool
from sim.settings.registry import order, policy
from workloads.requests import Prefixes

KEPT_FACTS = 16
"""Pools of which a process keeps what routers know: runs of a point, and many points, share one."""


def make_scheduler(
    pool: Pool,
    prefixes: Prefixes | None = None,
    acceptance: Acceptance | None = None,
    place: Place | None = None,
) -> Scheduler:
    """Return a fresh scheduler of one replica of a pool; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    ``acceptance`` is that of the requests, for a pool that makes drafts; None: none is right.
    ``place`` is that at a store which replicas share; None: it shares none.
    """
    engine, defaults = pool.engine, vllm().defaults
    at = version_key(engine.version)
    queue = built(order(engine.order), engine.order_settings)
    settings = Settings(
        max_num_seqs=engine.max_num_seqs,
        token_budget=pool.token_budget,
        watermark_blocks=pool.watermark_blocks,
        windows=pool.spec.windows,
        ahead=pool.async_scheduling and pool.pipeline is None,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        serves_behind_victim=defaults.serves_behind_victim.at(at),
        misses_behind_victim=defaults.misses_behind_victim.at(at),
        drafting=None if pool.drafts is None else pool.drafts.drafting,
        batch_timeout_s=engine.batch_timeout_s,
        spacing=0 if pool.pipeline is None else pool.pipeline.rules.spacing,
    )
    cache = make_cache(pool, prefixes)
    connector = make_connector(pool, place)
    if pool.drafts is not None:
        drafted = _drafted(pool)(cache, queue, settings, acceptance or Acceptance())
        if pool.role == DECODE and isinstance(drafted, DraftedLoading):
            drafted.loads_all()
        if connector is not None:
            drafted.connect(connector)
        return drafted
    if pool.pipeline is not None:
        return PipelinedPrefill(cache, queue, settings)
    kind = policy(engine.scheduler)
    if kind is ChunkedPrefill and _defers(pool):
        kind = DeferringPrefill
    made = built(kind, engine.scheduler_settings, cache, queue, settings)
    if connector is not None:
        made.connect(connector)
    return made


def _drafted(pool: Pool) -> type[DraftedPrefill]:
    """With drafts, by where KV comes from."""
    if pool.role != SERVE or _defers(pool):
        return DraftedDeferring
    return DraftedPrefill if pool.host is None else DraftedLoading


def _defers(pool: Pool) -> bool:
    """Whether blocks of a step under way are given to nobody, as KV comes from elsewhere."""
    at = version_key(pool.engine.version)
    loads = pool.role != SERVE or pool.host is not None or pool.store is not None
    return loads and pool.async_scheduling and vllm().defaults.defers_frees.at(at)


def facts_of(pool: Pool) -> ReplicaFacts:
    """Return what a router may know of each replica of a pool."""
    return _facts(Same(pool))


@lru_cache(maxsize=KEPT_FACTS)
def _facts(known: Same[Pool]) -> ReplicaFacts:
    pool = known.value
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
