"""Pools: replicas of one group of GPUs with the same settings, as a study says and ready to run."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from hardware.memory import MemoryLedger, memory_ledger
from hardware.sampling import drawing_s
from hardware.step_cost import StepCost, step_cost
from model.errors import one_of
from model.mlps.load import ExpertLoad
from model.precision import Precision
from model.spec import DecoderSpec
from sim.engine_config import EngineConfig, ResolvedEngine, precision_of, resolved
from sim.registry import policy

ASSUMED_STEP_OVERHEAD_S = 1e-3
ASSUMED_SEQUENCE_OVERHEAD_S = 1e-5
"""Host time where nothing was measured: round figures, of the order of what a Python engine does
between two steps (scheduling, preparing inputs, sampling, streaming). An engine without any would
be too good to be true; ``engine.step_overhead_s: 0`` gives the bare roofline."""

GpuWords = str | dict[str, object]
TensorParallelSize = Annotated[int, Field(gt=0, le=4096)]
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
    """GPUs of one replica."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas that are all alike, with every default and every price."""

    name: str
    """Empty where the study has one pool without a name."""
    replicas: int
    tensor_parallel_size: int
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
    max_model_len: int
    token_budget: int
    watermark_blocks: int
    async_scheduling: bool
    role: str = SERVE

    @property
    def gpus(self) -> int:
        """Of all replicas."""
        return self.tensor_parallel_size * self.replicas

    @property
    def usd_per_hour(self) -> float:
        """Price of all its GPUs; NaN if nobody knows."""
        price = self.gpu_usd_per_hour
        return float("nan") if price is None else price * self.gpus

    @property
    def num_gpu_blocks(self) -> int:
        """KV blocks of a replica that requests can have."""
        return self.ledger.num_gpu_blocks - self.engine.null_block

    def is_like(self, other: "Pool") -> bool:
        """Tell whether a replica of one could as well be one of the other."""
        return self is other or self._kind() == other._kind()

    def _kind(self) -> tuple[object, ...]:
        return (
            self.tensor_parallel_size, self.gpu_usd_per_hour, self.spec, self.gpu, self.engine,
            self.calibration, self.ledger, self.role,
        )  # fmt: skip


class Counted(Protocol):
    """What has a number of replicas."""

    @property
    def replicas(self) -> int:
        """How many."""


def numbers_of(pools: SequenceOf[Counted]) -> tuple[range, ...]:
    """Return the numbers of each pool's replicas: from 0, one pool after the other."""
    ends = list(accumulate((pool.replicas for pool in pools), initial=0))
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
    settings, tp = resolved(engine, gpu, spec), config.tensor_parallel_size
    numbers = precision_of(settings, spec, gpu)
    ledger = ledger_of(spec, gpu, tp, settings)
    step_s, each_s = _host_s(settings, calibration, spec.vocab_size, gpu)
    price = step_cost(
        spec.with_expert_load(ExpertLoad(settings.expert_load_exponent)),
        gpu,
        tp=tp,
        precision=numbers,
        calibration=calibration,
        enable_expert_parallel=settings.enable_expert_parallel,
        fused=settings.attention == "fused",
        max_tokens=_longest_step(settings),
        max_seqs=settings.max_num_seqs,
        step_overhead_s=step_s,
        sequence_overhead_s=each_s,
    )
    if ledger.num_gpu_blocks - settings.null_block < 1:
        raise ValueError(
            f"num_gpu_blocks = {ledger.num_gpu_blocks} with null_block: true leaves no block for "
            "requests, expected at least 2"
        )
    return Pool(
        name=config.name,
        replicas=config.replicas,
        tensor_parallel_size=tp,
        gpu_usd_per_hour=config.gpu_usd_per_hour or gpu.usd_per_hour,
        spec=spec,
        gpu=gpu,
        engine=settings,
        precision=numbers,
        calibration=calibration,
        ledger=ledger,
        price=price,
        max_model_len=settings.max_model_len,
        token_budget=settings.max_num_batched_tokens,
        watermark_blocks=int(settings.watermark * ledger.num_gpu_blocks),
        async_scheduling=settings.async_scheduling,
        role=config.role,
    )


def ledger_of(spec: DecoderSpec, gpu: Gpu, tp: int, settings: ResolvedEngine) -> MemoryLedger:
    """Fill the memory ledger of one rank.

    Raises:
        hardware.memory.DoesNotFitError: the weights, one block or the longest sequence do not fit.
    """
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
    )


def _longest_step(settings: ResolvedEngine) -> int:
    """Tokens of it. Without chunking a long prompt is a step of its own, whatever the budget."""
    budget = settings.max_num_batched_tokens
    chunked = policy(settings.scheduler).cuts_prompts
    return budget if chunked else max(budget, settings.max_model_len)


def _host_s(
    engine: ResolvedEngine, calibration: Calibration, vocab_size: int, gpu: Gpu
) -> tuple[float, float]:
    """What a step and each of its sequences cost beside their kernels.

    As given, else the calibration's, else what is assumed on bare peaks; with measured kernels the
    drawing of tokens on top, which no kernel table has.
    """
    assumed = calibration == DATASHEET
    step_s = ASSUMED_STEP_OVERHEAD_S if assumed else calibration.step_overhead_s
    each_s = ASSUMED_SEQUENCE_OVERHEAD_S if assumed else calibration.sequence_overhead_s
    if engine.step_overhead_s is not None:
        step_s = engine.step_overhead_s
    if engine.sequence_overhead_s is not None:
        each_s = engine.sequence_overhead_s
    if calibration.kernels is None:
        return step_s, each_s
    once_s, of_each_s = drawing_s(engine.sampling, engine.version, vocab_size, gpu)
    return step_s + once_s, each_s + of_each_s
