"""Settings of a serving engine: as a study gives them, and with every default of a version."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hardware.arithmetic import runnable
from hardware.engines.defaults import check_version, newest_version, takes_over_kv_fp8
from hardware.gpu import Gpu
from hardware.links.exchange import GATHERED, check_backend
from hardware.memory.host_link import HostLink
from model.precision import Precision, check_kv_dtype, precision
from model.quantization.choice import chosen_weights
from model.quantization.methods import AUTO, check_setting
from model.sampling import Drawing
from model.spec import DecoderSpec
from sim.named import OwnSettings, named
from sim.settings.offloading_config import OffloadingConfig
from sim.settings.prefix_caching import RetentionInterval
from sim.settings.registry import ORDERS, POLICIES, check_order, check_policy, order, policy
from sim.settings.speculative import SpeculativeConfig

SchedulerName = Annotated[str, *named(policy, POLICIES)]
OrderName = Annotated[str, *named(order, ORDERS)]

MoeBackend = Literal["auto", "deep_gemm", "triton", "flashinfer_cutlass", "flashinfer_trtllm"]
Count = Annotated[int, Field(gt=0, le=10**9)]

DECODES_ALONE = "FULL_DECODE_ONLY"
"""A ``cudagraph_mode``."""
WHOLE_PROMPTS_WATERMARK = 0.01
"""Share of the blocks that vLLM's first engine kept free; whole prompts are its way."""


def _needs_chunks(name: str, scheduler: str) -> str:
    return (
        f"{name}: true with scheduler: {scheduler}, expected chunked_prefill: it is modelled as in "
        "vLLM v1"
    )


def _auto(quantization: object) -> object:
    """Null is auto."""
    return AUTO if quantization is None else quantization


