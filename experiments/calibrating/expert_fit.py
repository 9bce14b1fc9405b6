"""Fits the surface of grouped products: experts of a mixture, in tables of kernel times."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.kernel_fit import fastest, from_memory
from experiments.calibrating.surface_fit import Axes, fit_and_check
from hardware.engines.moe_configs import takes_small_tiles
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, expert_size, product_bound_s
from hardware.prices.surface import Surface
from model.mlps.experts import Experts
from model.precision import precision
from model.quantization.scheme import (
    FP8_BLOCKS,
    FP8_TENSOR,
    MXFP4_FP8,
    MXFP4_ONLY,
    NVFP4,
    Scheme,
    grouped,
)
from model.quantization.weights import EXPERTS, PLAIN, uniform
from model.share import Share

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = npt.NDArray[np.float64]

SCHEMES: dict[str, Scheme | None] = {
    "bf16": None,
    "fp8": FP8_TENSOR,
    "fp8_block": FP8_BLOCKS,
    "fp4": NVFP4,
    "int4": grouped(4, 32),
    "mxfp4": MXFP4_ONLY,
    "mxfp4_fp8": MXFP4_FP8,
}
"""How the experts of a table are stored, by our name of their numbers."""
EXPERT_AXES: Axes = {
    "rows": (0.03125, 0.125, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192),
    "width": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "experts": (8, 16, 32, 64, 128, 256, 512, 1024),
}
NARROWEST_EXPERT = 192
"""Columns on a rank; narrower ones are not tuned."""
NARROWEST_SMALL = 128
"""The same of tiles that are not tuned for anybody."""
FEW_SHAPES = 20
"""Of fewer kinds of experts none is left out to check the fit, but some of their batches."""
OTHER_KERNEL = 1.15
"""A version whose experts take so many times the fastest version's runs another kernel."""
EXPERT_KEYS = ["num_tokens", "hidden_size", "topk", "num_experts", "width"]
BACKENDS = {
    "triton": r"^vllm_fused_moe$|triton",
    "flashinfer_cutlass": "flashinfer_cutlass",
    "flashinfer_trtllm": "flashinfer_trtllm",
}
"""What names the kernels of a backend in a table, by vLLM's name of it."""
CUTLASS = "flashinfer_cutlass"


def expert_surface(
    rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float
) -> tuple[Surface, HeldOut]:
    """Fit grouped products: num_tokens, hidden_size, inter_size, topk, num_experts, latency.

    Gate, up and down of every expert, unevenly chosen; tensor-parallel splits, no expert parallel.
    """
    rows = _whole_columns(rows)
    rows = _tuned(_of_one_kernel(rows[rows.width >= NARROWEST_EXPERT]))
    return _fitted(rows, gpu, compute, l2_bytes)


def small_tile_surface(
    rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float
) -> tuple[Surface, HeldOut] | None:
    """Fit those that Triton computed in the default configuration of vLLM before 0.17.

    That is the shapes of these versions' tables that had no tuned one. None: there are none.
    """
    rows = _whole_columns(rows[rows.kernel_source.str.contains(BACKENDS["triton"])])
    shapes = rows[["version", "num_experts", "width"]].itertuples(index=False)
    untuned = [
        takes_small_tiles(gpu, compute, experts, width, version)
        for version, experts, width in shapes
    ]
    rows = rows[np.array(untuned, dtype=bool)]
    rows = rows[rows.width >= NARROWEST_SMALL]
    if rows.empty:
        return None
    return _fitted(fastest(rows, EXPERT_KEYS), gpu, compute, l2_bytes)


def _whole_columns(rows: "DataFrame") -> "DataFrame":
    """Tensor-parallel splits into whole columns."""
    rows = rows[rows.moe_ep_size == 1].assign(width=rows.inter_size / rows.moe_tp_size)
    return rows[rows.width == rows.width.round()]


