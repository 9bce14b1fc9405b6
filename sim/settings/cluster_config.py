"""What a study says of its cluster, and of the client in front of it."""

from collections.abc import Sequence as SequenceOf
from functools import lru_cache
from typing import Annotated, Any

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

from model.same import Same
from sim.routers.registry import RouterName, RouterSettings, check_router
from sim.settings.engine_config import Count
from sim.settings.kv_store import KvStoreConfig
from sim.settings.kv_transfer import KvTransferConfig
from sim.settings.pools import (
    DECODE,
    PREFILL,
    DataParallelSize,
    GpuWords,
    PipelineParallelSize,
    PoolConfig,
    Price,
    ReplicaCount,
    TensorParallelSize,
)

Wait = Annotated[float, Field(gt=0, le=1e9)]

OF_A_POOL = (
    "gpu", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "replicas",
    "gpu_usd_per_hour",
)  # fmt: skip
"""Keys of a cluster that are the short form of one pool."""


_UNNAMED = PoolConfig.model_construct(gpu="")
"""What a pool has that a cluster has no keys for."""


class ClusterConfig(BaseModel):
    """How many engines, on what, and who sends them requests."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    pools: Annotated[list[PoolConfig], Field(min_length=1, max_length=100)] | None = None
    """Pools behind one router, each of other GPUs or with other settings. Every other key here but
    `router` is the short form of one pool, and stands in each pool instead."""
    gpu: GpuWords | None = Field(default=None, validate_default=True)
    """A GPU of the catalogue by name, a mapping with the same fields, or `calibrated`: the device
    that the calibration describes. Required without `pools`."""
    tensor_parallel_size: TensorParallelSize = 1
    """GPUs that share attention."""
    pipeline_parallel_size: PipelineParallelSize = 1
    """Stages of `tensor_parallel_size` GPUs, each of which holds a part of the layers. A step goes
    through all of them, and several are under way at a time. A replica has as many GPUs as the
    sizes make."""
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
    kv_store: KvStoreConfig | None = None
    """A store of KV that all replicas share, of all pools: prompts that one of them computed others
    read. See docs/kv_tiers.md. Default: none."""
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
            raise ValueError(
                "expected pools with role: prefill and role: decode. Where a sweep has plain pools "
                "as well, say it in the points that have roles: sweep: [{cluster.pools: ..., "
                f"cluster.{given.field_name}: ...}}, ...]"
            )
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
        return (_only_pool(Same(self)),)

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
        return sum(pool.gpus_of_one * pool.replicas for pool in self.all_pools)


@lru_cache(maxsize=1024)
def _only_pool(cluster: Same[ClusterConfig]) -> PoolConfig:
    """Each point of a sweep is asked for a dozen times."""
    fields = {name: getattr(cluster.value, name) for name in OF_A_POOL}
    return _UNNAMED.model_copy(update=fields)


def check_roles(roles: SequenceOf[str]) -> None:
    """Refuse pools of which one waits for another that is not there. Raises ValueError."""
    for role, other in ((PREFILL, DECODE), (DECODE, PREFILL)):
        if role in roles and other not in roles:
            raise ValueError(f"role: {role} without a pool with role: {other}, expected both")


def _has_roles(pools: SequenceOf[PoolConfig] | None) -> bool:
    return any(pool.role == PREFILL for pool in pools or ())


class ClientConfig(BaseModel):
    """Who sends the requests, on behalf of the workload."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    max_concurrency: Count | None = None
    """Most requests in flight; those that arrive meanwhile wait at the client, in order, and their
    TTFT and E2E count from when they are sent. Default: no limit."""
    timeout_s: Wait | None = None
    """The client gives up a request that has no whole answer so long after it was sent; the engine
    drops it between two steps. Default: it waits for ever."""


NO_CLIENT = ClientConfig.model_construct()
"""One that sends everything at once and waits for ever."""
