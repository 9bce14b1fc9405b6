"""``check_cache``: whether a kind of KV cache keeps the rules, under the schedulers that use it."""

from collections.abc import Callable, Mapping
from typing import Final

from hardware.memory.kv_layout import KvGroup
from sim.conformance.cases import TICK_S, Case, case, fitting, spans_of
from sim.conformance.drive import ABORTS, STUCK
from sim.conformance.error import in_case
from sim.conformance.handing import Handing
from sim.conformance.schedulers import ALIKE, AT_ONCE, BLIND, check_one
from sim.conformance.watch import BLOCKS, LIMITS, PREEMPTION
from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import DENSE
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.hybrid_cache import HybridCache
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.caches.state_cache import StateCache
from sim.engine.caches.state_groups import StateGroup, StateSettings
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.deferring_prefill import DeferringPrefill
from sim.engine.scheduler import Scheduler
from sim.engine.tiers.eviction import Arc, Lru, RankedLru
from sim.engine.tiers.grouped_offloading import GroupedOffloading
from sim.engine.tiers.offloaded import OffloadSettings
from sim.engine.tiers.offloading import Offloading
from sim.engine.tiers.remote_store import RemoteStore
from sim.engine.tiers.store_links import StoreLinks
from sim.engine.tiers.storing import Storing, StoringSettings
from sim.engine.tiers.tiered import AtStore, BelowSettings, Tiered, placed
from sim.engine.tiers.tiered_hybrid import TieredHybrid
from sim.settings.registry import ORDERS


def check_cache(kind: str, cases: int = 40) -> tuple[str, ...]:
    """Check a kind of ``sim.caches.CACHES`` in random cases: every order, tight blocks, planning
    ahead, requests that are given up.

    Returns:
        The rules that were checked.

    Raises:
        ConformanceError: it breaks one.
    """
    make = OF_CASES[kind]
    for order in ORDERS:
        for number in range(cases):
            told = case(number, order, cuts_prompts=True, aborts=number % 3 == 2)
            with in_case(told):
                check_one(fitting(told, make(told)), make)
    return BLOCKS, LIMITS, PREEMPTION, STUCK, ALIKE, AT_ONCE, BLIND, ABORTS


def _count(told: Case) -> Scheduler:
    return _handing(told, _scheduler(told, BlockPool(told.num_blocks, told.block_size)))


def _prefix(told: Case) -> Scheduler:
    return _handing(told, _scheduler(told, _prefix_cache(told)))


def _handing(told: Case, scheduler: Scheduler) -> Scheduler:
    """The same; in every second case prompts come from elsewhere, and go there."""
    if told.number % 2:
        scheduler.connect(Handing(1 + told.number % 4, told.settings.ahead))
    return scheduler


def _prefix_cache(told: Case) -> PrefixCache:
    settings = told.settings
    spans = spans_of(told, told.block_size)
    return PrefixCache(
        told.num_blocks, told.block_size, spans, told.number % 2 == 0, settings.ahead
    )


def _groups(told: Case) -> Scheduler:
    """Full attention beside windows, and where nothing is handed over a state."""
    size, ahead = told.block_size, told.settings.ahead
    windowed = KvGroup(layers=1, block_tokens=size, window=3 * size)
    most = windowed.most_blocks(1 << 20, told.settings.token_budget * (1 + ahead))
    groups = [BlockGroup(1, size, None, 1 << 40), BlockGroup(2, size, windowed.window, most)]
    pool = GroupedPool(3 * told.num_blocks, groups, 1 - told.number % 2, lag=ahead)
    return _handing(told, _scheduler(told, pool))


