"""The memory of one GPU of a replica: what the weights leave, and how many KV blocks fit in it.

The ledger follows what vLLM does at start: it takes ``gpu_memory_utilization`` of the memory,
subtracts the weights, the peak of the largest step it could run, and what the runtime holds, and
cuts the rest into blocks. Compared with the number of blocks that vLLM logs it is within 0.5% on
the runs of tests/hardware/test_memory.py.

What it leaves out: captured CUDA graphs (vLLM takes them from the share it does not use), and
scores that standard attention keeps.
"""

import math
from dataclasses import dataclass

from hardware.gpu import Gpu, gpu_names, load_gpu
from hardware.interconnect import check_ranks
from model.ops import rank_weight_bytes, rotary_table_bytes, shard, tensor_parallel_sizes
from model.precision import Precision
from model.spec import DecoderSpec

__all__ = ["DoesNotFitError", "MemoryLedger", "activation_bytes", "memory_ledger"]

GIB = 2**30

CONTEXT_BYTES = int(0.6 * GIB)
"""What a process holds before it allocates anything: 23.56 GiB offered, 22.93 GiB free at vLLM's
start (log in github.com/wtdcode/vllm-backport/issues/34)."""

RUNTIME_BYTES = int(0.3 * GIB)
"""Libraries' workspaces and fragmentation: what is left unexplained in the blocks that vLLM 0.15.1
and 0.23.0 log on an H100 (Llama-2-7B: 0.26 GiB, Qwen3-14B: 0.36 GiB)."""

COLLECTIVES_BYTES = int(0.4 * GIB)
"""Buffers of NCCL and of the custom all-reduce, with more than one rank: what is left unexplained
beyond `RUNTIME_BYTES` with two ranks (CodeLlama-34B, vLLM 0.15.1, H100)."""

SAMPLER_BYTES_PER_LOGIT = 24
"""fp32 logits 4, sorted 4, their int64 indices 8, probabilities 4, cumulated 4."""

MOE_CHUNK_TOKENS = 32768
"""vLLM runs experts on at most this many tokens at once (VLLM_FUSED_MOE_CHUNK_SIZE)."""


class DoesNotFitError(ValueError):
    """Weights, activations and one KV block exceed the memory; carries the ledger."""

    def __init__(self, message: str, ledger: "MemoryLedger") -> None:
        super().__init__(message)
        self.ledger = ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLedger:
    """Where the memory of one GPU goes, in bytes."""

    model: str
    gpu: str
    tensor_parallel_size: int
    total_bytes: int
    """What the driver offers."""
    utilization: float
    """Share of it that the engine takes."""
    budget_bytes: int
    """That share; at most what the process' own context leaves."""
    weights_bytes: int
    """Of one rank."""
    activations_bytes: int
    """Peak of the largest step."""
    reserve_bytes: int
    """Runtime and collectives."""
    kv_bytes: int
    """What is left for the KV cache; negative when nothing is."""
    block_size: int
    """Tokens of one block."""
    block_bytes: int
    """Of one rank."""
    num_gpu_blocks: int
    overridden: bool
    """Whether the number of blocks was given instead of computed."""
    weights_are: str = ""
    """How the weights are stored, and who says so; empty for 16 bits."""
    kv_numbers: str = ""
    """What the KV cache holds."""
    rotary_table_bytes: int = 0
    """Cosines and sines of every position, which vLLM counts among the weights."""

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.num_gpu_blocks * self.block_size

    @property
    def used_bytes(self) -> int:
        """Everything, the blocks included."""
        fixed = self.weights_bytes + self.rotary_table_bytes
        fixed += self.activations_bytes + self.reserve_bytes
        return fixed + self.num_gpu_blocks * self.block_bytes

    @property
    def fits(self) -> bool:
        """Whether there is a block, and room for all of them."""
        room = self.total_bytes - CONTEXT_BYTES if self.overridden else self.budget_bytes
        return self.num_gpu_blocks >= 1 and self.used_bytes <= room

    def lines(self) -> list[tuple[str, int, str]]:
        """Return (what, bytes, remark) of every entry, from the total to the KV cache."""
        ranks = f"one of {self.tensor_parallel_size} ranks" if self.tensor_parallel_size > 1 else ""
        weights = ", ".join(x for x in (self.model, ranks, self.weights_are) if x)
        table = ("- rotary table", self.rotary_table_bytes, "cosines and sines of all positions")
        rotary = [table] if self.rotary_table_bytes else []
        blocks = (
            f"{self.num_gpu_blocks} blocks of {self.block_size} tokens, "
            f"{self.block_bytes / 2**20:.3g} MiB each"
        )
        blocks += f", {self.kv_numbers}" if self.kv_numbers == "fp8" else ""
        return [
            ("memory of the GPU", self.total_bytes, self.gpu),
            ("budget", self.budget_bytes, f"gpu_memory_utilization = {self.utilization:g}"),
            ("- weights", self.weights_bytes, weights),
            *rotary,
            ("- activations", self.activations_bytes, "largest step"),
            ("- runtime", self.reserve_bytes, "libraries, collectives"),
            ("= left for KV", self.kv_bytes, "not used" if self.overridden else blocks),
            *(
                [("KV cache", self.num_gpu_blocks * self.block_bytes, f"given: {blocks}")]
                if self.overridden
                else []
            ),
        ]

    def as_text(self) -> str:
        """Return the ledger as a table in GiB, for people."""
        return "\n".join(
            f"{what:<18} {bytes_ / GIB:>9.2f} GiB  {remark}".rstrip()
            for what, bytes_, remark in self.lines()
        )


