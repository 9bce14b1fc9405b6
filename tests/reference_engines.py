"""Which engine a pool has."""

from sim.acceptance import Synthetic
from sim.settings.pools import Pool
from sim.settings.scenario import Scenario
from tests.reference_engine import Engine
from workloads.requests import Requests


def store_of(scenario: Scenario, engines: list[Engine]):
    """Return the store that all engines share; None: they share none."""
    shared = scenario.pools[0].store
    if shared is None:
        return None
    from tests.reference_shared_store import Store

    store = Store(shared.chunks, shared.latency_s)
    for engine in engines:
        engine.store = store
    return store


def engine_of(pool: Pool, scenario: Scenario, requests: Requests) -> Engine:
    """Return an empty replica of a pool."""
    if pool.store is not None and pool.host is not None:
        from tests.reference_store import HostStoreEngine

        return HostStoreEngine(pool)
    if pool.store is not None:
        from tests.reference_store import StoreEngine

        return StoreEngine(pool)
    if pool.host is not None and len(pool.ledger.layout.groups) > 1:
        from tests.reference_grouped_tiers import GroupedTierEngine

        return GroupedTierEngine(pool)
    if pool.host is not None and pool.drafts is not None:
        from tests.reference_drafted_tiers import DraftTierEngine

        return DraftTierEngine(pool, Synthetic(pool.drafts.speculative, requests, scenario.seed))
    if pool.host is not None:
        from tests.reference_tiers import TierEngine

        return TierEngine(pool)
    if len(pool.ledger.layout.groups) > 1 and pool.role != "serve":
        from tests.reference_grouped_loading import HandedEngine

        return HandedEngine(pool)
    if len(pool.ledger.layout.groups) > 1 and pool.drafts is not None:
        from tests.reference_drafted_groups import DraftGroupsEngine, DraftHybridEngine

        kind = DraftHybridEngine if pool.engine.enable_prefix_caching else DraftGroupsEngine
        return kind(pool, Synthetic(pool.drafts.speculative, requests, scenario.seed))
    if len(pool.ledger.layout.groups) > 1 and pool.engine.enable_prefix_caching:
        from tests.reference_hybrid import HybridEngine
        from tests.reference_states import StateEngine

        return (StateEngine if pool.ledger.layout.has_states else HybridEngine)(pool)
    if pool.pipeline is not None:
        from tests.reference_pipeline import PipelineEngine

        return PipelineEngine(pool)
    if pool.drafts is None:
        return Engine(pool)
    from tests.draft_reference import DraftEngine

    speculative = pool.drafts.speculative
    return DraftEngine(pool, Synthetic(speculative, requests, scenario.seed))
