"""The memory of one GPU of a replica: what the weights leave, and how many KV blocks fit in it.

The ledger follows what vLLM does at start: it takes ``gpu_memory_utilization`` of the memory,
subtracts the weights, the peak of the largest step it could run, what lies outside of torch and, in
newer versions, CUDA graphs, and cuts the rest into blocks. docs/memory.md has the formulas by
version, and compares them with what servers logged.

What it leaves out: scores that standard attention keeps.
"""

import math
from dataclasses import dataclass

from hardware.defaults import newest_version
from hardware.drafts import Drafts
from hardware.engine_table import vllm
from hardware.gpu import Gpu, gpu_names, load_gpu
from hardware.interconnect import check_ranks, check_stages, makes_servers
from hardware.kv_groups import kv_layout
from hardware.ledger import GIB, MemoryLedger
from hardware.profile_run import (
    ProfileRun,
    activation_peak,
    cold_compile_bytes,
    expert_workspace_bytes,
)
from hardware.runtime_memory import graph_bytes, non_torch_bytes, startup_bytes
from hardware.stage_ledger import of_all_stages
from hardware.versions import version_key
from model.ops import (
    encoder_bytes,
    rotary_table_bytes,
    stage_weight_bytes,
    tensor_parallel_sizes,
    unpacked_bytes,
)
from model.precision import Precision
from model.spec import DecoderSpec
from model.stages import Stage, stages_of

__all__ = ["DoesNotFitError", "MemoryLedger", "memory_ledger"]

MOST_SERVERS = 4
"""That a hint about a larger group goes up to."""