def activation_bytes(
    spec: DecoderSpec, *, precision: Precision, tp: int, max_tokens: int, max_seqs: int
) -> int:
    """Return the peak of activations of one rank, in bytes: the larger of two moments.

    - Inside a layer, T tokens: the residual, the normed input and, in the MLP, the inner products
      and their activation, ``T (2 hidden + matrices * width)``; or queries, keys, values and the
      attention's output, ``T (2 hidden + 2 q + 2 kv)``; or, with experts, the same as in the MLP
      per chosen expert, and every expert's output.
    - After the layers: hidden states of T tokens, and the sampler's copies of S rows of logits over
      the whole vocabulary, ``T hidden + S vocab * 24 bytes``.
    """
    held = shard(spec, tp)
    hidden = spec.hidden_size
    attention = 2 * (held.heads + held.kv_heads) * spec.head_dim
    mlp = spec.mlp_matrices * held.mlp_width
    inside = max_tokens * (2 * hidden + max(attention, mlp))
    if spec.num_experts:
        chosen = spec.experts_per_token * (spec.mlp_matrices * held.expert_width + hidden)
        rows = min(max_tokens, MOE_CHUNK_TOKENS)
        inside = max(inside, max_tokens * (2 * hidden + mlp) + rows * chosen)
    after = max_tokens * hidden * precision.activation_bytes
    after += max_seqs * spec.vocab_size * SAMPLER_BYTES_PER_LOGIT
    return int(max(inside * precision.activation_bytes, after))


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

    def ledger(self, gpu: Gpu, tp: int) -> MemoryLedger:
        """Fill a ledger, whether it fits or not."""
        spec = self.spec
        weights = int(rank_weight_bytes(spec, precision=self.precision, tp=tp))
        kv_size = 2 * spec.num_layers * shard(spec, tp).kv_heads * spec.head_dim
        block_bytes = int(kv_size * self.precision.kv_bytes * self.block_size)
        activations = activation_bytes(
            spec,
            precision=self.precision,
            tp=tp,
            max_tokens=self.max_tokens,
            max_seqs=self.max_seqs,
        )
        reserve = RUNTIME_BYTES + (COLLECTIVES_BYTES if tp > 1 else 0)
        budget = min(int(self.utilization * gpu.memory_bytes), gpu.memory_bytes - CONTEXT_BYTES)
        table = int(rotary_table_bytes(spec, self.precision))
        left = budget - weights - table - activations - reserve
        given = self.num_gpu_blocks
        return MemoryLedger(
            model=spec.name,
            gpu=gpu.name,
            tensor_parallel_size=tp,
            total_bytes=gpu.memory_bytes,
            utilization=self.utilization,
            budget_bytes=budget,
            weights_bytes=weights,
            activations_bytes=activations,
            reserve_bytes=reserve,
            kv_bytes=left,
            block_size=self.block_size,
            block_bytes=block_bytes,
            num_gpu_blocks=max(0, left // block_bytes) if given is None else given,
            overridden=given is not None,
            weights_are=str(self.precision.weights),
            kv_numbers=self.precision.kv_numbers,
            rotary_table_bytes=table,
        )


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

    Raises:
        DoesNotFitError: not one block fits, or not as many as given; shows the ledger, and the
            smallest tensor-parallel size or GPU that would do.
        ValueError: ``tp`` does not divide the model or passes a server, or a setting out of range.
    """
    check_ranks(gpu, tp)
    _check(block_size, gpu_memory_utilization, max_num_batched_tokens, max_num_seqs, num_gpu_blocks)
    demand = _Demand(
        spec=spec,
        precision=precision,
        block_size=block_size,
        utilization=gpu_memory_utilization,
        max_tokens=max_num_batched_tokens,
        max_seqs=max_num_seqs,
        num_gpu_blocks=num_gpu_blocks,
    )
    ledger = demand.ledger(gpu, tp)
    if ledger.fits:
        return ledger
    wanted = "one KV block" if num_gpu_blocks is None else f"num_gpu_blocks = {num_gpu_blocks}"
    raise DoesNotFitError(
        f"{spec.name} with {wanted} does not fit on {gpu.name} at tensor_parallel_size = {tp}:\n"
        f"{ledger.as_text()}\n{_remedy(demand, gpu, tp)}",
        ledger,
    )


def _remedy(demand: _Demand, gpu: Gpu, tp: int) -> str:
    """Name the smallest group of one server that would do, in powers of two as servers are cut."""
    most = gpu.gpus_per_server
    known = tensor_parallel_sizes(demand.spec, most, demand.precision)
    sizes = [size for size in known if size.bit_count() == 1]
    for size in sizes:
        if demand.ledger(gpu, size).fits:
            return f"smallest tensor_parallel_size that fits on {gpu.name}: {size}"
    # By what the vendor sells: among equals the driver's small differences do not decide.
    gpus = sorted(map(load_gpu, gpu_names()), key=_size_and_price)
    message = f"no tensor_parallel_size up to {most} fits on {gpu.name}"
    for size in (tp, *sizes):
        for other in gpus:
            if size <= other.gpus_per_server and demand.ledger(other, size).fits:
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
