"""Collectives between the GPUs of one tensor-parallel group, inside a server or over several.

Ring: Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH",
IJHPCA 19(1), 2005, section 4.5 (reduce-scatter, then all-gather; ``2 (n-1)`` steps of ``bytes/n``).
One-shot: every rank reads the whole buffer of every other rank and adds them up itself, between two
barriers; the custom all-reduce of TensorRT-LLM and vLLM for small buffers.
Without a switch, where every pair of GPUs has a link of its own, a group of n uses n-1 of them.
Over servers: every GPU reduces a part of the buffer inside its server, then with its peers of the
other servers over its share of the network, and shares the result out again; the hierarchy of rings
of NCCL's trees and of Baidu's and Horovod's all-reduce (Sergeev, Del Balso, arXiv 1802.05799).
What is left out: switches that add on the way (NVLink SHARP), and traffic of others on the network.
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
    """Return the seconds of an all-reduce; 0 for one rank.

    Inside a server the faster of ring and one-shot. Over s servers of g GPUs a ring inside, and one
    of ``bytes / g`` between.

    Args:
        bytes_: of the buffer on every rank.
        ranks: GPUs that take part.
        gpu: whose links.
        efficiency: share of the links' and the network's rate that is reached.

    Raises:
        ValueError: more than one rank, and the GPU's link or network is not known, or whole servers
            do not make the group.
    """
    if ranks == 1:
        return 0.0 * bytes_
    count, each = servers(gpu, ranks)
    rate = link_bytes_per_s(gpu, ranks) * efficiency
    ring = ring_all_reduce_s(bytes_, each, rate, gpu.link_latency_s)
    if count > 1:
        between = _network(gpu, ranks) * efficiency
        return ring + ring_all_reduce_s(bytes_ / each, count, between, gpu.network_latency_s)
    seconds: F = np.minimum(ring, one_shot_all_reduce_s(bytes_, ranks, rate, gpu.link_latency_s))
    return float(seconds) if np.ndim(seconds) == 0 else seconds


def all_gather_s(bytes_: F, ranks: int, gpu: Gpu, efficiency: float = 1.0) -> F:
    """Return ``(n-1)/n * bytes / link + (n-1) * latency`` in seconds; 0 for one rank.

    Over s servers of g GPUs every rank's part crosses the network once, ``(s-1) bytes / (s g)`` a
    GPU, and the rest is shared out inside.

    Args:
        bytes_: of the gathered buffer, all ranks' parts together.
        ranks: GPUs that take part.
        gpu: whose links.
        efficiency: share of the links' and the network's rate that is reached.

    Raises:
        ValueError: as ``all_reduce_s``.
    """
    if ranks == 1:
        return 0.0 * bytes_
    count, each = servers(gpu, ranks)
    rate = link_bytes_per_s(gpu, ranks) * efficiency
    inside = (each - 1) / each * bytes_ / rate + (each - 1) * gpu.link_latency_s
    if count == 1:
        return inside
    between = _network(gpu, ranks) * efficiency
    crossing = (count - 1) / ranks * bytes_ / between
    return inside + crossing + (count - 1) * gpu.network_latency_s


def servers(gpu: Gpu, ranks: int) -> tuple[int, int]:
    """Return how many servers a group spans, and its GPUs in each of them.

    A server is what links join: a rack of GB200 is one.
    """
    most = gpu.gpus_per_server
    return (1, ranks) if ranks <= most else (-(-ranks // most), most)


def makes_servers(gpu: Gpu, ranks: int) -> bool:
    """Tell whether a group is part of a server, or whole servers."""
    return ranks <= gpu.gpus_per_server or ranks % gpu.gpus_per_server == 0


def check_ranks(gpu: Gpu, ranks: int, named: str = "tensor_parallel_size") -> None:
    """Refuse a group that servers and networks of this GPU do not make; ``named`` says its size.

    Raises:
        ValueError: more ranks than GPUs that share links, and no multiple of them, or no network.
    """
    count, most = servers(gpu, ranks)
    if count == 1:
        return
    told = (
        f"{named} = {ranks} is more than one server of gpu {gpu.name} holds: "
        f"{most} share its links ({gpu.link}), "
    )
    if gpu.network_bytes_per_s is None:
        raise ValueError(
            f"{told}expected at most {most}, or network_bytes_per_s of a GPU that is given as a "
            "mapping (gpus_per_server says how many share links)"
        )
    if not makes_servers(gpu, ranks):
        raise ValueError(f"{told}expected at most {most}, or a multiple of it")


def check_stages(gpu: Gpu, tp: int, pp: int) -> None:
    """Refuse pipeline stages of ``tp`` GPUs each that servers and networks do not make.

    Raises:
        ValueError: see ``check_ranks``; or more GPUs than share links, without a network, or a
            stage would lie across servers.
    """
    check_ranks(gpu, tp)
    most = gpu.gpus_per_server
    if pp == 1 or tp * pp <= most:
        return
    told = (
        f"pipeline_parallel_size = {pp} x tensor_parallel_size = {tp} is more than one server of "
        f"gpu {gpu.name} holds: {most} share its links ({gpu.link}), "
    )
    if gpu.network_bytes_per_s is None:
        raise ValueError(
            f"{told}expected at most {most} GPUs, or network_bytes_per_s of a GPU that is given as "
            "a mapping (gpus_per_server says how many share links)"
        )
    if tp < most and most % tp:
        raise ValueError(
            f"{told}and a stage would lie across servers, expected a tensor_parallel_size that "
            f"divides {most}"
        )


def send_s(bytes_: F, gpu: Gpu, tp: int, stage: int, efficiency: float = 1.0) -> F:
    """Return ``bytes / link + latency`` in seconds: one GPU of a stage to its peer of the next.

    Stages of ``tp`` GPUs follow each other in a server, and then in the next one.

    Args:
        bytes_: that one GPU sends.
        gpu: whose links.
        tp: GPUs of a stage.
        stage: which one sends, from 0.
        efficiency: share of the link's or the network's rate that is reached.

    Raises:
        ValueError: the rate of link or network is not known.
    """
    most = gpu.gpus_per_server
    if stage * tp // most != (stage + 1) * tp // most:
        if gpu.network_bytes_per_s is None:
            raise ValueError(f"network_bytes_per_s of gpu {gpu.name} is not given")
        return bytes_ / (gpu.network_bytes_per_s * efficiency) + gpu.network_latency_s
    rate = gpu.link_peer_bytes_per_s or gpu.link_bytes_per_s
    if rate is None:
        raise ValueError(
            f"pipeline_parallel_size above 1 needs link_bytes_per_s of gpu {gpu.name}, "
            "which is not given"
        )
    return bytes_ / (rate * efficiency) + gpu.link_latency_s


def hop_s(gpu: Gpu, ranks: int) -> float:
    """Return the latency of a small message between the first and the last of some GPUs."""
    return gpu.network_latency_s if servers(gpu, ranks)[0] > 1 else gpu.link_latency_s


def told_of_servers(gpu: Gpu, ranks: int) -> str:
    """Say what a reader must know of a group over several servers; an empty text for one."""
    count, each = servers(gpu, ranks)
    if count == 1:
        return ""
    rate = _network(gpu, ranks) / 1e9
    return (
        f"tensor_parallel_size = {ranks} spans {count} servers of {each} {gpu.name}: every "
        f"all-reduce crosses the network at {rate:g} GB/s a GPU in one direction, a model that was "
        "not measured"
    )


def told_of_stages(gpu: Gpu, tp: int, pp: int) -> str:
    """Say what a reader must know of pipeline stages; an empty text for one."""
    if pp == 1:
        return ""
    most = gpu.gpus_per_server
    ways = {"links" if place * tp // most == (place + 1) * tp // most else "network"
            for place in range(pp - 1)}  # fmt: skip
    return (
        f"pipeline_parallel_size = {pp}: stages of {tp} {gpu.name} hand hidden states over by "
        f"{' and '.join(sorted(ways))}, in a time that is computed and was not measured; each "
        "works on one step at a time"
    )


def _network(gpu: Gpu, ranks: int) -> float:
    check_ranks(gpu, ranks)
    if gpu.network_bytes_per_s is None:
        raise ValueError(f"network_bytes_per_s of gpu {gpu.name} is not given")
    return gpu.network_bytes_per_s


def link_bytes_per_s(gpu: Gpu, ranks: int) -> float:
    """Return the rate in bytes/s at which one of ``ranks`` GPUs sends to others of its server.

    All its links; in a full mesh ``min(all, (n-1) * link to one peer)``.

    Raises:
        ValueError: the GPU's link is not known, or servers and networks do not make the group.
    """
    check_ranks(gpu, ranks)
    if gpu.link_bytes_per_s is None:
        raise ValueError(
            f"tensor_parallel_size = {ranks} needs link_bytes_per_s of gpu {gpu.name}, "
            "which is not given"
        )
    if gpu.link_peer_bytes_per_s is None:
        return gpu.link_bytes_per_s
    _, each = servers(gpu, ranks)
    return min(gpu.link_bytes_per_s, (each - 1) * gpu.link_peer_bytes_per_s)
