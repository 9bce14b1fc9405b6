"""A scenario: everything that is needed to simulate once, resolved and checked."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from hardware.memory import MemoryLedger, memory_ledger
from hardware.sampling import drawing_s
from hardware.step_cost import StepCost, step_cost
from model.mlps.load import ExpertLoad
from model.precision import Precision
from model.spec import DecoderSpec
from sim.engine_config import Count, EngineConfig, ResolvedEngine, precision_of, resolved
from sim.named import OwnSettings
from sim.registry import policy
from sim.routers.consequences import Routing, routing
from sim.routers.registry import RouterName, check_router

AnyFloat = TypeVar("AnyFloat", float, npt.NDArray[np.float64])

ASSUMED_STEP_OVERHEAD_S = 1e-3
ASSUMED_SEQUENCE_OVERHEAD_S = 1e-5
"""Host time where nothing was measured: round figures, of the order of what a Python engine does
between two steps (scheduling, preparing inputs, sampling, streaming). An engine without any would
be too good to be true; ``engine.step_overhead_s: 0`` gives the bare roofline."""


Wait = Annotated[float, Field(gt=0, le=1e9)]


class ClusterConfig(BaseModel):
    """How many engines, on what, and who sends them requests."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gpu: str | dict[str, object]
    """A GPU of the catalogue by name, a mapping with the same fields, or `calibrated`: the device
    that the calibration describes."""
    tensor_parallel_size: int = Field(default=1, gt=0, le=4096)
    """GPUs of one replica."""
    replicas: int = Field(default=1, gt=0, le=100_000)
    """Engine instances behind the router."""
    router: RouterName = "round_robin"
    """Chooses the replica of an arriving request."""
    router_settings: OwnSettings = {}
    """Of a router of your own: keywords of its constructor."""
    gpu_usd_per_hour: float | None = Field(default=None, gt=0, le=1e6)
    """Price of one GPU. Default: the catalogue's."""

    @field_validator("router_settings")
    @classmethod
    def _are_of_the_router(cls, own: OwnSettings, given: ValidationInfo) -> OwnSettings:
        if (name := given.data.get("router")) is not None:
            check_router(name, own)
        return own


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

    def reached_s(self, sent_s: AnyFloat, prompt_tokens: Any) -> AnyFloat:
        """Return when requests sent at ``sent_s`` reach the scheduler; numbers or columns."""
        return sent_s + (self.request_s + self.token_s * prompt_tokens)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self != ApiTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One point of a study with one seed, ready to simulate."""

    spec: DecoderSpec
    gpu: Gpu
    cluster: ClusterConfig
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
    client: ClientConfig
    api: ApiTime
    seed: int = 0

    def routing(self, open_arrivals: bool) -> Routing:
        """Return how requests come to the replicas; ``open_arrivals``: not from users who wait."""
        return routing_of(self.cluster, self.client, open_arrivals)


NO_CLIENT = ClientConfig()
"""One that sends everything at once and waits for ever."""
NO_API = ApiTime()
"""None at all."""


def routing_of(cluster: ClusterConfig, client: ClientConfig, open_arrivals: bool) -> Routing:
    """Return how requests come to the replicas of a cluster, without building it."""
    known = open_arrivals and client == NO_CLIENT
    return routing(cluster.router, cluster.replicas, known)


def ledger_of(
    spec: DecoderSpec, gpu: Gpu, cluster: ClusterConfig, settings: ResolvedEngine
) -> MemoryLedger:
    """Fill the memory ledger of one rank.

    Raises:
        hardware.memory.DoesNotFitError: the weights, one block or the longest sequence do not fit.
    """
    return memory_ledger(
        spec,
        gpu,
        precision=precision_of(settings, spec, gpu),
        tp=cluster.tensor_parallel_size,
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


def build_scenario(
    spec: DecoderSpec,
    gpu: Gpu,
    cluster: ClusterConfig,
    engine: EngineConfig,
    calibration: Calibration = DATASHEET,
    seed: int = 0,
    client: ClientConfig = NO_CLIENT,
) -> Scenario:
    """Resolve defaults, fill the memory ledger and tabulate the step prices.

    Raises:
        hardware.memory.DoesNotFitError: the weights, one block or the longest sequence do not fit.
        ValueError: a budget below ``max_num_seqs``, or a tensor-parallel size that does not divide.
    """
    settings = resolved(engine, gpu, spec)
    numbers = precision_of(settings, spec, gpu)
    ledger = ledger_of(spec, gpu, cluster, settings)
    step_s, each_s = _host_s(settings, calibration, spec.vocab_size)
    price = step_cost(
        spec.with_expert_load(ExpertLoad(settings.expert_load_exponent)),
        gpu,
        tp=cluster.tensor_parallel_size,
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
    return Scenario(
        spec=spec,
        gpu=gpu,
        cluster=cluster,
        engine=settings,
        precision=numbers,
        calibration=calibration,
        ledger=ledger,
        price=price,
        max_model_len=settings.max_model_len,
        token_budget=settings.max_num_batched_tokens,
        watermark_blocks=int(settings.watermark * ledger.num_gpu_blocks),
        async_scheduling=settings.async_scheduling,
        client=client,
        api=_api_time(settings, calibration),
        seed=seed,
    )


def _api_time(engine: EngineConfig, calibration: Calibration) -> ApiTime:
    given = (engine.api_request_s, engine.api_token_s, engine.api_output_s)
    own = (calibration.api_request_s, calibration.api_token_s, calibration.api_output_s)
    return ApiTime(*(b if a is None else a for a, b in zip(given, own, strict=True)))


def _host_s(
    engine: ResolvedEngine, calibration: Calibration, vocab_size: int
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
    once_s, of_each_s = drawing_s(engine.sampling, engine.version, vocab_size)
    return step_s + once_s, each_s + of_each_s