def _hybrid(told: Case) -> Scheduler:
    """Full attention beside windows, of larger blocks in a third of the cases."""
    size, ahead, number = told.block_size, told.settings.ahead, told.number
    whole = size * (1 + number % 3 // 2)
    windowed = KvGroup(layers=1, block_tokens=size, window=3 * size)
    most = windowed.most_blocks(1 << 20, told.settings.token_budget * (1 + ahead))
    groups = [BlockGroup(1, whole, None, 1 << 40), BlockGroup(2, size, windowed.window, most)]
    settings = HybridSettings(
        spans_of(told, 1), number % 2 == 0, number % 2 == 0, ahead,
        (DENSE, 0, 0, 4 * whole)[number % 4], number % 5 > 0,
    )  # fmt: skip
    return _scheduler(told, HybridCache(3 * told.num_blocks, groups, ahead, settings))


def _states(told: Case) -> Scheduler:
    """Full attention beside states, whose kernel leaves two of a step behind in half of the cases.

    Blocks are no larger than a chunk, or in a third of the cases are.
    """
    ahead, number = told.settings.ahead, told.number
    size = told.block_size * (1 + 4 * (number % 3 // 2))
    budget = told.settings.token_budget
    longest = min(told.settings.long_prefill_token_threshold or budget, budget)
    states = StateGroup(
        1 + number % 2, size, number % 2 == 0, number % 4 < 2, sticks=number % 5 < 2
    )
    settings = HybridSettings(
        spans_of(told, 1), True, True, ahead, 0 if states.at_ends else DENSE, True
    )
    cache = StateCache(
        3 * told.num_blocks, [BlockGroup(1, size, None, 1 << 40)], states, ahead, settings,
        StateSettings(longest, number % 5 > 0, number % 3 == 1),
    )  # fmt: skip
    return _scheduler(told, cache)


def _tiers(told: Case) -> Scheduler:
    """A host of the GPU's size or so, a few ticks away; in a third of the cases above a store."""
    number = told.number
    settings = OffloadSettings(
        blocks_per_chunk=1 + number % 2, block_size=told.block_size, block_s=TICK_S / 4,
        latency_s=number % 5 * TICK_S, together=0.75, store_threshold=2 * (number % 3 == 0),
        offload_prompt_only=number % 4 > 0, offers_again=number % 5 > 2, ahead=told.settings.ahead,
    )  # fmt: skip
    scheduler = _scheduler(told, _prefix_cache(told))
    eviction = (Lru, Arc, RankedLru)[number % 3](max(2, told.num_blocks * (1 + number % 3) // 2))
    shared = _shared(told, told.num_blocks)
    if shared is None:
        scheduler.connect(Offloading(settings, eviction))
    else:
        scheduler.connect(Tiered(settings, eviction, shared))
    return scheduler


def _shared(told: Case, chunks: int) -> AtStore | None:
    """In a third of the cases a store of so many chunks below the host."""
    number = told.number
    if number % 3 != 1:
        return None
    store = RemoteStore(Lru(chunks), StoreLinks((1 + number % 4) * TICK_S / 2))
    return placed(BelowSettings(TICK_S / 4, writes_back=number % 2 == 0), store, 0)


def _handed_hybrid(told: Case) -> Scheduler:
    """Full attention and windows, whose blocks come from elsewhere and go there."""
    scheduler, _, _ = _loading_hybrid(told, DeferringPrefill if told.settings.ahead else None)
    scheduler.connect(Handing(1 + told.number % 4, told.settings.ahead))
    return scheduler


def _loading_hybrid(
    told: Case, policy: type[ChunkedPrefill] | None = None
) -> tuple[Scheduler, list[BlockGroup], int]:
    """A scheduler with a cache of full attention and windows that are held before they are filled,
    its groups, and what the windows keep."""
    number, size, ahead = told.number, told.block_size, told.settings.ahead
    windowed = KvGroup(layers=1, block_tokens=size, window=3 * size)
    most = windowed.most_blocks(1 << 20, told.settings.token_budget * (1 + ahead))
    groups = [BlockGroup(1, size, None, 1 << 40), BlockGroup(2, size, windowed.window, most)]
    retention = (DENSE, 0, 4 * size)[number % 3]
    hybrid = HybridSettings(spans_of(told, 1), True, True, ahead, retention, True)
    pool = TieredHybrid(3 * told.num_blocks, groups, ahead, hybrid)
    return _scheduler(told, pool, policy), groups, retention


def _tiered_hybrid(told: Case) -> Scheduler:
    """A host as in ``_tiers`` behind full attention and windows, in chunks of one block; in a third
    of the cases above a store."""
    number, size, ahead = told.number, told.block_size, told.settings.ahead
    scheduler, groups, retention = _loading_hybrid(told)
    settings = OffloadSettings(
        blocks_per_chunk=1, block_size=size, block_s=TICK_S / 4, latency_s=number % 5 * TICK_S,
        together=0.75, store_threshold=2 * (number % 3 == 0), offload_prompt_only=number % 4 > 0,
        offers_again=True, ahead=ahead,
    )  # fmt: skip
    eviction = (Lru, Arc, RankedLru)[number % 3](max(6, 3 * told.num_blocks * (1 + number % 3)))
    shared = _shared(told, 3 * told.num_blocks)
    scheduler.connect(GroupedOffloading(settings, eviction, groups, retention, shared))
    return scheduler


def _store(told: Case) -> Scheduler:
    """A store of the GPU's size or so, a few ticks away, that nobody else uses."""
    number, blocks = told.number, 1 + told.number % 2
    settings = StoringSettings(
        blocks_per_chunk=blocks, block_size=told.block_size, link_s=blocks * TICK_S / 4,
        store_s=number % 3 * TICK_S / 4, offload_prompt_only=number % 4 > 0,
        ahead=told.settings.ahead,
    )  # fmt: skip
    eviction = Lru(max(2, told.num_blocks * (1 + number % 3) // 2))
    store = RemoteStore(eviction, StoreLinks((1 + number % 4) * TICK_S / 2))
    scheduler = _scheduler(told, _prefix_cache(told))
    scheduler.connect(Storing(settings, store, 0))
    return scheduler


def _scheduler(
    told: Case, pool: BlockPool, policy: type[ChunkedPrefill] | None = None
) -> Scheduler:
    return (policy or ChunkedPrefill)(pool, ORDERS[told.order](), told.settings)


OF_CASES: Final[Mapping[str, Callable[[Case], Scheduler]]] = {
    "count": _count,
    "prefix": _prefix,
    "groups": _groups,
    "handed_hybrid": _handed_hybrid,
    "hybrid": _hybrid,
    "states": _states,
    "tiers": _tiers,
    "tiered_hybrid": _tiered_hybrid,
    "store": _store,
}
"""A scheduler with a cache of each kind, for a case; steps of one with drafts are of another."""
