"""A scenario: everything that is needed to simulate once, resolved and checked."""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from model.spec import DecoderSpec
from sim.engine_config import Count, EngineConfig
from sim.kv_transfer import KvTransferConfig, check_transfers
from sim.pools import (
    DECODE,
    PREFILL,
    DataParallelSize,
    GpuWords,
    Pool,
    PoolConfig,
    Price,
    ReplicaCount,
    TensorParallelSize,
    build_pool,
    numbers_of,
)
from sim.routers.consequences import Routing, handing_over, routing
from sim.routers.registry import RouterName, RouterSettings, check_router, router_class
from sim.routers.router import Looks

AnyFloat = TypeVar("AnyFloat", float, npt.NDArray[np.float64])

Wait = Annotated[float, Field(gt=0, le=1e9)]

OF_A_POOL = (
    "gpu", "tensor_parallel_size", "data_parallel_size", "replicas", "gpu_usd_per_hour",
)  # fmt: skip
"""Keys of a cluster that are the short form of one pool."""


_UNNAMED = PoolConfig.model_construct(gpu="")
"""What a pool has that a cluster has no keys for."""


class ClusterConfig(BaseModel):
    """How many engines, on what, and who sends them requests."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pools: Annotated[list[PoolConfig], Field(min_length=1, max_length=100)] | None = None
    """Pools behind one router, each of other GPUs or with other settings. Every other key here but
    `router` is the short form of one pool, and stands in each pool instead."""
    gpu: GpuWords | None = Field(default=None, validate_default=True)
    """A GPU of the catalogue by name, a mapping with the same fields, or `calibrated`: the device
    that the calibration describes. Required without `pools`."""
    tensor_parallel_size: TensorParallelSize = 1
    """GPUs that share attention."""
    data_parallel_size: DataParallelSize = 1
    """Ranks of one engine, each of `tensor_parallel_size` GPUs, with a scheduler and a KV cache of
    its own. Those of a mixture of experts share its experts (engine.enable_expert_parallel) and
    compute every step together; those of a dense model are as good as replicas. A replica has as
    many GPUs as the two sizes make."""
    replicas: ReplicaCount = 1
    """Engine instances behind the router."""
    router: RouterName = "round_robin"
    """Chooses the replica of an arriving request."""
    router_settings: RouterSettings = {}
    """Of a router that has any, or of one of your own: keywords of its constructor."""
    prefill_router: RouterName | None = None
    """Chooses who computes a prompt, among the pools with role: prefill; `router` then chooses
    among the others, and first. Default: as `router`."""
    kv_transfer: KvTransferConfig | None = None
    """How prompts get from pools with role: prefill to those with role: decode. Default: vLLM's."""
    gpu_usd_per_hour: Price | None = None
    """Price of one GPU. Default: the catalogue's."""

    @field_validator("router_settings")
    @classmethod
    def _are_of_the_router(cls, own: dict[str, Any], given: ValidationInfo) -> dict[str, Any]:
        if (name := given.data.get("router")) is not None:
            check_router(name, own)
        return own

    @field_validator("pools")
    @classmethod
    def _have_names(cls, pools: list[PoolConfig] | None) -> list[PoolConfig] | None:
        if pools is None:
            return None
        named = [
            pool.model_copy(update={"name": pool.name or f"pool{number}"})
            for number, pool in enumerate(pools, start=1)
        ]
        names = [pool.name for pool in named]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} are named {name}, expected each once")
        check_roles([pool.role for pool in named])
        return named

    @field_validator("prefill_router", "kv_transfer")
    @classmethod
    def _is_of_roles(cls, value: object, given: ValidationInfo) -> object:
        if value is not None and not _has_roles(given.data.get("pools")):
            raise ValueError("expected pools with role: prefill and role: decode")
        if isinstance(value, str):
            check_router(value, {})
        return value

    @field_validator(*OF_A_POOL)
    @classmethod
    def _is_of_the_short_form(cls, value: object, given: ValidationInfo) -> object:
        if given.data.get("pools") is not None and value is not None:
            raise ValueError(
                f"expected it in each pool, e.g. cluster.pools[0].{given.field_name}, since there "
                "are cluster.pools"
            )
        if given.field_name == "gpu" and value is None and given.data.get("pools", 0) is None:
            raise PydanticCustomError("missing", "Field required")
        return value

    @model_serializer(mode="wrap")
    def _one_form(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The form that was given, alone."""
        unused = ("pools",) if self.pools is None else OF_A_POOL
        if not _has_roles(self.pools):
            unused = (*unused, "prefill_router", "kv_transfer")
        return {key: value for key, value in whole(self).items() if key not in unused}

    @property
    def all_pools(self) -> tuple[PoolConfig, ...]:
        """The pools; of the short form one without a name."""
        if self.pools is not None:
            return tuple(self.pools)
        fields = {name: getattr(self, name) for name in OF_A_POOL}
        return (_UNNAMED.model_copy(update=fields),)

    @property
    def has_roles(self) -> bool:
        """Whether some replicas compute prompts for others."""
        return _has_roles(self.pools)

    @property
    def engines(self) -> int:
        """Of all pools, whatever ranks they have."""
        return sum(pool.replicas for pool in self.all_pools)

    @property
    def all_replicas(self) -> int:
        """Of all pools, ranks counted one by one."""
        return sum(pool.all_ranks for pool in self.all_pools)

    @property
    def gpus(self) -> int:
        """Of all replicas of all pools."""
        return sum(pool.tensor_parallel_size * pool.all_ranks for pool in self.all_pools)


def check_roles(roles: SequenceOf[str]) -> None:
    """Refuse pools of which one waits for another that is not there. Raises ValueError."""
    for role, other in ((PREFILL, DECODE), (DECODE, PREFILL)):
        if role in roles and other not in roles:
            raise ValueError(f"role: {role} without a pool with role: {other}, expected both")


def _has_roles(pools: SequenceOf[PoolConfig] | None) -> bool:
    return any(pool.role == PREFILL for pool in pools or ())


class ClientConfig(BaseModel):
    """Who sends the requests, on behalf of the workload."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_concurrency: Count | None = None
    """Most requests in flight; those that arrive meanwhile wait at the client, in order, and their
    TTFT and E2E count from when they are sent. Default: no limit."""
    timeout_s: Wait | None = None
    """The client gives up a request that has no whole answer so long after it was sent; the engine
    drops it between two steps. Default: it waits for ever."""


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

    def reached_s(self, sent_s: AnyFloat, prompt_tokens: Any) -> AnyFloat:
        """Return when requests sent at ``sent_s`` that meet nobody reach the scheduler.

        Numbers or columns.
        """
        return sent_s + (self.request_s + self.token_s * prompt_tokens)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self != ApiTime()


API_TIMES = ("request_s", "token_s", "output_s", "loop_request_s", "loop_output_s")
"""Of a calibration, and keys of ``engine``, behind ``api_``."""

VLLMS_TRANSFER = KvTransferConfig()
"""As vLLM transfers when nobody says otherwise."""
NO_CLIENT = ClientConfig()
"""One that sends everything at once and waits for ever."""
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
        ranks = any(pool.data_parallel_size > 1 for pool in self.pools)
        known = open_arrivals and self.client == NO_CLIENT and not ranks
        if self.has_roles:
            return handing_over(self._routers, [len(self.answering), len(self.prefilling)])
        return routing(self.router, self.engines, known)

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


def routing_of(cluster: ClusterConfig, client: ClientConfig, open_arrivals: bool) -> Routing:
    """Return how requests come to the replicas of a cluster, without building it."""
    ranks = any(pool.data_parallel_size > 1 for pool in cluster.all_pools)
    known = open_arrivals and client == NO_CLIENT and not ranks
    if _has_roles(cluster.pools):
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
    """Build the scenario of a cluster of one pool: see ``sim.pools.build_pool`` for the errors."""
    (config,) = cluster.all_pools
    pool = build_pool(config, spec, gpu, engine, calibration)
    return scenario_of_pools((pool,), cluster.router, cluster.router_settings, seed, client)


def scenario_of_pools(
    pools: tuple[Pool, ...],
    router: str,
    router_settings: dict[str, Any] | None = None,
    seed: int = 0,
    client: ClientConfig = NO_CLIENT,
    prefill_router: str | None = None,
    kv_transfer: KvTransferConfig | None = None,
) -> Scenario:
    """Put pools behind one router, or two, where some compute prompts for others.

    Raises:
        ValueError: they differ in the time of their API, which lies before the router here; or
            caches cannot go from one to another, or the router cannot look at them.
    """
    kv_transfer = kv_transfer or VLLMS_TRANSFER
    check_roles([pool.role for pool in pools])
    check_transfers(pools, kv_transfer)
    if len({pool.role for pool in pools}) > 1 and any(p.data_parallel_size > 1 for p in pools):
        raise ValueError(
            "cluster.pools: data_parallel_size above 1 beside roles, expected 1: KV caches that go "
            "from and to data-parallel ranks are not modelled"
        )
    sees_caches = router_class(router).looks_at == Looks.CACHES
    if sees_caches and any(pool.data_parallel_size > 1 for pool in pools):
        raise ValueError(
            f"cluster.router = {router} in front of data_parallel_size above 1: a router that "
            "looks at the caches of ranks is not modelled, expected data_parallel_size 1, or a "
            "router that looks at loads"
        )
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


def _api_time(engine: EngineConfig, calibration: Calibration) -> ApiTime:
    times: dict[str, float] = {}
    for name in API_TIMES:
        given = getattr(engine, f"api_{name}")
        times[name] = getattr(calibration, f"api_{name}") if given is None else given
    times["loop_output_s"] /= engine.stream_interval
    times["loop_request_s"] = min(times["loop_request_s"], times["request_s"])
    return ApiTime(**times, servers=engine.api_server_count)


def _names() -> str:
    return ", ".join(f"api_{name}" for name in API_TIMES)


def _text(api: ApiTime) -> str:
    times = ", ".join(f"{getattr(api, name):g}" for name in API_TIMES)
    return f"{times} with {api.servers} api_server_count"
