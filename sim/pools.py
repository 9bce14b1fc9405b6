"""Pools: replicas of one group of GPUs with the same settings, as a study says and ready to run."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
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

from hardware.calibration import DATASHEET, Calibration
from hardware.draft_cost import DraftCost
from hardware.exchange import check_exchange, exchange_bytes
from hardware.gpu import Gpu
from hardware.group import Group
from hardware.host_link import HostMemory, HostRates, host_memory, host_rates
from hardware.memory import MemoryLedger, memory_ledger
from hardware.moe_backends import with_moe_backend
from hardware.pipeline_cost import PipelineCost, staged
from hardware.ranks import Ranks
from hardware.sampling import drawing_s
from hardware.step_cost import StepCost, step_cost
from model.errors import one_of
from model.mlps.load import ExpertLoad
from model.precision import Precision
from model.spec import DecoderSpec
from sim.drafts import DraftPlan, draft_cost, draft_plan
from sim.engine_config import EngineConfig, ResolvedEngine, precision_of, resolved
from sim.host_time import host_s
from sim.parallelism import checked_ranks, checked_stages
from sim.prefix_caching import check_retention
from sim.registry import policy

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    engine: PoolEngine = PoolEngine()
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
        text = self.ledger.as_text()
        return text if self.host is None else f"{text}\n{self.host.as_text()}"

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
            self.ledger, self.role,
        )  # fmt: skip


def numbers_of(counts: Iterable[int]) -> tuple[range, ...]:
    """Return numbers of so many replicas each: from 0, one pool after the other."""
    ends = list(accumulate(counts, initial=0))
    return tuple(map(range, ends, ends[1:]))


def build_pool(
    config: PoolConfig,
    spec: DecoderSpec,
    gpu: Gpu,
    engine: EngineConfig,
    calibration: Calibration = DATASHEET,
) -> Pool:
    """Resolve defaults, fill the memory ledger and tabulate the step prices.

    ``engine`` are the settings of this pool, those of the study included.

    Raises:
        hardware.memory.DoesNotFitError: the weights, one block or the longest sequence do not fit.
        ValueError: a budget below ``max_num_seqs``, or a tensor-parallel size that does not divide.
    """
    tp, pp = config.tensor_parallel_size, config.pipeline_parallel_size
    settings = resolved(engine, gpu, spec, pp)
    numbers, dp = precision_of(settings, spec, gpu), config.data_parallel_size
    ranks = checked_ranks(spec, settings, dp)
    if ranks.count > 1:
        check_exchange(settings.all2all_backend, gpu, tp * dp)
    drafts = draft_plan(settings, spec, gpu, role=config.role, ranks=dp)
    rules = checked_stages(spec, gpu, settings, pp, role=config.role, ranks=dp)
    ledger = ledger_of(spec, gpu, tp, settings, ranks.count, pp)
    if settings.enable_prefix_caching:
        interval = settings.prefix_cache_retention_interval
        check_retention(interval, ledger.layout, settings.version)
    step_s, each_s = host_s(settings, calibration)
    loaded = spec.with_expert_load(ExpertLoad(settings.expert_load_exponent))
    calibration = with_moe_backend(
        calibration,
        settings.moe_backend,
        settings.version,
        Group(spec=loaded, gpu=gpu, tp=tp, precision=numbers),
        parts=1 if settings.enable_expert_parallel else tp,
    )
    costs = partial(
        step_cost,
        loaded,
        gpu,
        tp=tp,
        precision=numbers,
        calibration=calibration,
        enable_expert_parallel=settings.enable_expert_parallel,
        ranks=ranks,
        fused=settings.attention == "fused",
        max_tokens=_longest_step(settings),
        max_seqs=settings.max_num_seqs,
        max_cudagraph_capture_size=settings.max_cudagraph_capture_size,
        step_overhead_s=step_s,
        sequence_overhead_s=each_s,
        # No table of kernels has it; bare peaks are without.
        drawing_s=None
        if calibration.kernels is None
        else drawing_s(
            settings.sampling, settings.version, spec.vocab_size, gpu, settings.max_num_seqs
        ),
    )
    price, pipeline = staged(costs, loaded, rules)
    cost = None if drafts is None else draft_cost(
        drafts, settings, loaded, gpu, calibration, tp=tp, precision=numbers, step_s=step_s,
        sequence_s=each_s,
    )  # fmt: skip
    if ledger.num_gpu_blocks - settings.null_block < 1:
        raise ValueError(
            f"num_gpu_blocks = {ledger.num_gpu_blocks} with null_block: true leaves no block for "
            "requests, expected at least 2"
        )
    return Pool(
        name=config.name,
        replicas=config.replicas * dp,
        data_parallel_size=dp,
        ranks=ranks,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        gpu_usd_per_hour=config.gpu_usd_per_hour or gpu.usd_per_hour,
        spec=spec,
        gpu=gpu,
        engine=settings,
        precision=numbers,
        calibration=calibration,
        ledger=ledger,
        price=price,
        pipeline=pipeline,
        drafts=drafts,
        draft_cost=cost,
        max_model_len=settings.max_model_len,
        token_budget=settings.max_num_batched_tokens,
        watermark_blocks=int(settings.watermark * ledger.num_gpu_blocks),
        async_scheduling=settings.async_scheduling,
        role=config.role,
        host=_host_memory(settings, ledger, gpu, config),
    )


def _host_memory(
    settings: ResolvedEngine, ledger: MemoryLedger, gpu: Gpu, config: PoolConfig
) -> HostMemory | None:
    """The second tier of the KV cache, if there is one."""
    size_gib = settings.kv_offloading_size
    if size_gib is None:
        return None
    if config.role != SERVE:
        raise ValueError(
            f"engine.kv_offloading_size = {size_gib:g} in a pool of role: {config.role} is not "
            "modelled, expected none: its connector hands prompts over"
        )
    if config.data_parallel_size > 1:
        raise ValueError(
            f"engine.kv_offloading_size = {size_gib:g} with data_parallel_size = "
            f"{config.data_parallel_size} is not modelled, expected none or one rank: ranks go in "
            "lockstep, and nobody of them waits for another one's copies here"
        )
    if len(ledger.layout.groups) > 1:
        raise ValueError(
            f"engine.kv_offloading_size = {size_gib:g} is not modelled where layers keep different "
            "tokens, in several groups of the KV cache, expected none; with "
            "engine.disable_hybrid_kv_cache_manager: true windows have none"
        )
    host_rates(gpu, settings.host_link)
    return host_memory(
        size_gib,
        block_bytes=ledger.block_bytes,
        block_tokens=ledger.block_size,
        blocks_per_chunk=settings.kv_connector_extra_config.blocks_per_chunk,
        ranks=config.tensor_parallel_size,
    )


def ledger_of(
    spec: DecoderSpec, gpu: Gpu, tp: int, settings: ResolvedEngine, dp: int = 1, pp: int = 1
) -> MemoryLedger:
    """Fill the memory ledger of one GPU of ``dp`` ranks that share experts, of ``tp`` GPUs each.

    With ``pp`` stages that of the one with least room.

    Raises:
        hardware.memory.DoesNotFitError: the weights, one block or the longest sequence do not fit.
    """
    plan = draft_plan(settings, spec, gpu)
    return memory_ledger(
        spec,
        gpu,
        precision=precision_of(settings, spec, gpu),
        tp=tp,
        block_size=settings.block_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        max_num_batched_tokens=_longest_step(settings),
        max_num_seqs=settings.max_num_seqs,
        num_gpu_blocks=settings.num_gpu_blocks,
        max_model_len=settings.max_model_len,
        version=settings.version,
        async_scheduling=settings.async_scheduling,
        disable_hybrid_kv_cache_manager=settings.disable_hybrid_kv_cache_manager
        or not policy(settings.scheduler).cuts_prompts,
        enable_expert_parallel=settings.enable_expert_parallel,
        max_cudagraph_capture_size=settings.max_cudagraph_capture_size,
        drafts=None if plan is None else plan.memory,
        dp=dp,
        pp=pp,
        exchange_bytes=exchange_bytes(settings.all2all_backend, spec, tp * dp) if dp > 1 else 0,
    )


def _longest_step(settings: ResolvedEngine) -> int:
    """Tokens of it. Without chunking a long prompt is a step of its own, whatever the budget."""
    budget = settings.max_num_batched_tokens
    chunked = policy(settings.scheduler).cuts_prompts
    return budget if chunked else max(budget, settings.max_model_len)
