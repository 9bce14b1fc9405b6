"""Fits the surface of grouped products: experts of a mixture, in tables of kernel times."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.calibrating.kernel_fit import (
    NUMBER_BYTES,
    Axes,
    fastest,
    fit_and_check,
    from_memory,
)
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, expert_size
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import DataFrame

EXPERT_AXES: Axes = {
    "rows": (0.03125, 0.125, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192),
    "width": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "experts": (8, 16, 32, 64, 128, 256, 512),
}
NARROWEST_EXPERT = 192
"""Columns on a rank; narrower ones are not tuned."""
OTHER_KERNEL = 1.15
"""A version whose experts take so many times the fastest version's runs another kernel."""
EXPERT_KEYS = ["num_tokens", "hidden_size", "topk", "num_experts", "width"]


def expert_surface(
    rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float
) -> tuple[Surface, HeldOut]:
    """Fit grouped products: num_tokens, hidden_size, inter_size, topk, num_experts, latency.

    Gate, up and down of every expert, unevenly chosen; tensor-parallel splits, no expert parallel.
    """
    rows = rows[rows.moe_ep_size == 1].assign(width=rows.inter_size / rows.moe_tp_size)
    rows = _tuned(_of_one_kernel(rows[rows.width >= NARROWEST_EXPERT]))
    tokens, hidden, chosen, experts, width = (rows[key].to_numpy(float) for key in EXPERT_KEYS)
    pairs = tokens * chosen
    touched = experts * (1.0 - (1.0 - chosen / experts) ** tokens)
    weight_bytes = touched * 3 * width * hidden * NUMBER_BYTES[compute]
    moved = weight_bytes + pairs * (2 * hidden + 3 * width) * 2.0
    flops = 2 * pairs * 3 * width * hidden
    bound_s = np.maximum(flops / gpu.peak(compute), moved / gpu.bandwidth_bytes_per_s)
    points = {
        "rows": pairs / experts,
        "width": expert_size(width, hidden),
        "experts": experts,
    }
    seconds = from_memory(rows.latency.to_numpy(float), weight_bytes, moved, gpu, l2_bytes)
    shapes = (hidden * 1e5 + width) * 1e3 + experts
    return fit_and_check(EXPERT_AXES, points, bound_s / seconds, shapes)


def _of_one_kernel(rows: "DataFrame") -> "DataFrame":
    """Leave out versions whose tables time another, slower kernel than the fastest one's.

    Such are backends that a server chooses for other checkpoints, and conversions that were timed.
    """
    if "version" not in rows:
        return rows
    by = rows.groupby([*EXPERT_KEYS, "version"])["latency"].median().unstack()
    shared = by[by.notna().sum(axis=1) > 1]
    slower = shared.div(shared.min(axis=1), axis=0).median() > OTHER_KERNEL
    return rows[~rows.version.isin(slower[slower].index)]


def _tuned(rows: "DataFrame") -> "DataFrame":
    """Return the fastest times; a width takes at most what two halves of it take.

    What takes longer has no tuned configuration in that table.
    """
    rows = fastest(rows, EXPERT_KEYS).sort_values("width")
    known: dict[tuple[float, ...], float] = {}
    for *shape, width, latency in rows[[*EXPERT_KEYS, "latency"]].itertuples(index=False):
        halves = 2 * known.get((*shape, width / 2), np.inf)
        known[(*shape, width)] = min(latency, halves)
    return rows.assign(latency=list(known.values()))