class DoesNotFitError(ValueError):
    """What has to be in the memory exceeds it; carries the ledger."""

    def __init__(self, message: str, ledger: MemoryLedger) -> None:
        super().__init__(message)
        self.ledger = ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demand:
    """Everything a ledger depends on but the GPU and the tensor-parallel size."""

    spec: DecoderSpec
    precision: Precision
    block_size: int
    utilization: float
    max_tokens: int
    max_seqs: int
    num_gpu_blocks: int | None
    max_model_len: int | None
    version: str
    async_scheduling: bool
    disable_hybrid_kv_cache_manager: bool
    enable_expert_parallel: bool
    max_cudagraph_capture_size: int | None
    dp: int
    exchange_bytes: int
    drafts: Drafts | None
    pp: int

    def ledger(self, gpu: Gpu, tp: int) -> MemoryLedger:
        """Fill a ledger, whether it fits or not: of several stages that with least room."""
        spec = self.spec
        if self.enable_expert_parallel:
            spec = spec.with_whole_experts(tp * self.dp)
        stages = stages_of(spec, self.pp)
        return of_all_stages([self._of_stage(stage, gpu, tp) for stage in stages], stages)

    def _of_stage(self, stage: Stage, gpu: Gpu, tp: int) -> MemoryLedger:
        spec, table, version = stage.spec, vllm(), version_key(self.version)
        gpus, drafts = tp * self.dp * self.pp, self.drafts
        rows = 1 if drafts is None else 1 + drafts.tokens  # of a sequence, in captured graphs
        run = ProfileRun(
            spec=spec,
            precision=self.precision,
            tp=tp,
            dp=self.dp,
            max_tokens=self.max_tokens,
            max_seqs=self.max_seqs,
            sampled_rows=1 if drafts is None else 2,
            max_model_len=self.max_model_len or 0,
            block_tokens=self.block_size,
            embeds=stage.embeds,
            predicts=stage.predicts,
        )
        rules = table.memory
        weights = int(stage_weight_bytes(stage, precision=self.precision, tp=tp))
        weights += int(unpacked_bytes(spec, precision=self.precision, tp=tp))
        activations = activation_peak(run, rules, version)
        stays = rules.expert_workspace_stays.at(version)
        workspace = expert_workspace_bytes(run) if stays else 0
        non_torch = non_torch_bytes(table, version, gpu, gpus) + self.exchange_bytes
        graphs = graph_bytes(
            table, version, spec, gpu, tp * self.dp, self.max_seqs * rows,
            self.max_cudagraph_capture_size,
        )  # fmt: skip
        budget = int(self.utilization * gpu.memory_bytes)
        table_bytes = int(rotary_table_bytes(spec, self.precision))
        encoders = int(encoder_bytes(spec, self.precision, tp)) if stage.embeds else 0
        drafter = 0 if drafts is None else drafts.weight_bytes(tp)
        left = budget - weights - drafter - encoders - table_bytes
        left -= activations.bytes + workspace + non_torch + graphs
        layout = kv_layout(
            spec if drafts is None else drafts.beside(spec),
            precision=self.precision,
            tp=tp,
            block_size=self.block_size,
            version=self.version,
            disable_hybrid_kv_cache_manager=self.disable_hybrid_kv_cache_manager,
        )
        steps = rules.steps_in_flight.at(version) if self.async_scheduling else 1
        given = self.num_gpu_blocks
        return MemoryLedger(
            model=spec.name,
            gpu=gpu.name,
            tensor_parallel_size=tp,
            pipeline_parallel_size=self.pp,
            data_parallel_size=self.dp,
            total_bytes=gpu.memory_bytes,
            startup_bytes=startup_bytes(table, version),
            utilization=self.utilization,
            budget_bytes=budget,
            weights_bytes=weights,
            activations=activations,
            cold_compile_bytes=cold_compile_bytes(run) if rules.cold_compile.at(version) else 0,
            workspace_bytes=workspace,
            non_torch_bytes=non_torch,
            graphs_bytes=graphs,
            kv_bytes=left,
            layout=layout,
            num_gpu_blocks=max(0, left // layout.block_bytes) if given is None else given,
            overridden=given is not None,
            encoder_bytes=encoders,
            drafter_bytes=drafter,
            weights_are=str(self.precision.weights),
            kv_numbers=self.precision.kv_numbers,
            rotary_table_bytes=table_bytes,
            max_model_len=self.max_model_len,
            in_flight_tokens=steps * self.max_tokens,
            waits_for_steps=steps > 1,
            tokens_by_concurrency=rules.tokens_by_concurrency.at(version),
        )

    def holds_longest(self, ledger: MemoryLedger) -> bool:
        """Whether a ledger's cache holds one sequence of the greatest length."""
        return ledger.overridden or ledger.longest_blocks <= ledger.num_gpu_blocks

    def serves(self, gpu: Gpu, tp: int) -> bool:
        """Whether an engine would start."""
        ledger = self.ledger(gpu, tp)
        return ledger.fits and self.holds_longest(ledger)


def memory_ledger(
    spec: DecoderSpec,
    gpu: Gpu,
    *,
    precision: Precision,
    tp: int = 1,
    block_size: int = 16,
    gpu_memory_utilization: float = 0.90,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    num_gpu_blocks: int | None = None,
    max_model_len: int | None = None,
    version: str = "",
    async_scheduling: bool = False,
    disable_hybrid_kv_cache_manager: bool = False,
    enable_expert_parallel: bool = False,
    max_cudagraph_capture_size: int | None = None,
    dp: int = 1,
    exchange_bytes: int = 0,
    drafts: Drafts | None = None,
    pp: int = 1,
) -> MemoryLedger:
    """Return where the memory of one GPU goes, and how many KV blocks fit.

    Args:
        spec: the model.
        gpu: every rank's.
        precision: bytes of weights, activations and KV cache.
        tp: ranks that share the model.
        block_size: tokens of a KV block.
        gpu_memory_utilization: share of the memory that the engine takes.
        max_num_batched_tokens: tokens of the largest step.
        max_num_seqs: most sequences that get logits in one step.
        num_gpu_blocks: blocks to have instead of what is left. As in vLLM they may pass
            ``gpu_memory_utilization``, but not the GPU's memory.
        max_model_len: tokens of the longest sequence, which has to fit into the blocks, unless
            their number is given; None for no such check.
        version: of vLLM, whose terms the ledger has; by default the newest that is modelled.
        async_scheduling: whether a step is planned while the one before is computed.
        disable_hybrid_kv_cache_manager: whether layers with a window keep everything where others
            do.
        enable_expert_parallel: whether ranks hold experts whole, instead of a part of each.
        max_cudagraph_capture_size: tokens of the largest CUDA graph; None: the version's.
        dp: data-parallel ranks, of ``tp`` GPUs each, over which experts are dealt.
        exchange_bytes: of buffers through which tokens come to experts on other GPUs.
        drafts: what the engine keeps to make drafts; None: there are none.
        pp: pipeline stages of ``tp`` GPUs each. All have as many blocks as the one with least room,
            whose ledger it is.

    Raises:
        DoesNotFitError: not one block fits, not as many as given, or not the longest sequence; or
            less is free at start than the engine wants to take. Shows the ledger, and the smallest
            tensor-parallel size or GPU that would do.
        ValueError: ``tp`` does not divide the model or passes a server, or a setting out of range.
    """
    check_stages(gpu, tp, pp)
    if dp > 1:
        check_ranks(gpu, tp * dp, "data_parallel_size x tensor_parallel_size")
    _check(block_size, gpu_memory_utilization, max_num_batched_tokens, max_num_seqs, num_gpu_blocks)
    demand = _Demand(
        spec=spec,
        precision=precision,
        block_size=block_size,
        utilization=gpu_memory_utilization,
        max_tokens=max_num_batched_tokens,
        max_seqs=max_num_seqs,
        num_gpu_blocks=num_gpu_blocks,
        max_model_len=max_model_len,
        version=version or newest_version(),
        async_scheduling=async_scheduling,
        disable_hybrid_kv_cache_manager=disable_hybrid_kv_cache_manager,
        enable_expert_parallel=enable_expert_parallel,
        max_cudagraph_capture_size=max_cudagraph_capture_size,
        dp=dp,
        exchange_bytes=exchange_bytes,
        drafts=drafts,
        pp=pp,
    )
    ledger = demand.ledger(gpu, tp)
    if ledger.fits and demand.holds_longest(ledger):
        return ledger
    raise DoesNotFitError(
        f"{_refusal(demand, ledger)}:\n{ledger.as_text()}\n{_remedy(demand, gpu, tp)}", ledger
    )


def _refusal(demand: _Demand, ledger: MemoryLedger) -> str:
    """Say what does not fit, in one line."""
    if not ledger.overridden and ledger.budget_bytes > ledger.free_bytes:
        most = math.floor(100 * ledger.free_bytes / ledger.total_bytes) / 100
        return (
            f"gpu_memory_utilization = {ledger.utilization:g} of {ledger.gpu} is more than the "
            f"{ledger.free_bytes / GIB:.2f} GiB that are free when the engine starts, expected at "
            f"most {most:g}"
        )
    if ledger.fits:
        longest = ledger.longest_tokens
        return (
            f"max_model_len = {demand.max_model_len} does not fit in the KV cache of "
            f"{demand.spec.name} on {ledger.gpu} at {ledger.sizes}, expected at most "
            f"{longest}: set engine.max_model_len: {longest} or less"
        )
    given = f"num_gpu_blocks = {ledger.num_gpu_blocks}"
    return (
        f"{demand.spec.name} with {given if ledger.overridden else 'one KV block'} does not fit on "
        f"{ledger.gpu} at {ledger.sizes}"
    )


def _remedy(demand: _Demand, gpu: Gpu, tp: int) -> str:
    """Name the smallest group that would do, in powers of two as servers are cut."""
    most = gpu.gpus_per_server * (MOST_SERVERS if gpu.network_bytes_per_s else 1)
    known = tensor_parallel_sizes(demand.spec, most, demand.precision)
    sizes = [
        size for size in known
        if size.bit_count() == 1 and all(makes_servers(gpu, n) for n in (size, size * demand.dp))
    ]  # fmt: skip
    for size in sizes:
        if demand.serves(gpu, size):
            return f"smallest tensor_parallel_size that fits on {gpu.name}: {size}"
    # By what the vendor sells: among equals the driver's small differences do not decide.
    gpus = sorted(map(load_gpu, gpu_names()), key=_size_and_price)
    message = f"no tensor_parallel_size up to {most} fits on {gpu.name}"
    for size in (tp, *sizes):
        for other in gpus:
            if size * demand.dp <= other.gpus_per_server and demand.serves(other, size):
                return (
                    f"{message}; smallest GPU of the catalogue that fits at "
                    f"tensor_parallel_size = {size}: {other.name}"
                )
    return f"{message}, nor on any GPU of the catalogue"


def _size_and_price(gpu: Gpu) -> tuple[int, float]:
    return gpu.nominal_memory_bytes or gpu.memory_bytes, gpu.usd_per_hour or math.inf


def _check(
    block_size: int, utilization: float, max_tokens: int, max_seqs: int, num_gpu_blocks: int | None
) -> None:
    if not 0 < utilization <= 1:
        raise ValueError(f"gpu_memory_utilization = {utilization}, expected above 0 and at most 1")
    counts = {
        "block_size": block_size,
        "max_num_batched_tokens": max_tokens,
        "max_num_seqs": max_seqs,
        "num_gpu_blocks": 1 if num_gpu_blocks is None else num_gpu_blocks,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} = {count}, expected at least 1")
