"""The memory of one GPU of a replica: what the weights leave, and how many KV blocks fit in it.

The ledger follows what vLLM does at start: it takes ``gpu_memory_utilization`` of the memory,
subtracts the weights, the peak of the largest step it could run, what lies outside of torch and, in
newer versions, CUDA graphs, and cuts the rest into blocks. docs/memory.md has the formulas by
version, and compares them with what servers logged.

What it leaves out: scores that standard attention keeps.
"""

import math
from dataclasses import replace

from hardware.gpu import Gpu, gpu_names, load_gpu
from hardware.links.interconnect import check_ranks, check_stages
from hardware.memory.demand import MemoryDemand
from hardware.memory.ledger import GIB, MemoryLedger
from model.dealing import experts_among
from model.ops import tensor_parallel_sizes

__all__ = ["DoesNotFitError", "MemoryDemand", "MemoryLedger", "memory_ledger"]

MOST_SERVERS = 4
"""That a hint about a larger group goes up to."""


class DoesNotFitError(ValueError):
    """What has to be in the memory exceeds it; carries the ledger."""

    def __init__(self, message: str, ledger: MemoryLedger) -> None:
        super().__init__(message)
        self.ledger = ledger


def memory_ledger(demand: MemoryDemand) -> MemoryLedger:
    """Return where the memory of one GPU goes, and how many KV blocks fit.

    All stages of a pipeline have as many blocks as the one with least room, whose ledger it is.

    Raises:
        DoesNotFitError: not one block fits, not as many as given, or not the longest sequence; or
            less is free at start than the engine wants to take. Shows the ledger, and the smallest
            tensor-parallel size or GPU that would do.
        ValueError: ``tp`` does not divide the model or passes a server, or a setting out of range.
    """
    _check(demand)
    ledger = demand.ledger()
    if ledger.fits and ledger.holds_longest:
        return ledger
    raise DoesNotFitError(
        f"{_refusal(demand, ledger)}:\n{ledger.as_text()}\n{_remedy(demand)}", ledger
    )


def _refusal(demand: MemoryDemand, ledger: MemoryLedger) -> str:
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


def _remedy(demand: MemoryDemand) -> str:
    """Name the share of the same GPUs that would do, if one does, and the smallest group."""
    share = _least_share(demand)
    if share is None:
        return _larger(demand)
    return (
        f"smallest gpu_memory_utilization that fits on {demand.gpu.name}: {share:g}\n"
        f"at {demand.gpu_memory_utilization:g}: {_larger(demand)}"
    )


def _least_share(demand: MemoryDemand) -> float | None:
    """Return the least share of the GPU's memory that would do, in hundredths; None if none does.

    What is larger fits as well, up to what is free when the engine starts.
    """
    if demand.num_gpu_blocks is not None:
        return None
    ledger = demand.ledger()
    low = math.floor(100 * demand.gpu_memory_utilization)
    high = math.floor(100 * ledger.free_bytes / ledger.total_bytes)
    if low >= high or not _serves_at(demand, high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _serves_at(demand, middle) else (middle, high)
    return high / 100


def _serves_at(demand: MemoryDemand, hundredths: int) -> bool:
    return replace(demand, gpu_memory_utilization=hundredths / 100).serves()


def _larger(demand: MemoryDemand) -> str:
    """Name the smallest group that would do, in powers of two as servers are cut."""
    gpu = demand.gpu
    most = gpu.gpus_per_server * (MOST_SERVERS if gpu.network_bytes_per_s else 1)
    known = tensor_parallel_sizes(demand.spec, most, demand.precision)
    sizes = [size for size in known if size.bit_count() == 1 and _deals_experts(demand, size)]
    for size in sizes:
        larger = replace(demand, tp=size)
        if _are_joined(larger) and larger.serves():
            return f"smallest tensor_parallel_size that fits on {gpu.name}: {size}"
    # By what the vendor sells: among equals the driver's small differences do not decide.
    gpus = sorted(map(load_gpu, gpu_names()), key=_size_and_price)
    message = f"no tensor_parallel_size up to {most} fits on {gpu.name}"
    for size in (demand.tp, *sizes):
        for other in gpus:
            if size * demand.dp > other.gpus_per_server:
                continue
            elsewhere = replace(demand, gpu=other, tp=size)
            if _are_joined(elsewhere) and elsewhere.serves():
                return (
                    f"{message}; smallest GPU of the catalogue that fits at "
                    f"tensor_parallel_size = {size}: {other.name}"
                )
    return f"{message}, nor on any GPU of the catalogue"


def _are_joined(demand: MemoryDemand) -> bool:
    """Whether servers and networks of the GPU make its groups, stages and ranks."""
    try:
        _check_servers(demand)
    except ValueError:
        return False
    return True


def _deals_experts(demand: MemoryDemand, tp: int) -> bool:
    """Whether all ranks of groups of this size have a share of the experts."""
    try:
        dealt = experts_among(demand.spec, tp, demand.dp, whole=demand.enable_expert_parallel)
    except ValueError:
        return False
    return tp in tensor_parallel_sizes(dealt, tp, demand.precision)


def _size_and_price(gpu: Gpu) -> tuple[int, float]:
    return gpu.nominal_memory_bytes or gpu.memory_bytes, gpu.usd_per_hour or math.inf


def _check_servers(demand: MemoryDemand) -> None:
    check_stages(demand.gpu, demand.tp, demand.pp)
    if demand.dp > 1:
        check_ranks(demand.gpu, demand.tp * demand.dp, "data_parallel_size x tensor_parallel_size")


def _check(demand: MemoryDemand) -> None:
    _check_servers(demand)
    utilization, blocks = demand.gpu_memory_utilization, demand.num_gpu_blocks
    if not 0 < utilization <= 1:
        raise ValueError(f"gpu_memory_utilization = {utilization}, expected above 0 and at most 1")
    counts = {
        "block_size": demand.block_size,
        "max_num_batched_tokens": demand.max_num_batched_tokens,
        "max_num_seqs": demand.max_num_seqs,
        "num_gpu_blocks": 1 if blocks is None else blocks,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} = {count}, expected at least 1")
