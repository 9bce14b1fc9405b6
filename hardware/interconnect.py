"""Collectives between the GPUs of one tensor-parallel group, inside one server.

Ring: Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH",
IJHPCA 19(1), 2005, section 4.5 (reduce-scatter, then all-gather; ``2 (n-1)`` steps of ``bytes/n``).
One-shot: every rank reads the whole buffer of every other rank and adds them up itself, between two
barriers; the custom all-reduce of TensorRT-LLM and vLLM for small buffers.
Without a switch, where every pair of GPUs has a link of its own, a group of n uses n-1 of them.
What is left out: switches that add on the way (NVLink SHARP), and servers joined by a network, so a
group of more GPUs than share links is refused.
"""

import numpy as np
import numpy.typing as npt

from hardware.gpu import Gpu

F = float | npt.NDArray[np.float64]


def ring_all_reduce_s(bytes_: F, ranks: int, link_bytes_per_s: float, latency_s: float) -> F:
    """Return ``2 (n-1)/n * bytes / link + 2 (n-1) * latency`` in seconds, for n ranks."""
    steps = 2 * (ranks - 1)
    return steps / ranks * bytes_ / link_bytes_per_s + steps * latency_s


def one_shot_all_reduce_s(bytes_: F, ranks: int, link_bytes_per_s: float, latency_s: float) -> F:
    """Return ``(n-1) * bytes / link + 2 * latency`` in seconds: one barrier before, one after."""
    return (ranks - 1) * bytes_ / link_bytes_per_s + 2 * latency_s


def all_reduce_s(bytes_: F, ranks: int, gpu: Gpu, efficiency: float = 1.0) -> F:
    """Return the faster of ring and one-shot, in seconds; 0 for one rank.

    Args:
        bytes_: of the buffer on every rank.
        ranks: GPUs that take part.
        gpu: whose links.
        efficiency: share of the links' rate that is reached.

    Raises:
        ValueError: more than one rank, and the GPU's link is not known, or joins fewer GPUs.
    """
    if ranks == 1:
        return 0.0 * bytes_
    rate = link_bytes_per_s(gpu, ranks) * efficiency
    ring = ring_all_reduce_s(bytes_, ranks, rate, gpu.link_latency_s)
    seconds: F = np.minimum(ring, one_shot_all_reduce_s(bytes_, ranks, rate, gpu.link_latency_s))
    return float(seconds) if np.ndim(seconds) == 0 else seconds


def all_gather_s(bytes_: F, ranks: int, gpu: Gpu, efficiency: float = 1.0) -> F:
    """Return ``(n-1)/n * bytes / link + (n-1) * latency`` in seconds; 0 for one rank.

    Args:
        bytes_: of the gathered buffer, all ranks' parts together.
        ranks: GPUs that take part.
        gpu: whose links.
        efficiency: share of the links' rate that is reached.

    Raises:
        ValueError: more than one rank, and the GPU's link is not known, or joins fewer GPUs.
    """
    if ranks == 1:
        return 0.0 * bytes_
    rate = link_bytes_per_s(gpu, ranks) * efficiency
    return (ranks - 1) / ranks * bytes_ / rate + (ranks - 1) * gpu.link_latency_s


def check_ranks(gpu: Gpu, ranks: int) -> None:
    """Refuse a tensor-parallel group that is larger than one server.

    Raises:
        ValueError: more ranks than GPUs that share links.
    """
    most = gpu.gpus_per_server
    if ranks > most:
        raise ValueError(
            f"tensor_parallel_size = {ranks} is more than one server of gpu {gpu.name} holds: "
            f"{most} share its links ({gpu.link}), expected at most {most} "
            "(gpus_per_server of a GPU that is given as a mapping)"
        )


def link_bytes_per_s(gpu: Gpu, ranks: int) -> float:
    """Return the rate in bytes/s at which one of ``ranks`` GPUs sends to the others together.

    All its links; in a full mesh ``min(all, (n-1) * link to one peer)``.

    Raises:
        ValueError: the GPU's link is not known, or it joins fewer GPUs.
    """
    check_ranks(gpu, ranks)
    if gpu.link_bytes_per_s is None:
        raise ValueError(
            f"tensor_parallel_size = {ranks} needs link_bytes_per_s of gpu {gpu.name}, "
            "which is not given"
        )
    if gpu.link_peer_bytes_per_s is None:
        return gpu.link_bytes_per_s
    return min(gpu.link_bytes_per_s, (ranks - 1) * gpu.link_peer_bytes_per_s)
