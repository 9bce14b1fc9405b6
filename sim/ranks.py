"""Engines of several data-parallel ranks: who routes to them, and how they work together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from sim.engine.agenda import Agenda
from sim.engine.any_replica import AnyReplica
from sim.engine.lockstep import Lockstep
from sim.engine.loop import Loop
from sim.machines import joint_drafts
from sim.routers.prompts import NO_PROMPTS, Prompts
from sim.routers.ranks import Balancing, EngineView, RankRouter
from sim.routers.registry import make_router
from sim.routers.router import ReplicaFacts, Router, TokensView
from sim.settings.pools import Pool, numbers_of
from sim.settings.scenario import Scenario
from sim.sight import show_replicas
from workloads.streams import stream


def router_of(
    scenario: Scenario, facts: tuple[ReplicaFacts, ...], prompts: Prompts = NO_PROMPTS
) -> Router:
    """Return the router of a scenario; where engines have ranks, with what balances these.

    ``facts`` are those of every rank, ``prompts`` what it can know of requests.
    """
    rng = stream(scenario.seed, "router")
    if all(pool.data_parallel_size == 1 for pool in scenario.pools):
        router = make_router(scenario.router, facts, rng, scenario.router_settings)
        router.view.prompts = prompts
        return router
    sizes = [
        pool.data_parallel_size
        for pool in scenario.pools
        for _ in range(pool.replicas // pool.data_parallel_size)
    ]
    ranks = numbers_of(sizes)
    balancing = [_balancing(pool) for pool in scenario.pools for _ in range(pool.replicas)]
    engines = tuple(_facts_of_all(facts[numbers.start], len(numbers)) for numbers in ranks)
    router = make_router(scenario.router, engines, rng, scenario.router_settings)
    router.view.prompts = prompts
    return RankRouter(router, ranks, facts, [balancing[numbers.start] for numbers in ranks])


def show(router: Router, replicas: Mapping[int, AnyReplica]) -> None:
    """Let a router see the replicas that it looks at."""
    if isinstance(router, RankRouter):
        router.live = [replicas[number] for number in router.view.numbers]
        if isinstance(router.engines.view, TokensView):
            router.engines.view.live = [
                EngineView([replicas[number] for number in numbers]) for numbers in router.ranks
            ]
    else:
        show_replicas(router, replicas, router.view.numbers)


def lockstep(pool: Pool, loops: Sequence[Loop], agenda: Agenda) -> Lockstep:
    """Let the ranks of an engine compute every step together."""
    joint = pool.price.joint
    assert joint is not None
    ranks = pool.ranks
    return Lockstep(
        list(loops),
        joint,
        ranks.sync_steps,
        ranks.syncs_first,
        pool.price.idle_start_s,
        agenda,
        joint_drafts(pool),
    )


def _balancing(pool: Pool) -> Balancing:
    rows, at = vllm().data_parallel, version_key(pool.engine.version)
    return Balancing(by_cache=rows.balancing.at(at) == "cache", turns=rows.turns.at(at))


def _facts_of_all(facts: ReplicaFacts, ranks: int) -> ReplicaFacts:
    """An engine as its router knows it."""
    seats, tokens = facts.max_num_seqs * ranks, facts.kv_tokens * ranks
    return replace(facts, max_num_seqs=seats, kv_tokens=tokens)
