"""A scenario: everything that is needed to simulate once, resolved and checked."""

from collections.abc import Callable
from dataclasses import field, replace
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from model.dataclass import dataclass
from model.spec import DecoderSpec
from sim.routers.consequences import Routing, handing_over, routing
from sim.routers.registry import reads_caches, router_class
from sim.routers.router import Looks
from sim.settings.cluster_config import NO_CLIENT, ClientConfig, ClusterConfig, check_roles
from sim.settings.engine_config import EngineConfig
from sim.settings.kv_store import KvStoreConfig, with_store
from sim.settings.kv_transfer import KvTransferConfig, check_transfers
from sim.settings.pool_building import build_pool
from sim.settings.pools import PREFILL, Pool, numbers_of

AnyFloat = TypeVar("AnyFloat", float, npt.NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class ApiTime:
    """What a request and its tokens spend outside the engine's steps, seconds."""

    request_s: float = 0.0
    token_s: float = 0.0
    """For each token of the prompt."""
    output_s: float = 0.0
    loop_request_s: float = 0.0
    """The part of ``request_s`` in which a process reads nothing else; 0: it reads all at once."""
    loop_output_s: float = 0.0
    """For each stream of a step, one after the other; 0: all at once."""
    servers: int = 1
    """Processes of a replica."""
    shared: bool = False
    """Whether reading and sending share a loop (``sim.traffic.api_loops``) and its time."""

    def reached_s(self, sent_s: AnyFloat, prompt_tokens: Any) -> AnyFloat:
        """Return when requests sent at ``sent_s`` that meet nobody reach the scheduler.

        Numbers or columns.
        """
        reached_s: AnyFloat = sent_s + (self.request_s + self.token_s * prompt_tokens)
        return reached_s

    def __bool__(self) -> bool:
        return self != ApiTime()


API_TIMES = ("request_s", "token_s", "output_s", "loop_request_s", "loop_output_s")
"""Of a calibration, and keys of ``engine``, behind ``api_``."""

VLLMS_TRANSFER = KvTransferConfig.model_construct()
"""As vLLM transfers when nobody says otherwise."""
NO_API = ApiTime()
"""None at all."""


@dataclass(frozen=True, slots=True)
class Kind:
    """All replicas of a scenario that are alike, whatever pools they are in."""

    pool: Pool
    """One that has as many replicas as all of them."""
    numbers: npt.NDArray[np.int64]
    """Of these replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One point of a study with one seed, ready to simulate."""

    pools: tuple[Pool, ...]
    """Their replicas are numbered from 0, one pool after the other."""
    router: str
    client: ClientConfig
    api: ApiTime
    router_settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    prefill_router: str | None = None
    """None: as ``router``."""
    kv_transfer: KvTransferConfig = VLLMS_TRANSFER

    @property
    def spec(self) -> DecoderSpec:
        """The model that all pools serve."""
        return self.pools[0].spec

    @property
    def pool(self) -> Pool:
        """The only pool. Raises ValueError where there are several."""
        if len(self.pools) > 1:
            raise ValueError(f"cluster.pools: {len(self.pools)} of them, expected one")
        return self.pools[0]

    @property
    def replicas(self) -> int:
        """Of all pools, ranks counted one by one."""
        return sum(pool.replicas for pool in self.pools)

    @property
    def engines(self) -> int:
        """Of all pools: a replica, or as many as are the ranks of one engine."""
        return sum(pool.replicas // pool.data_parallel_size for pool in self.pools)

    @property
    def numbers(self) -> tuple[range, ...]:
        """Of each pool its replicas."""
        return numbers_of(pool.replicas for pool in self.pools)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The replicas by what tells them apart: pools that are alike count as one."""
        found: list[tuple[Pool, list[range]]] = []
        for pool, numbers in zip(self.pools, self.numbers, strict=True):
            like = next((ranges for other, ranges in found if pool.is_like(other)), None)
            if like is None:
                found.append((pool, [numbers]))
            else:
                like.append(numbers)
        return tuple(
            Kind(
                replace(pool, replicas=sum(map(len, ranges))),
                np.concatenate(ranges).astype(np.int64),
            )
            for pool, ranges in found
        )

    def alone(self, pool: Pool) -> Self:
        """Return the scenario of one of its pools, without the others."""
        return replace(self, pools=(pool,))

    def routing(self, open_arrivals: bool) -> Routing:
        """Return how requests come to the replicas; ``open_arrivals``: not from users who wait."""
        together = any(pool.data_parallel_size > 1 or pool.pipeline for pool in self.pools)
        known = open_arrivals and self.client == NO_CLIENT and not together
        known = known and not self.api.shared and not self.shares_store
        if self.has_roles:
            return handing_over(self._routers, [len(self.answering), len(self.prefilling)])
        return routing(self.router, self.engines, known)

    @property
    def shares_store(self) -> bool:
        """Whether what one replica keeps others find: then none of them lives by itself."""
        return any(pool.store is not None for pool in self.pools)

    @property
    def has_roles(self) -> bool:
        """Whether some replicas compute prompts for others."""
        return any(pool.role == PREFILL for pool in self.pools)

    @property
    def prefilling(self) -> list[int]:
        """Numbers of the replicas that compute prompts for others."""
        return self._with_role(lambda role: role == PREFILL)

    @property
    def answering(self) -> list[int]:
        """Numbers of the others."""
        return self._with_role(lambda role: role != PREFILL)

    def _with_role(self, wanted: Callable[[str], bool]) -> list[int]:
        pairs = zip(self.pools, self.numbers, strict=True)
        return [number for pool, numbers in pairs if wanted(pool.role) for number in numbers]

    @property
    def _routers(self) -> tuple[str, str]:
        return self.router, self.prefill_router or self.router


def routing_of(
    cluster: ClusterConfig, client: ClientConfig, open_arrivals: bool, shared: bool = False
) -> Routing:
    """Return how requests come to the replicas of a cluster, without building it.

    ``shared``: ``engine.api_shared_loop``.
    """
    together = any(
        pool.data_parallel_size * pool.pipeline_parallel_size > 1 for pool in cluster.all_pools
    )
    known = open_arrivals and client == NO_CLIENT and not together and not shared
    known = known and cluster.kv_store is None
    if cluster.has_roles:
        counts = [sum(pool.replicas for pool in cluster.all_pools if pool.role == PREFILL)]
        routers = cluster.router, cluster.prefill_router or cluster.router
        return handing_over(routers, [cluster.all_replicas - counts[0], *counts])
    return routing(cluster.router, cluster.engines, known)


def build_scenario(
    spec: DecoderSpec,
    gpu: Gpu,
    cluster: ClusterConfig,
    engine: EngineConfig,
    calibration: Calibration = DATASHEET,
    seed: int = 0,
    client: ClientConfig = NO_CLIENT,
) -> Scenario:
    """Build the scenario of a cluster of one pool; errors are those of ``build_pool``."""
    (config,) = cluster.all_pools
    pool = build_pool(config, spec, gpu, engine, calibration)
    return scenario_of_pools(
        (pool,), cluster.router, cluster.router_settings, seed, client, kv_store=cluster.kv_store
    )


def scenario_of_pools(
    pools: tuple[Pool, ...],
    router: str,
    router_settings: dict[str, Any] | None = None,
    seed: int = 0,
    client: ClientConfig = NO_CLIENT,
    prefill_router: str | None = None,
    kv_transfer: KvTransferConfig | None = None,
    kv_store: KvStoreConfig | None = None,
) -> Scenario:
    """Put pools behind one router, or two, where some compute prompts for others.

    Raises:
        ValueError: they differ in the time of their API, which lies before the router here; or
            caches cannot go from one to another, or into a store that they share, or the router
            cannot look at them.
    """
    pools = with_store(pools, kv_store)
    kv_transfer = kv_transfer or VLLMS_TRANSFER
    check_roles([pool.role for pool in pools])
    check_transfers(pools, kv_transfer)
    if len({pool.role for pool in pools}) > 1 and any(p.data_parallel_size > 1 for p in pools):
        raise ValueError(
            "cluster.pools: data_parallel_size above 1 beside roles, expected 1: KV caches that go "
            "from and to data-parallel ranks are not modelled"
        )
    _check_router(router, router_settings or {}, pools)
    times = [_api_time(pool.engine, pool.calibration) for pool in pools]
    for pool, api in zip(pools, times, strict=True):
        if api != times[0]:
            raise ValueError(
                f"pool {pool.name}: {_names()} = {_text(api)}, but "
                f"{_text(times[0])} in pool {pools[0].name}, expected the same in all pools, since "
                "a request passes the API before the router: set them in engine"
            )
    return Scenario(
        pools=pools,
        router=router,
        router_settings=router_settings or {},
        client=client,
        api=times[0],
        seed=seed,
        prefill_router=prefill_router,
        kv_transfer=kv_transfer,
    )


def _check_router(router: str, settings: dict[str, Any], pools: tuple[Pool, ...]) -> None:
    """Raise ValueError where the router looks at caches of which it cannot be told."""
    sees_caches = router_class(router).looks_at == Looks.CACHES
    if sees_caches and any(pool.data_parallel_size > 1 for pool in pools):
        raise ValueError(
            f"cluster.router = {router} in front of data_parallel_size above 1: a router that "
            "looks at the caches of ranks is not modelled, expected data_parallel_size 1, or a "
            "router that looks at loads"
        )
    reads = reads_caches(router, settings)
    if reads and any(pool.caches_several_groups for pool in pools):
        raise ValueError(
            f"cluster.router = {router} in front of a KV cache of several groups with "
            "engine.enable_prefix_caching: true: what KV events tell of them is not modelled, "
            "expected a router that goes by what it has sent (dynamo with use_kv_events: false, "
            "llm_d without precise_prefix_cache), engine.enable_prefix_caching: false, or where "
            "layers have windows engine.disable_hybrid_kv_cache_manager: true"
        )
    if sees_caches and any(pool.pipeline is not None for pool in pools):
        raise ValueError(
            f"cluster.router = {router} in front of pipeline_parallel_size above 1: a router that "
            "looks at the caches of pipelines is not modelled, expected pipeline_parallel_size 1, "
            "or a router that looks at loads"
        )


def _api_time(engine: EngineConfig, calibration: Calibration) -> ApiTime:
    times: dict[str, float] = {}
    for name in API_TIMES:
        given = getattr(engine, f"api_{name}")
        times[name] = getattr(calibration, f"api_{name}") if given is None else given
    times["loop_output_s"] /= engine.stream_interval
    times["loop_request_s"] = min(times["loop_request_s"], times["request_s"])
    for name in ("loop_request_s", "loop_output_s"):
        if engine.api_shared_loop and not times[name]:
            raise ValueError(
                f"engine.api_shared_loop: true with api_{name} = 0, expected seconds above 0: a "
                "loop that does one kind of work alone is shared by none"
            )
    return ApiTime(**times, servers=engine.api_server_count, shared=engine.api_shared_loop)


def _names() -> str:
    return ", ".join(f"api_{name}" for name in API_TIMES)


def _text(api: ApiTime) -> str:
    times = ", ".join(f"{getattr(api, name):g}" for name in API_TIMES)
    shared = " and api_shared_loop" if api.shared else ""
    return f"{times} with {api.servers} api_server_count{shared}"
