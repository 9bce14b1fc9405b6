"""A scenario: everything that is needed to simulate once, resolved and checked."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from hardware.arithmetic import runnable
from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from hardware.memory import MemoryLedger, memory_ledger
from hardware.step_cost import StepCost, step_cost
from model.precision import Precision, check_kv_dtype, precision
from model.quantization.choice import chosen_weights
from model.quantization.methods import AUTO, check_setting
from model.spec import DecoderSpec

AnyFloat = TypeVar("AnyFloat", float, npt.NDArray[np.float64])
SchedulerName = Literal["static", "prefill_first", "chunked_prefill"]
OrderName = Literal["fcfs", "shortest_prompt", "priority"]
RouterName = Literal[
    "round_robin", "random", "least_requests", "least_tokens", "power_of_two_choices"
]

DEFAULT_CHUNK_BUDGET_TOKENS = 2048
"""vLLM's default ``max_num_batched_tokens`` of an online server (v1) on GPUs below 70 GiB and on
A100s, with 256 sequences; on larger newer ones it is 8192 tokens, with 1024 sequences. Here one
default holds everywhere, so that GPUs are compared alike."""

ASSUMED_STEP_OVERHEAD_S = 1e-3
ASSUMED_SEQUENCE_OVERHEAD_S = 1e-5
"""Host time where nothing was measured: round figures, of the order of what a Python engine does
between two steps (scheduling, preparing inputs, sampling, streaming). An engine without any would
be too good to be true; ``engine.step_overhead_s: 0`` gives the bare roofline."""


Count = Annotated[int, Field(gt=0, le=10**9)]
Wait = Annotated[float, Field(gt=0, le=1e9)]


def _auto(quantization: object) -> object:
    """Null is auto."""
    return AUTO if quantization is None else quantization


class EngineConfig(BaseModel):
    """Settings of the serving engine, under vLLM's names."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    scheduler: SchedulerName = "chunked_prefill"
    """static: whole batches; prefill_first: vLLM v0; chunked_prefill: vLLM v1."""
    order: OrderName = "fcfs"
    """Which waiting request is admitted next; `priority` takes the lowest number first."""
    async_scheduling: bool | None = None
    """chunked_prefill: plan a step while the one before is computed, as vLLM does by default since
    0.14. Arrivals are then seen, and seats and blocks are free, one step later. Default: the
    calibration's; false without one."""
    max_num_seqs: Count = 256
    """Most sequences in the running batch."""
    max_num_batched_tokens: Count | None = None
    """Token budget of one step. Default: 2048 with chunked_prefill, max_model_len otherwise."""
    long_prefill_token_threshold: int = Field(default=0, ge=0, le=10**9)
    """chunked_prefill: longest chunk of one prompt in one step; 0 is no limit but the budget."""
    long_prefill_limits_alone: bool = True
    """chunked_prefill: whether long_prefill_token_threshold limits a request that is alone, too; it
    does not since vLLM 0.31."""
    scheduler_reserve_full_isl: bool = False
    """chunked_prefill: a request starts only when blocks for all of its tokens are free, not just
    for its first chunk, as in vLLM since 0.19. They are not set aside: one behind it can still take
    them. The other schedulers take prompts whole."""
    max_model_len: Count | None = None
    """Longest prompt plus output, in tokens. Default: what the model was made for."""
    enable_prefix_caching: bool = False
    """chunked_prefill: keep the KV blocks of ended requests, for prompts that begin alike."""
    reuse_unhashed_first: bool = False
    """enable_prefix_caching: a free block that is not full, so that nobody can find it, is taken
    before all others, as in vLLM since 0.24; else the block that became free first."""
    block_size: int = Field(default=16, gt=0, le=65_536)
    """Tokens in one KV-cache block."""
    num_gpu_blocks: Count | None = None
    """KV-cache blocks of one replica, overriding the memory ledger."""
    null_block: bool = False
    """Whether one of the blocks is never given out, as in vLLM v1."""
    gpu_memory_utilization: float = Field(default=0.90, gt=0, le=1)
    """Share of the GPU's memory that the engine may fill."""
    watermark: float | None = Field(default=None, ge=0, lt=1)
    """Share of the blocks kept free when admitting; in chunked_prefill not for the first one of an
    empty batch. Default: 0 in chunked_prefill, else 0.01."""
    batch_timeout_s: float = Field(default=0.1, ge=0, le=1e6)
    """static: how long the request that is next in line (by `order`) waits at most for its batch to
    fill."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Of weights and activations; auto is bfloat16, or float16 where the checkpoint is or the GPU
    has no bfloat16, as in vLLM."""
    quantization: Annotated[str, AfterValidator(check_setting), BeforeValidator(_auto)] = "auto"
    """Of the weights: auto (or null) is what the checkpoint, or the model's published name, says;
    none insists on 16 bits. Otherwise one of vLLM's names (fp8, awq, gptq, bitsandbytes,
    compressed-tensors, modelopt, ...), which must not contradict the checkpoint, or int8, int4,
    fp4, w8a16 for numbers of that kind: see docs/checkpoints.md."""
    kv_cache_dtype: Annotated[str, AfterValidator(check_kv_dtype)] = "auto"
    """Of the KV cache: auto is fp8 where the checkpoint says so, dtype otherwise; or bfloat16,
    float16, fp8, fp8_e4m3, fp8_e5m2, fp8_inc."""
    attention: Literal["fused", "standard"] = "fused"
    """fused: FlashAttention's traffic; standard: scores and probabilities go through memory."""
    step_overhead_s: float | None = Field(default=None, ge=0, le=3600)
    """Host time of one step. Default: the calibration's; 1 ms without one."""
    sequence_overhead_s: float | None = Field(default=None, ge=0, le=3600)
    """Host time of one sequence in a step. Default: the calibration's; 10 us without one."""
    api_request_s: float | None = Field(default=None, ge=0, le=3600)
    """Time of one request in the API server, on its way in. Default: the calibration's."""
    api_token_s: float | None = Field(default=None, ge=0, le=3600)
    """The same for each token of its prompt: the tokeniser. Default: the calibration's."""
    api_output_s: float | None = Field(default=None, ge=0, le=3600)
    """Time of a token on its way out, after the end of its step: detokeniser and stream. It delays
    every token alike. Default: the calibration's."""

    @model_validator(mode="after")
    def _is_of_vllm_v1(self) -> Self:
        for name in ("enable_prefix_caching", "async_scheduling"):
            if getattr(self, name) and self.scheduler != "chunked_prefill":
                raise ValueError(
                    f"{name}: true with scheduler: {self.scheduler}, expected chunked_prefill: it "
                    "is modelled as in vLLM v1"
                )
        return self


