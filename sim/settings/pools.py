"""Pools: replicas of one group of GPUs with the same settings, as a study says and ready to run."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.memory.host_link import HostMemory, HostRates, host_rates
from hardware.memory.kv_blocks import MemoryLedger
from hardware.steps.cost import StepCost
from hardware.steps.drafts import DraftCost
from hardware.steps.pipeline import PipelineCost
from hardware.steps.ranks import Ranks
from model.dataclass import dataclass
from model.errors import one_of
from model.precision import Precision
from model.spec import DecoderSpec
from sim.settings.drafts import DraftPlan
from sim.settings.engine_config import EngineConfig
from sim.settings.resolved_engine import ResolvedEngine
from sim.settings.shared_store import SharedStore

GpuWords = str | dict[str, object]
TensorParallelSize = Annotated[int, Field(gt=0, le=4096)]
PipelineParallelSize = Annotated[int, Field(gt=0, le=256)]
DataParallelSize = Annotated[int, Field(gt=0, le=1024)]
ReplicaCount = Annotated[int, Field(gt=0, le=100_000)]
Price = Annotated[float, Field(gt=0, le=1e6)]


SERVE, PREFILL, DECODE = ROLES = ("serve", "prefill", "decode")
NOT_MODELLED = ("encode",)
"""Roles of pools that take another part of each request."""


def check_role(role: str) -> str:
    """Return a role that is modelled. Raises ValueError."""
    if role in NOT_MODELLED:
        raise ValueError(f"is not modelled, expected one of {', '.join(ROLES)}")
    if role not in ROLES:
        raise ValueError(one_of(role, ROLES))
    return role


Role = Annotated[str, AfterValidator(check_role), Field(json_schema_extra={"enum": [*ROLES]})]
"""What a pool does with a request: ``sim.disaggregation`` sends it on."""


class PoolEngine(EngineConfig):
    """Settings of the engine that a pool has instead of the study's; any key of `engine`."""

    @model_serializer(mode="wrap")
    def _given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not given here is the study's, so it is not written down, either."""
        return {key: value for key, value in whole(self).items() if key in self.model_fields_set}


class PoolConfig(BaseModel):
    """One pool of replicas that are all alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$", max_length=40)
    """What tables and messages call it: letters, digits, dot, dash, underscore. Default: pool1,
    pool2 and so on."""
    gpu: GpuWords
    """A GPU of the catalogue by name, a mapping with the same fields, or `calibrated`: the device
    that the calibration describes."""
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
    """Engine instances of this pool."""
    gpu_usd_per_hour: Price | None = None
    """Price of one GPU. Default: the catalogue's."""
    role: Role = "serve"
    """serve: whole requests, prompt and answer; prefill: prompts; decode: answers to prompts that a
    prefill pool computed, and short prompts, see `cluster.kv_transfer`."""
    engine: PoolEngine = PoolEngine.model_construct()
    """Settings of its engines that differ from the study's `engine`. A key that is null here has
    the default of the version on this GPU."""
    calibration: str | None = None
    """What its prices rest on. Default: the study's; auto, and the name of an engine's, mean that
    of this pool's GPU."""

    @property
    def gpus_of_one(self) -> int:
        """GPUs of one replica: of all of its ranks."""
        sizes = self.tensor_parallel_size * self.pipeline_parallel_size
        return sizes * self.data_parallel_size

    @property
    def all_ranks(self) -> int:
        """Schedulers, each with a KV cache of its own: those of all replicas."""
        return self.data_parallel_size * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas that are all alike, with every default and every price."""

    name: str
    """Empty where the study has one pool without a name."""
    replicas: int
    """Engines, or the ranks of all engines: whatever has a scheduler and a KV cache of its own."""
    tensor_parallel_size: int
    pipeline_parallel_size: int = 1
    """Stages of a replica."""
    data_parallel_size: int
    """Replicas of one engine."""
    ranks: Ranks
    """How these work together."""
    gpu_usd_per_hour: float | None
    """Of one GPU; None: nobody knows."""
    spec: DecoderSpec
    gpu: Gpu
    engine: ResolvedEngine
    """With every default."""
    precision: Precision
    """How numbers are stored and multiplied, as the checkpoint, the engine and the GPU have it."""
    calibration: Calibration
    ledger: MemoryLedger
    price: StepCost
    """Of a step that is alone in its engine."""
    pipeline: PipelineCost | None = None
    """How steps are planned where there are several stages, and what these cost; None: one."""
    drafts: DraftPlan | None = None
    """How drafts are made; None: there are none."""
    draft_cost: DraftCost | None = None
    """What steps cost with them."""
    max_model_len: int
    token_budget: int
    watermark_blocks: int
    async_scheduling: bool
    role: str = SERVE
    host: HostMemory | None = None
    """What of its KV cache lies in the memory of its host."""
    store: SharedStore | None = None
    """What its replicas share with one another, and with those of other pools."""

    @property
    def gpus(self) -> int:
        """Of all replicas."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.replicas

    @property
    def usd_per_hour(self) -> float:
        """Price of all its GPUs; NaN if nobody knows."""
        price = self.gpu_usd_per_hour
        return float("nan") if price is None else price * self.gpus

    @property
    def num_gpu_blocks(self) -> int:
        """KV blocks of a replica that requests can have."""
        return self.ledger.num_gpu_blocks - self.engine.null_block

    @property
    def caches_several_groups(self) -> bool:
        """Whether prompts find what others had where layers keep different tokens."""
        return len(self.ledger.layout.groups) > 1 and self.engine.enable_prefix_caching

    def ledger_text(self) -> str:
        """Where the memory of one GPU goes, and what of its host's is KV."""
        lines = [self.ledger.as_text()]
        lines += [tier.as_text() for tier in (self.host, self.store) if tier is not None]
        return "\n".join(lines)

    @property
    def host_rates(self) -> HostRates:
        """Of the link to its host. Raises ValueError if nobody knows."""
        return host_rates(self.gpu, self.engine.host_link)

    def is_like(self, other: "Pool") -> bool:
        """Tell whether a replica of one could as well be one of the other."""
        return self is other or self._kind() == other._kind()

    def _kind(self) -> tuple[object, ...]:
        return (
            self.tensor_parallel_size, self.pipeline_parallel_size, self.data_parallel_size,
            self.ranks, self.gpu_usd_per_hour, self.spec, self.gpu, self.engine, self.calibration,
            self.ledger, self.role, self.store,
        )  # fmt: skip


def numbers_of(counts: Iterable[int]) -> tuple[range, ...]:
    """Return numbers of so many replicas each: from 0, one pool after the other."""
    ends = list(accumulate(counts, initial=0))
    return tuple(map(range, ends, ends[1:]))
