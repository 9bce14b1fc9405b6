"""KV caches of an engine by kind, a row each, and which of them a pool has: chosen here alone.

All are a ``sim.engine.caches.kv_cache.BlockPool``: what a scheduler tells its cache, and asks
it, is written there.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.memory.kept_states import exports_states
from hardware.memory.kv_layout import KvGroup
from model.dataclass import dataclass
from model.rows import Rows
from sim.engine.caches.beginnings import Beginnings
from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.hybrid_blocks import HybridBlocks
from sim.engine.caches.hybrid_cache import HybridCache
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.caches.state_cache import StateCache
from sim.engine.caches.state_groups import StateGroup, StateSettings
from sim.engine.drafts.drafted_cache import DraftedCache
from sim.engine.drafts.drafted_handed import DraftedHanded
from sim.engine.drafts.drafted_hybrid import DraftedHybrid
from sim.engine.loads import Connector
from sim.engine.stages.pipelined_cache import PipelinedCache
from sim.engine.stages.pipelined_groups import PipelinedGroups
from sim.engine.stages.pipelined_hybrid import PipelinedHybrid
from sim.settings.pools import SERVE, Pool
from sim.settings.prefix_caching import retention_tokens
from workloads.requests import Prefixes

if TYPE_CHECKING:
    from sim.engine.tiers.eviction import Eviction
    from sim.engine.tiers.offloading import Offloading
    from sim.engine.tiers.remote_store import RemoteStore
    from sim.engine.tiers.storing import Storing
    from sim.engine.tiers.tiered_hybrid import TieredHybrid

EVICTION: Final["Rows[type[Eviction]]"] = Rows(
    {
        "lru": "sim.engine.tiers.eviction:Lru",
        "arc": "sim.engine.tiers.eviction:Arc",
        "ranked_lru": "sim.engine.tiers.eviction:RankedLru",
    }
)
"""``engine.kv_connector_extra_config.eviction_policy``; ``ranked_lru`` is lru from 0.33 on."""

Made = TypeVar("Made", bound=HybridBlocks)
Place = tuple["RemoteStore", int]
"""A store that replicas share, and the number of one of them."""


def _no_connector(_: Pool, __: Place | None) -> None:
    return None


@dataclass(frozen=True, slots=True)
class CacheKind:
    """One kind of KV cache."""

    is_of: Callable[[Pool], bool]
    """Whether a pool has it, unless it has one of those before."""
    make: Callable[[Pool, Prefixes | None], BlockPool]
    """An empty one, for requests with these texts in common."""
    connector: Callable[[Pool, Place | None], Connector | None] = _no_connector
    """What keeps copies elsewhere, and brings them."""


def cache_kind(pool: Pool) -> str:
    """Return which kind of ``CACHES`` a pool has."""
    return next(name for name, kind in CACHES.items() if kind.is_of(pool))


def make_cache(pool: Pool, prefixes: Prefixes | None) -> BlockPool:
    """Return the empty KV cache of one replica."""
    return CACHES[cache_kind(pool)].make(pool, prefixes)


def make_connector(pool: Pool, place: Place | None = None) -> Connector | None:
    """Return what a replica has beside its cache, if that has tiers; ``place``: at its store."""
    return CACHES[cache_kind(pool)].connector(pool, place)


def make_store(pools: Iterable[Pool]) -> "RemoteStore | None":
    """Return the empty store that replicas of these pools share; None: they share none."""
    store = next((pool.store for pool in pools if pool.store is not None), None)
    if store is None:
        return None
    from sim.engine.tiers.remote_store import RemoteStore
    from sim.engine.tiers.store_links import StoreLinks

    return RemoteStore(EVICTION["lru"](store.chunks), StoreLinks(store.latency_s))


def block_groups(pool: Pool) -> tuple[list[BlockGroup], int]:
    """Return groups of layers, as far as the cache of a pool tells them apart, and the blocks of a
    request where others keep a state."""
    if _several(pool):
        return _kinds(pool)
    return [BlockGroup(1, pool.ledger.block_size, None, 0)], 0


def _several(pool: Pool) -> bool:
    groups = pool.ledger.layout.groups
    return len(groups) != 1 or groups[0].state


def _groups(pool: Pool, _: Prefixes | None) -> GroupedPool:
    groups, states = _kinds(pool)
    made = GroupedPool if pool.pipeline is None else PipelinedGroups
    return made(pool.num_gpu_blocks, groups, states, pool.ledger.waits_for_steps)


def _of_groups(made: type[Made], pool: Pool, prefixes: Prefixes | None) -> Made:
    groups, _ = _kinds(pool)
    settings = _hybrid_settings(pool, prefixes)
    return made(pool.num_gpu_blocks, groups, pool.ledger.waits_for_steps, settings)


def _hybrid(pool: Pool, prefixes: Prefixes | None) -> HybridCache:
    return _of_groups(HybridCache, pool, prefixes)


def _pipelined_hybrid(pool: Pool, prefixes: Prefixes | None) -> PipelinedHybrid:
    return _of_groups(PipelinedHybrid, pool, prefixes)


def _drafted_hybrid(pool: Pool, prefixes: Prefixes | None) -> DraftedHybrid:
    return _of_groups(DraftedHybrid if pool.role == SERVE else DraftedHanded, pool, prefixes)


def _hybrid_settings(pool: Pool, prefixes: Prefixes | None) -> HybridSettings:
    engine, at = pool.engine, version_key(pool.engine.version)
    return HybridSettings(
        spans_of=None if prefixes is None else block_spans(prefixes, 1),
        unhashed_first=engine.reuse_unhashed_first,
        windows_first=engine.reuse_unhashed_first
        or vllm().defaults.reuse_unhashed_first_of_windows.at(at),
        ahead=pool.async_scheduling and pool.pipeline is None,
        retention=retention_tokens(engine.prefix_cache_retention_interval),
        whole_hits=vllm().defaults.names_whole_hits.at(at),
        twice=vllm().defaults.drafts_by_group.at(at),
        at_end=vllm().defaults.drafts_drop_at_end.at(at),
    )


def _states(pool: Pool, prefixes: Prefixes | None) -> StateCache:
    groups, _ = _kinds(pool)
    count = sum(each.state for each in pool.ledger.layout.groups)
    engine, at = pool.engine, version_key(pool.engine.version)
    settings, defaults = _hybrid_settings(pool, prefixes), vllm().defaults
    states = StateGroup(
        count,
        pool.ledger.block_size,
        exports_states(pool.spec, pool.gpu, engine.version),
        settings.retention == 0,
        defaults.holds_states_before_holes.at(at),
    )
    threshold = engine.long_prefill_token_threshold or pool.token_budget
    return StateCache(
        pool.num_gpu_blocks,
        groups,
        states,
        pool.ledger.waits_for_steps,
        settings,
        StateSettings(
            min(threshold, pool.token_budget),
            defaults.ends_before_last.at(at),
            defaults.marks_states_again.at(at),
        ),
    )


def _kinds(pool: Pool) -> tuple[list[BlockGroup], int]:
    """Groups that are alike, and blocks of a request where others keep a state."""
    ledger = pool.ledger
    drops = _drops(pool)
    kinds = [replace(each, layers=0, drafts=drops(each)) for each in ledger.layout.groups]
    groups, states = [], 0
    for each, count in Counter(kinds).items():
        if each.state:
            states += count * each.states
            continue
        block_tokens, window = each.block_tokens, each.window
        kept = window if _caps_windows(pool) else None
        one = KvGroup(layers=1, block_tokens=block_tokens, window=kept, chunked=each.chunked)
        most = one.most_blocks(pool.max_model_len, ledger.in_flight_tokens)
        groups.append(BlockGroup(count, block_tokens, window, most, each.drafts, each.chunked))
    return groups, states


def _drops(pool: Pool) -> Callable[[KvGroup], bool]:
    """Of which groups the last block that is found is computed again."""
    if pool.drafts is None or not pool.drafts.drafting.drops_block:
        return lambda _: False
    if vllm().defaults.drafts_by_group.at(version_key(pool.engine.version)):
        return lambda group: group.drafts
    return lambda _: True


def _caps_windows(pool: Pool) -> bool:
    """Whether what a window gives back counts where all blocks of a prompt must be free at once."""
    at = version_key(pool.engine.version)
    return not pool.engine.scheduler_reserve_full_isl or vllm().defaults.reserve_caps_windows.at(at)


def _tiered_hybrid(pool: Pool, prefixes: Prefixes | None) -> "TieredHybrid":
    from sim.engine.tiers.tiered_hybrid import TieredHybrid

    return _of_groups(TieredHybrid, pool, prefixes)


def _offloading(pool: Pool, place: Place | None) -> "Offloading":
    from sim.engine.tiers.grouped_offloading import GroupedOffloading
    from sim.engine.tiers.offloaded import OffloadSettings
    from sim.engine.tiers.offloading import Offloading
    from sim.engine.tiers.tiered import BelowSettings, Tiered, placed

    host, rates = pool.host, pool.host_rates
    assert host is not None
    told, at = pool.engine.kv_connector_extra_config, version_key(pool.engine.version)
    settings = OffloadSettings(
        blocks_per_chunk=told.blocks_per_chunk,
        block_size=pool.ledger.block_size,
        block_s=pool.ledger.block_bytes / rates.bytes_per_s,
        latency_s=rates.latency_s,
        together=rates.together,
        store_threshold=told.store_threshold,
        max_tracker_size=told.max_tracker_size,
        offload_prompt_only=told.offload_prompt_only,
        offers_again=vllm().defaults.offers_chunks_again.at(at),
        ahead=pool.async_scheduling,
        drafts=pool.drafts is not None,
        drops_chunk=pool.drafts is not None and pool.drafts.drafting.drops_block,
    )
    policy: str = told.eviction_policy
    if policy == "lru" and vllm().defaults.lru_ranks_requests.at(at):
        policy = "ranked_lru"
    eviction, shared, store = EVICTION[policy](host.chunks), None, pool.store
    if place is not None and store is not None:
        behind = vllm().defaults.tiers_end_behind_offers.at(at)
        below = BelowSettings(store.link_s, store.store_s, store.writes_back, behind)
        shared = placed(below, *place)
    if pool.caches_several_groups:
        retention = retention_tokens(pool.engine.prefix_cache_retention_interval)
        return GroupedOffloading(settings, eviction, _kinds(pool)[0], retention, shared)
    return Offloading(settings, eviction) if shared is None else Tiered(settings, eviction, shared)


def _storing(pool: Pool, place: Place | None) -> "Storing | None":
    """None where nobody runs, and it is asked what would fit."""
    if place is None:
        return None
    from sim.engine.tiers.storing import Storing, StoringSettings

    own, told, (store, number) = pool.store, pool.engine.kv_connector_extra_config, place
    assert own is not None
    settings = StoringSettings(
        blocks_per_chunk=told.blocks_per_chunk,
        block_size=pool.ledger.block_size,
        link_s=own.link_s,
        store_s=own.store_s,
        min_load_tokens=own.min_load_tokens,
        offload_prompt_only=told.offload_prompt_only,
        ahead=pool.async_scheduling,
    )
    return Storing(settings, store, number)


def _prefix(pool: Pool, prefixes: Prefixes | None) -> PrefixCache:
    size = pool.ledger.block_size
    spans_of = None if prefixes is None else block_spans(prefixes, size)
    first = pool.engine.reuse_unhashed_first
    return PrefixCache(pool.num_gpu_blocks, size, spans_of, first, pool.async_scheduling)


def _pipelined(pool: Pool, prefixes: Prefixes | None) -> PipelinedCache:
    size = pool.ledger.block_size
    spans_of = None if prefixes is None else block_spans(prefixes, size)
    return PipelinedCache(pool.num_gpu_blocks, size, spans_of, pool.engine.reuse_unhashed_first)


def _drafted(pool: Pool, prefixes: Prefixes | None) -> DraftedCache:
    assert pool.drafts is not None
    size = pool.ledger.block_size
    spans_of = None if prefixes is None else block_spans(prefixes, size)
    first, drops = pool.engine.reuse_unhashed_first, pool.drafts.drafting.drops_block
    return DraftedCache(pool.num_gpu_blocks, size, spans_of, first, drops)


def _count(pool: Pool, _: Prefixes | None) -> BlockPool:
    return BlockPool(pool.num_gpu_blocks, pool.ledger.block_size)


CACHES: Final[dict[str, CacheKind]] = {
    "states": CacheKind(
        lambda pool: pool.caches_several_groups and pool.ledger.layout.has_states, _states
    ),
    "drafted_hybrid": CacheKind(
        lambda pool: pool.caches_several_groups and pool.drafts is not None, _drafted_hybrid
    ),
    "tiered_hybrid": CacheKind(
        lambda pool: pool.caches_several_groups and pool.host is not None,
        _tiered_hybrid,
        _offloading,
    ),
    "handed_hybrid": CacheKind(
        lambda pool: pool.caches_several_groups and pool.role != SERVE, _tiered_hybrid
    ),
    "pipelined_hybrid": CacheKind(
        lambda pool: pool.caches_several_groups and pool.pipeline is not None, _pipelined_hybrid
    ),
    "hybrid": CacheKind(lambda pool: pool.caches_several_groups, _hybrid),
    "groups": CacheKind(_several, _groups),
    "drafted_tiers": CacheKind(
        lambda pool: pool.host is not None and pool.drafts is not None, _drafted, _offloading
    ),
    "tiers": CacheKind(lambda pool: pool.host is not None, _prefix, _offloading),
    "store": CacheKind(lambda pool: pool.store is not None, _prefix, _storing),
    "drafts": CacheKind(
        lambda pool: pool.drafts is not None and pool.engine.enable_prefix_caching, _drafted
    ),
    "pipelined": CacheKind(
        lambda pool: pool.pipeline is not None and pool.engine.enable_prefix_caching, _pipelined
    ),
    "prefix": CacheKind(lambda pool: pool.engine.enable_prefix_caching, _prefix),
    "count": CacheKind(lambda _: True, _count),
}
"""``states``: ``hybrid``, where layers keep a state; ``drafted_hybrid``: ``hybrid``, where only
what is verified can be found; ``tiered_hybrid``: what the GPU has no more is in the host's memory;
``handed_hybrid``: other replicas read it, or fill it; ``pipelined_hybrid``: steps are under way;
``hybrid``: layers that keep different tokens, in blocks that outlive their requests; ``groups``:
the same where they do not; ``drafted_tiers``: ``tiers``, where only what is verified can be found;
``tiers``: what the GPU has no more is in the host's memory; ``store``: it is where all replicas
find it; ``drafts``: blocks of what was verified outlive their requests;
``pipelined``: and those of steps under way can be found; ``prefix``: blocks outlive their requests;
``count``: blocks are only counted."""


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    columns = prefixes.offsets.data, prefixes.streams.data, prefixes.ends.data
    return Beginnings(*columns, block_size).of