class ClusterConfig(BaseModel):
    """How many engines, on what, and who sends them requests."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    gpu: str | dict[str, object]
    """A GPU of the catalogue by name, a mapping with the same fields, or `calibrated`: the device
    that the calibration describes."""
    tensor_parallel_size: int = Field(default=1, gt=0, le=4096)
    """GPUs of one replica."""
    replicas: int = Field(default=1, gt=0, le=100_000)
    """Engine instances behind the router."""
    router: RouterName = "round_robin"
    """Chooses the replica of an arriving request."""
    gpu_usd_per_hour: float | None = Field(default=None, gt=0, le=1e6)
    """Price of one GPU. Default: the catalogue's."""


class ClientConfig(BaseModel):
    """Who sends the requests, on behalf of the workload."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

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
    engine: EngineConfig
    """As given; the resolved values of its defaults are the fields below."""
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


NO_CLIENT = ClientConfig()
"""One that sends everything at once and waits for ever."""
NO_API = ApiTime()
"""None at all."""


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
        hardware.memory.DoesNotFitError: the weights or one block do not fit.
        ValueError: a budget below ``max_num_seqs``, or a tensor-parallel size that does not divide.
    """
    chunked = engine.scheduler == "chunked_prefill"
    max_model_len = _longest_request(engine, spec)
    token_budget = _token_budget(engine, max_model_len)
    # Without chunking a long prompt is a step of its own, however small the budget.
    longest_step = token_budget if chunked else max(token_budget, max_model_len)
    numbers = precision_of(engine, spec, gpu)
    ledger = memory_ledger(
        spec,
        gpu,
        precision=numbers,
        tp=cluster.tensor_parallel_size,
        block_size=engine.block_size,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        max_num_batched_tokens=longest_step,
        max_num_seqs=engine.max_num_seqs,
        num_gpu_blocks=engine.num_gpu_blocks,
    )
    price = step_cost(
        spec,
        gpu,
        tp=cluster.tensor_parallel_size,
        precision=numbers,
        calibration=calibration,
        fused=engine.attention == "fused",
        max_tokens=longest_step,
        max_seqs=engine.max_num_seqs,
        step_overhead_s=_host_s(engine.step_overhead_s, calibration, ASSUMED_STEP_OVERHEAD_S),
        sequence_overhead_s=_host_s(
            engine.sequence_overhead_s, calibration, ASSUMED_SEQUENCE_OVERHEAD_S
        ),
    )
    if ledger.num_gpu_blocks - engine.null_block < 1:
        raise ValueError(
            f"num_gpu_blocks = {ledger.num_gpu_blocks} with null_block: true leaves no block for "
            "requests, expected at least 2"
        )
    watermark = engine.watermark if engine.watermark is not None else (0.0 if chunked else 0.01)
    return Scenario(
        spec=spec,
        gpu=gpu,
        cluster=cluster,
        engine=engine,
        precision=numbers,
        calibration=calibration,
        ledger=ledger,
        price=price,
        max_model_len=max_model_len,
        token_budget=token_budget,
        watermark_blocks=int(watermark * ledger.num_gpu_blocks),
        async_scheduling=chunked and _plans_ahead(engine, calibration),
        client=client,
        api=_api_time(engine, calibration),
        seed=seed,
    )