def _fitted(rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float) -> tuple[Surface, HeldOut]:
    tokens, hidden, chosen, experts, width = (rows[key].to_numpy(float) for key in EXPERT_KEYS)
    pairs = tokens * chosen
    bound_s, weight_bytes, moved = _bounds(rows, gpu, SCHEMES[compute])
    points = {
        "rows": pairs / experts,
        "width": expert_size(width, hidden),
        "experts": experts,
    }
    seconds = from_memory(rows.latency.to_numpy(float), weight_bytes, moved, gpu, l2_bytes)
    shapes = (hidden * 1e5 + width) * 1e3 + experts
    if len(np.unique(shapes)) < FEW_SHAPES:
        shapes = shapes * 1e6 + tokens
    return fit_and_check(EXPERT_AXES, points, bound_s / seconds, shapes)


def other_backends(
    rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float, surface: Surface
) -> tuple[str, dict[str, tuple[Surface, HeldOut]]]:
    """Return whose kernels ``surface`` is, and surfaces of the backends that it is not.

    Of the fastest backend is ``surface``. Triton was timed like it. FlashInfer's CUTLASS was timed
    with whole experts only: of half of them beside Triton's time of the same half.

    Args:
        rows: as ``expert_surface`` takes them, expert parallel included.
        gpu: see there.
        compute: see there.
        l2_bytes: see there.
        surface: what it returned.
    """
    of = {name: rows[rows.kernel_source.str.contains(own)] for name, own in BACKENDS.items()}
    parts = {name: part[part.moe_ep_size == 1] for name, part in of.items()}
    first = "flashinfer_trtllm" if len(parts["flashinfer_trtllm"]) else "triton"
    found = {}
    if first != "triton" and len(parts["triton"]):
        found["triton"] = expert_surface(parts["triton"], gpu, compute, l2_bytes)
    halves = {name: fastest(_halved(of[name]), EXPERT_KEYS) for name in ("triton", CUTLASS)}
    both = halves["triton"].merge(halves[CUTLASS], on=EXPERT_KEYS, suffixes=("", "_other"))
    if first == "triton" and len(both):
        tokens, hidden, chosen, experts, width = (both[key].to_numpy(float) for key in EXPERT_KEYS)
        points = {
            "rows": tokens * chosen / experts,
            "width": expert_size(width, hidden),
            "experts": experts / 2,
        }
        shares = surface(**points) * (both.latency / both.latency_other).to_numpy(float)
        shapes = (hidden * 1e5 + width) * 1e3 + experts
        found[CUTLASS] = fit_and_check(EXPERT_AXES, points, shares, shapes)
    return first, found


def _halved(rows: "DataFrame") -> "DataFrame":
    """Of ranks that hold half of the experts."""
    rows = rows[(rows.moe_ep_size == 2) & (rows.moe_tp_size == 1)]
    return rows.assign(width=rows.inter_size)


def _bounds(rows: "DataFrame", gpu: Gpu, scheme: Scheme | None) -> tuple[Floats, Floats, Floats]:
    """Roofline, bytes of weights and all bytes of every row, as a simulation counts them."""
    weights = uniform(scheme, "", None, EXPERTS) if scheme is not None else PLAIN
    share = Share((0,), replace(precision(), weights=weights))
    found = np.zeros((3, len(rows)))
    shapes = rows[EXPERT_KEYS[1:]].to_numpy(int)
    for shape in np.unique(shapes, axis=0):
        at = (shapes == shape).all(axis=1)
        hidden, chosen, experts, width = shape.tolist()
        mixture = Experts(hidden_size=hidden, num_experts=experts, per_token=chosen, width=width)
        tokens = rows.num_tokens.to_numpy(float)[at]
        (one,) = (each for each in mixture.operators(tokens, share) if each.name == "experts")
        found[:, at] = product_bound_s(one, gpu), one.weight_bytes, one.bytes
    bound_s, weight_bytes, moved = found
    return bound_s, weight_bytes, moved


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
