"""What an engine's process keeps on a GPU outside of torch's tensors: libraries and CUDA graphs."""

from math import log2

from hardware.engines.table import EngineTable
from hardware.engines.versions import Version
from hardware.gpu import Gpu
from model.spec import DecoderSpec

MIB, GIB = 2**20, 2**30
HOPPER, BLACKWELL = 9.0, 10.0
"""Compute capabilities: Hopper or later, and the family of B200, GB200 and B300."""


def non_torch_bytes(table: EngineTable, version: Version, gpu: Gpu, tp: int) -> int:
    """Return the bytes of CUDA's libraries and, in a group, of NCCL, as far as they are charged.

    One value per class of versions and of cards; docs/memory.md tells from which logs.
    """
    classes = table.memory.non_torch_gib.at(version)
    if tp > 1 and gpu.link.startswith("PCIe"):
        gib = classes.pcie
    elif tp > 1:
        gib = classes.nvlink + classes.doubled * (log2(tp) - 1)
    else:
        gib = classes.hopper if (gpu.compute_capability or 0) >= HOPPER else classes.ada
    return int(gib * GIB)


def startup_bytes(table: EngineTable, version: Version) -> int:
    """Return what a process holds of a card before it loads anything."""
    return int(table.memory.startup_gib.at(version) * GIB)


def graph_bytes(
    table: EngineTable,
    version: Version,
    spec: DecoderSpec,
    gpu: Gpu,
    tp: int,
    max_seqs: int,
    largest: int | None = None,
    *,
    second: bool = False,
) -> int:
    """Return what captured CUDA graphs are charged with: nothing before they came into the budget.

    ``piecewise * layers * x + decode * y``: a piecewise graph has a piece per layer, and takes more
    in a group, where all-reduces bring buffers of their own. One mode captures every size, full
    graphs of pure decode batches only those up to the seats. ``largest``: the largest size, if an
    engine is told one. ``second``: whether the second model runner serves the model.
    """
    memory = table.memory
    charged = memory.second_runner_graphs_charged if second else memory.graphs_charged
    if not charged.at(version):
        return 0
    limits, each = memory.graph_batch.at(version), memory.graph_mib.at(version)
    most = limits.most_blackwell if int(gpu.compute_capability or 0) == BLACKWELL else limits.most
    sizes = capture_sizes(min(2 * max_seqs, most) if largest is None else largest)
    decodes = sum(size <= max_seqs for size in sizes)
    layer = each.layer_in_group if tp > 1 else each.layer
    return int((len(sizes) * spec.num_layers * layer + decodes * each.decode) * MIB)


def capture_sizes(most: int) -> tuple[int, ...]:
    """Return the batch sizes that are captured: 1, 2, 4, by 8 to 248, by 16 from 256 on.

    As in ``_set_cudagraph_sizes`` of vllm/config/vllm.py since 0.12.
    """
    sizes = (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16))
    return tuple(size for size in sizes if size <= most)