def _plans_ahead(engine: EngineConfig, calibration: Calibration) -> bool:
    given = engine.async_scheduling
    return calibration.async_scheduling if given is None else given


def precision_of(engine: EngineConfig, spec: DecoderSpec, gpu: Gpu) -> Precision:
    """Return the bytes per number and the arithmetic of a model in an engine on a GPU.

    Raises:
        ValueError: the engine's settings contradict the checkpoint.
        UnsupportedPrecisionError: the GPU cannot run it.
    """
    checkpoint, dtype, kv = spec.checkpoint, engine.dtype, engine.kv_cache_dtype
    if dtype == "auto":
        half = checkpoint.dtype in ("float16", "half") or "bf16" not in gpu.peak_flops_per_s
        dtype = "float16" if half else "bfloat16"
    if kv == "auto" and checkpoint.kv_fp8:
        kv = "fp8"
    told = chosen_weights(engine.quantization, checkpoint.weights, spec.name, spec.num_experts)
    return runnable(precision(dtype, told, kv), gpu)


def _longest_request(engine: EngineConfig, spec: DecoderSpec) -> int:
    """Tokens of the longest request: as given, or what the model allows. Raises ValueError."""
    given = engine.max_model_len
    if given is not None and given > spec.max_model_len:
        raise ValueError(
            f"engine.max_model_len = {given} is longer than {spec.name} allows, expected at most "
            f"{spec.max_model_len}, which its config gives (positions and rope scaling)"
        )
    return given or spec.max_model_len


def _token_budget(engine: EngineConfig, max_model_len: int) -> int:
    """Tokens of one step: as given, or the scheduler's default. Raises ValueError."""
    chunked = engine.scheduler == "chunked_prefill"
    default = DEFAULT_CHUNK_BUDGET_TOKENS if chunked else max_model_len
    budget = engine.max_num_batched_tokens or max(default, engine.max_num_seqs)
    if budget < engine.max_num_seqs:
        raise ValueError(
            f"engine.max_num_batched_tokens = {budget} is smaller than engine.max_num_seqs = "
            f"{engine.max_num_seqs}, expected at least one token per sequence: "
            f"set engine.max_num_batched_tokens: {engine.max_num_seqs} or more"
        )
    return budget


def _api_time(engine: EngineConfig, calibration: Calibration) -> ApiTime:
    given = (engine.api_request_s, engine.api_token_s, engine.api_output_s)
    own = (calibration.api_request_s, calibration.api_token_s, calibration.api_output_s)
    return ApiTime(*(b if a is None else a for a, b in zip(given, own, strict=True)))


def _host_s(given_s: float | None, calibration: Calibration, assumed_s: float) -> float | None:
    """What was given, else None for the calibration's, else what is assumed on bare peaks."""
    if given_s is not None or calibration != DATASHEET:
        return given_s
    return assumed_s