class EngineConfig(BaseModel):
    """Settings of the serving engine, under vLLM's names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    version: str | None = None
    """Version of vLLM whose defaults and whose memory are meant, such as '0.15' or '0.11.2', in
    quotes: they hold for every key here that nothing else is said of, as its server (`vllm serve`)
    has them on that GPU. Default: the calibration's, where that names one, else the newest that is
    modelled."""
    scheduler: SchedulerName | None = None
    """static: whole batches; prefill_first: vLLM v0; chunked_prefill: vLLM v1. Default: the
    version's; before 0.8 prompts are cut where max_model_len passes 32768."""
    scheduler_settings: OwnSettings = {}
    """Of a scheduler of your own (MODULE:CLASS, see docs/plugins.md): keywords of its
    constructor."""
    order: OrderName = "fcfs"
    """Which waiting request is admitted next; `priority` takes the lowest number first."""
    order_settings: OwnSettings = {}
    """Of an order of your own: keywords of its constructor."""
    async_scheduling: bool | None = None
    """chunked_prefill: plan a step while the one before is computed. Arrivals are then seen, and
    seats and blocks are free, one step later. Default: the version's, true since 0.14."""
    enforce_eager: bool = False
    """No CUDA graphs: the host launches every step kernel by kernel, and a step takes at least as
    long as that; memory is not charged for graphs."""
    max_cudagraph_capture_size: Count | None = None
    """Tokens of the largest step that a CUDA graph replays. Default: twice max_num_seqs, at most
    512."""
    cudagraph_mode: Literal["auto", "FULL_DECODE_ONLY"] = "auto"
    """Which of these steps a CUDA graph replays. auto: all, as vLLM has it where nobody sets it.
    FULL_DECODE_ONLY: those of decodes alone; a step with a prompt's chunk the host launches kernel
    by kernel, as with enforce_eager. Memory is charged as in auto."""
    fuse_allreduce_rms: bool | None = None
    """Whether the norm behind an all-reduce is computed in the same kernel, FlashInfer's, up to the
    version's size (vLLM's compilation_config, pass_config). Default: the version's, true since 0.17
    on H100, H200, B200 and their kin."""
    max_num_seqs: Count | None = None
    """Most sequences in the running batch. Default: the version's on that GPU, 256 or, on large
    ones, 1024."""
    max_num_batched_tokens: Count | None = None
    """Token budget of one step. Default: the version's on that GPU with chunked_prefill (2048, or
    8192 and more on large ones), max_model_len and at least 2048 otherwise."""
    long_prefill_token_threshold: int = Field(default=0, ge=0, le=10**9)
    """chunked_prefill: longest chunk of one prompt in one step; 0 is no limit but the budget."""
    long_prefill_limits_alone: bool | None = None
    """chunked_prefill: whether long_prefill_token_threshold limits a request that is alone, too.
    Default: the version's, false since 0.31."""
    scheduler_reserve_full_isl: bool | None = None
    """chunked_prefill: a request starts only when blocks for all of its tokens are free, not just
    for its first chunk. They are not set aside: one behind it can still take them. The other
    schedulers take prompts whole. Default: the version's, true since 0.19."""
    max_model_len: Count | None = None
    """Longest prompt plus output, in tokens. Default: what the model was made for, or the longest
    that the KV cache holds, which is told."""
    enable_prefix_caching: bool | None = None
    """chunked_prefill: keep the KV blocks of ended requests, for prompts that begin alike. Default:
    the version's, true since 0.8; where layers keep a state true since 0.26, but it is modelled
    since 0.27."""
    prefix_cache_retention_interval: RetentionInterval | None = None
    """enable_prefix_caching, where layers have windows or keep a state: tokens between places at
    which what the windows see, or the state, is kept. 0: at the end of a prompt, and where other
    prompts had more in common; dense (vLLM's null): everywhere. Default: the version's, 0 since
    0.29, dense before."""
    reuse_unhashed_first: bool | None = None
    """enable_prefix_caching: a free block that is not full, so that nobody can find it, is taken
    before all others; else the block that became free first. Default: the version's, true since
    0.24."""
    block_size: int = Field(default=16, gt=0, le=65_536)
    """Tokens in one KV-cache block. Servers take multiples of 16; others
    are simulated as well, and told."""
    speculative: SpeculativeConfig | None = None
    """chunked_prefill: drafts of several tokens, verified together (vLLM's speculative_config).
    Default: none."""
    kv_offloading_size: float | None = Field(default=None, gt=0, le=10**6)
    """enable_prefix_caching: GiB of the host's memory, of all ranks of a replica together, for
    copies of its KV: prompts that the GPU has no more are brought from there. See docs/kv_tiers.md.
    Default: none."""
    kv_connector_extra_config: OffloadingConfig = OffloadingConfig.model_construct()
    """kv_offloading_size: what is kept there, and what makes room."""
    host_link: HostLink = HostLink()
    """kv_offloading_size: the link between GPU and host. No key of vLLM."""
    enable_expert_parallel: bool = False
    """The GPUs of an engine hold experts whole, each its share of them, instead of a part of every
    expert. The busiest decides how long a step takes."""
    moe_backend: MoeBackend = "auto"
    """Whose kernels compute the experts, where several are known (fp8 in blocks on H100, H200 and
    B200). Default: auto, the version's: DeepGEMM on Hopper from 0.11 to 0.14, FlashInfer's CUTLASS
    there in 0.15 and 0.16, else the fastest that was measured."""
    all2all_backend: Annotated[str, AfterValidator(check_backend)] = GATHERED
    """How tokens come to experts on other GPUs, where cluster.data_parallel_size is above 1."""
    disable_hybrid_kv_cache_manager: bool = False
    """chunked_prefill: layers with a window keep all tokens where others do, as before vLLM 0.9.2;
    else they give back what their window has left behind."""
    num_gpu_blocks: Count | None = None
    """KV-cache blocks of one replica, overriding the memory ledger."""
    null_block: bool | None = None
    """chunked_prefill: whether one of the blocks is never given out. Default: the version's, true
    since 0.8."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of the GPU's memory that the engine may fill. Default: the version's, 0.92 since 0.20,
    0.9 before."""
    watermark: float | None = Field(default=None, ge=0, lt=1)
    """Share of the blocks kept free when admitting; in chunked_prefill not for the first one of an
    empty batch. Default: 0 in chunked_prefill since 0.8, else 0.01."""
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
    expert_load_exponent: float = Field(default=0, ge=0, le=10)
    """How unevenly tokens choose their experts: the one in place i of popularity in proportion to i
    to the minus this power. 0: all alike. Decides how many a step reads and, with
    enable_expert_parallel, how long the busiest rank works. No key of vLLM; tables of kernels are
    measured at 1.01 and 1.2."""
    attention: Literal["fused", "standard"] = "fused"
    """fused: FlashAttention's traffic; standard: scores and probabilities go through memory."""
    sampling: Drawing | None = None
    """How tokens are drawn: greedy, temperature (from all of them), top_p (from the likeliest, by
    top-p, top-k or both), which costs time for every logit: much where the vocabulary is sorted,
    before 0.17; or penalties (with a repetition penalty). Default: what vLLM's benchmark client
    gets: greedy before 0.15, then what the model's generation_config.json says."""
    step_overhead_s: float | None = Field(default=None, ge=0, le=3600)
    """Host time of one step. Default: the calibration's; 1 ms without one."""
    sequence_overhead_s: float | None = Field(default=None, ge=0, le=3600)
    """Host time of one sequence in a step. Default: the calibration's; 10 us without one."""
    first_request_s: float = Field(default=0, ge=0, le=3600)
    """Time that the first step of a server takes besides: 0.5 to 2 s of one that nobody warmed."""
    api_request_s: float | None = Field(default=None, ge=0, le=3600)
    """Time of one request in the API server, on its way in. Default: the calibration's."""
    api_token_s: float | None = Field(default=None, ge=0, le=3600)
    """The same for each token of its prompt: the tokeniser. Default: the calibration's."""
    api_output_s: float | None = Field(default=None, ge=0, le=3600)
    """Time of a token on its way out, after the end of its step: detokeniser and stream. It delays
    every token alike. Default: the calibration's."""
    api_loop_request_s: float | None = Field(default=None, ge=0, le=3600)
    """The part of api_request_s in which an API process works for this request alone: others wait
    for it, and for the tokens of its prompt. At most api_request_s; 0: any number side by side.
    Default: the calibration's."""
    api_loop_output_s: float | None = Field(default=None, ge=0, le=3600)
    """Time that an API process works for each message, one after the other: tokens of hundreds of
    streams wait for it. 0: all at once. Default: the calibration's."""
    stream_interval: int = Field(default=1, ge=1, le=10**6)
    """Tokens of a stream that go into one message."""
    api_server_count: int = Field(default=1, ge=1, le=1000)
    """API processes of a replica, which requests and streams are dealt among."""
    api_shared_loop: bool = False
    """Whether an API process reads requests and sends tokens in one loop, first come first served,
    as vLLM does: api_loop_request_s and api_loop_output_s then wait for each other, too. Else one
    never waits for the other, as the calibrations of GPUs were fitted."""

    @field_validator("version", mode="before")
    @classmethod
    def _is_modelled(cls, version: object) -> object:
        if version is None:
            return None
        if not isinstance(version, str):
            raise ValueError(
                f"expected a text in quotes, such as '{newest_version()}': as a number 0.10 is 0.1"
            )
        return check_version(version)

    @field_validator("scheduler_settings")
    @classmethod
    def _are_of_the_scheduler(cls, own: OwnSettings, given: ValidationInfo) -> OwnSettings:
        if (name := given.data.get("scheduler")) is not None:
            check_policy(name, own)
        return own

    @field_validator("order_settings")
    @classmethod
    def _are_of_the_order(cls, own: OwnSettings, given: ValidationInfo) -> OwnSettings:
        if (name := given.data.get("order")) is not None:
            check_order(name, own)
        return own

    @model_validator(mode="after")
    def _is_of_vllm_v1(self) -> Self:
        for name in ("enable_prefix_caching", "async_scheduling"):
            if getattr(self, name) and self.scheduler and not policy(self.scheduler).cuts_prompts:
                raise ValueError(_needs_chunks(name, self.scheduler))
        return self


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
    asked = checkpoint.kv_fp8 and takes_over_kv_fp8(engine.version, checkpoint.weights.method)
    if kv == "auto" and asked:
        kv = "fp8"
    told = chosen_weights(engine.quantization, checkpoint.weights, spec.name, spec.num_experts)
    return runnable(precision(dtype, told, kv), gpu)
