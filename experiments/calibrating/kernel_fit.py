"""Fits the surfaces of ``hardware.prices.kernels`` to tables of times, operator by operator."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from experiments.calibrating.surface_fit import (
    LEAST_LOG,
    POSSIBLE,
    ROUNDS,
    Axes,
    Floats,
    check,
    fit_and_check,
    fit_surface,
    held_out,
)
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.surface import Surface

if TYPE_CHECKING:
    from pandas import DataFrame


GEMM_AXES: Axes = {
    "m": (1, 4, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 8192),
    "n": (256, 1024, 2048, 4096, 8192, 16384, 65536),
    "k": (256, 1024, 2048, 4096, 8192, 16384),
}
PREFILL_AXES: Axes = {
    "rows": (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304),
    "positions": (8, 32, 128, 512, 1024, 2048, 8192),
    "group": (1, 4, 16),
}
DECODE_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DECODE_GROUPS = (1, 2, 4, 8, 16)
DECODE_AXES: Axes = {
    "sequences": DECODE_SEQUENCES,
    "kv_heads": (1, 2, 4, 8),
    "group": DECODE_GROUPS,
}
NUMBER_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5, "fp8_block": 1.0}
HEAD_DIM = 128
SHARE_LIMIT = 0.97
"""Most of its bandwidth that a kernel is believed to reach once the L2 cache does not help."""


def fastest(rows: "DataFrame", keys: list[str]) -> "DataFrame":
    """One row per combination of ``keys``: the fastest time of any version's median."""
    by = [*keys, "version"] if "version" in rows else keys
    return rows.groupby(by)["latency"].median().groupby(level=keys).min().reset_index()


def from_memory(
    latency_ms: Floats, weight_bytes: Floats, moved: Floats, gpu: Gpu, l2_bytes: float
) -> Floats:
    """Return the seconds of kernels whose weights come from memory, as in an engine.

    A table times one kernel again and again: weights below the L2 cache's size are read from there.
    They take at least as long as at the rate that kernels reach whose weights pass the cache.
    """
    seconds = latency_ms * 1e-3
    read_s = weight_bytes / gpu.bandwidth_bytes_per_s
    cold = (weight_bytes > 2 * l2_bytes) & (weight_bytes > 0.8 * moved)
    rate = float(np.quantile((read_s / seconds)[cold], 0.9)) if cold.any() else SHARE_LIMIT
    return np.maximum(seconds, read_s / min(rate, SHARE_LIMIT))


BLOCK_ROWS = 4
"""CUTLASS multiplies blocks of fp8 in multiples of so many rows, as captured steps are; of other
rows another kernel takes some 5 us more."""
LAUNCH_MS = 0.03
"""What no version of a small product takes on the GPU: longer ones wait for their launches."""


def of_gpu(rows: "DataFrame") -> "DataFrame":
    """Leave out products that the host's launches bound: the small ones of some versions.

    A version is such a one if a hundredth of its products, the fastest, take longer than any small
    kernel does; of its others those count that take twice as long.
    """
    if "version" not in rows:
        return rows
    floors = rows.groupby("version")["latency"].transform(lambda each: each.quantile(0.01))
    return rows[(floors < LAUNCH_MS) | (rows.latency > 3 * floors)]


def gemm_surface(
    rows: "DataFrame", gpu: Gpu, compute: str, l2_bytes: float
) -> tuple[Surface, HeldOut]:
    """Fit matrix products; ``rows`` has m, n, k and latency (ms) of one arithmetic."""
    rows = of_gpu(rows[(rows.n >= GEMM_AXES["n"][0]) & (rows.k >= GEMM_AXES["k"][0])])
    if compute == "fp8_block":
        rows = rows[(rows.m % BLOCK_ROWS == 0) | (rows.m < BLOCK_ROWS)]
    rows = fastest(rows, ["m", "n", "k"])
    m, n, k = (rows[name].to_numpy(float) for name in "mnk")
    weight_bytes = NUMBER_BYTES[compute] * n * k
    moved = weight_bytes + 2.0 * m * (n + k)
    peak = gpu.peak(compute.removesuffix("_block"))
    bound_s = np.maximum(2 * m * n * k / peak, moved / gpu.bandwidth_bytes_per_s)
    seconds = from_memory(rows.latency.to_numpy(float), weight_bytes, moved, gpu, l2_bytes)
    points = {"m": m, "n": n, "k": k}
    surface, check = fit_and_check(GEMM_AXES, points, bound_s / seconds, n * 1e6 + k)
    return rising(surface, gpu, compute), check


def rising(surface: Surface, gpu: Gpu, compute: str) -> Surface:
    """Return shares of matrix products of which fewer rows take no longer than more.

    They could be filled up. Where a table says otherwise the few were timed with their launches
    (fp8 of one row on Blackwell: 40% above two), or without a tuned kernel.
    """
    axes = [np.array(surface.axes[name]) for name in "mnk"]
    m, n, k = np.meshgrid(*axes, indexing="ij")
    moved = NUMBER_BYTES[compute] * n * k + 2.0 * m * (n + k)
    peak = gpu.peak(compute.removesuffix("_block"))
    bound_s = np.maximum(2 * m * n * k / peak, moved / gpu.bandwidth_bytes_per_s)
    seconds = bound_s / np.array(surface.values).reshape(m.shape)
    least_s = np.minimum.accumulate(seconds[::-1], axis=0)[::-1]
    return Surface(axes=surface.axes, values=tuple((bound_s / least_s).ravel().tolist()))


PREFILL_KEYS = ["batch_size", "isl", "num_heads", "num_key_value_heads"]


def prefill_possible(rows: "DataFrame", gpu: Gpu) -> bool:
    """Tell whether the times of long prompts respect the GPU's peak."""
    rows = rows[rows.isl >= 1024]
    batch, tokens, heads, _ = (rows[name].to_numpy(float) for name in PREFILL_KEYS)
    flops = 4 * HEAD_DIM * heads * batch * tokens * (tokens + 1) / 2
    beyond = flops / gpu.peak("bf16") > POSSIBLE * rows.latency.to_numpy(float) * 1e-3
    return bool(beyond.mean() < 0.01) if len(rows) else True


def prefill_surface(rows: "DataFrame", gpu: Gpu) -> tuple[Surface, HeldOut]:
    """Fit attention of whole prompts: batch_size, isl, num_heads, num_key_value_heads, latency."""
    rows = fastest(rows[rows.isl > 1], PREFILL_KEYS)
    batch, tokens, heads, kv_heads = (rows[name].to_numpy(float) for name in PREFILL_KEYS)
    flops = 4 * HEAD_DIM * heads * batch * tokens * (tokens + 1) / 2
    moved = 2 * HEAD_DIM * batch * tokens * 2 * (heads + kv_heads)
    bound_s = np.maximum(flops / gpu.peak("bf16"), moved / gpu.bandwidth_bytes_per_s)
    points = {
        "rows": batch * tokens * heads,
        "positions": (tokens + 1) / 2,
        "group": heads / kv_heads,
    }
    # Queries, keys and values were just written: an engine finds them in the L2 cache as well.
    shares = np.minimum(bound_s / (rows.latency.to_numpy(float) * 1e-3), 1.0)
    return fit_and_check(PREFILL_AXES, points, shares, (batch * 1000 + heads) * 1000 + kv_heads)


def decode_kernel(
    rows: "DataFrame", gpu: Gpu, kv_bytes: float, l2_bytes: float
) -> tuple[DecodeKernel, HeldOut]:
    """Fit attention of decoding sequences: batch_size, step, heads, latency.

    ``step``: KV positions less one.

    The tables time one kernel again and again, so that a context below the L2 cache's size is read
    from there. In an engine it comes from memory: only contexts that pass the cache, and those that
    hardly count, are fitted and predicted.
    """
    rows = rows[rows.batch_size.isin(DECODE_SEQUENCES)].copy()
    rows["moved_s"] = (
        rows.batch_size * (rows.step + 1) * rows.num_key_value_heads
        * (2 * HEAD_DIM * kv_bytes / gpu.bandwidth_bytes_per_s)
    )  # fmt: skip
    rows["seconds"] = rows.latency * 1e-3
    rows["group"] = np.minimum(rows.num_heads / rows.num_key_value_heads, DECODE_GROUPS[-1])
    cold = rows.moved_s > 1.3 * l2_bytes / gpu.bandwidth_bytes_per_s
    rows["used"] = (rows.step < 32) | cold
    unseen = held_out(rows.num_heads.to_numpy() * 1000 + rows.num_key_value_heads.to_numpy())
    _, predict = affine(rows[~unseen], DECODE_AXES)
    test = rows[unseen & rows.used]
    kernel, _ = affine(rows, DECODE_AXES)
    return kernel, check(predict(test), test.seconds.to_numpy())


def affine(rows: "DataFrame", axes: Axes) -> tuple[DecodeKernel, Callable[["DataFrame"], Floats]]:
    """Fit every (sequences, KV heads, group); return how the surfaces predict rows, too.

    ``rows``: batch_size, num_key_value_heads, group, step, seconds, moved_s (reading the cache at
    the full bandwidth) and used (whether a context counts, that is not read from the L2 cache).
    """
    keys = [rows.batch_size, rows.num_key_value_heads, rows.group]
    cells = {key: _line(part) for key, part in rows.groupby(keys)}
    known = [(key, line) for key, line in cells.items() if line is not None]
    at = np.array([key for key, _ in known], float)
    points = dict(zip(axes, at.T, strict=True))
    floor_s, base_s, share = np.array([line for _, line in known]).T
    kernel = DecodeKernel(
        floor_s=fit_surface(axes, points, floor_s),
        base_s=fit_surface(axes, points, base_s),
        bytes_share=fit_surface(axes, points, share, SHARE_LIMIT),
    )

    def predict(test: "DataFrame") -> Floats:
        """Return seconds of the kernel at each row of a table."""
        where = {
            "sequences": test.batch_size.to_numpy(),
            "kv_heads": test.num_key_value_heads.to_numpy(),
            "group": test.group.to_numpy(),
        }
        read_s = test.moved_s.to_numpy() / kernel.bytes_share(**where)
        return np.maximum(kernel.floor_s(**where), kernel.base_s(**where) + read_s)

    return kernel, predict


def _line(rows: "DataFrame") -> tuple[float, float, float] | None:
    """Floor, base (seconds) and share of the bandwidth of one cell; None if undetermined.

    Base (at most the floor) and share are those of the contexts that pass the L2 cache, by least
    absolute errors; where too few do, a line through the floor.
    """
    from scipy.optimize import lsq_linear

    short, long = rows[rows.step < 32], rows[rows.used & (rows.step >= 32)]
    if not len(short) or len(rows) < 4:
        return None
    floor_s = float(short.seconds.median())
    if long.step.nunique() < 3:  # nothing passes the cache
        long = rows[rows.step >= 1000]
        if long.step.nunique() < 2:
            return None
        slope = float(((long.seconds - floor_s) / long.moved_s).median())
        return floor_s, floor_s, 1.0 / max(slope, 1.0 / SHARE_LIMIT)
    seconds, moved_s = long.seconds.to_numpy(), long.moved_s.to_numpy()
    design = np.column_stack((np.ones(len(seconds)), moved_s)) / seconds[:, None]
    weights = np.ones(len(seconds))
    least = (0.2 * floor_s, 1.0 / SHARE_LIMIT)
    base_s, slope = 0.0, 0.0
    for _ in range(ROUNDS):
        found = lsq_linear(design * weights[:, None], weights, bounds=(least, (floor_s, np.inf)))
        base_s, slope = found.x.tolist()
        errors = np.abs(design @ found.x - 1.0)
        weights = np.sqrt(LEAST_LOG / np.maximum(errors, LEAST_LOG))
    return floor_s, base_s, 1.0 / slope


def all_reduce_surface(custom: "DataFrame | None", nccl: "DataFrame") -> tuple[Surface, HeldOut]:
    """Return seconds by ranks and bytes: the faster of vLLM's own all-reduce and NCCL's.

    ``custom``: num_gpus, message_size (bytes), latency, replayed from CUDA graphs. Nodes are every
    other size, so that the sizes between can be checked.
    """
    rows = nccl[["num_gpus", "message_size", "latency"]]
    if custom is not None:
        both = rows.merge(custom, on=["num_gpus", "message_size"], how="outer", suffixes=("", "_c"))
        both["latency"] = both[["latency", "latency_c"]].min(axis=1)
        rows = both
    rows = fastest(rows, ["num_gpus", "message_size"]).sort_values("message_size")
    # A smaller buffer takes no longer than a larger one: what says so was disturbed.
    backwards = rows[::-1].groupby("num_gpus")["latency"].cummin()
    rows["latency"] = backwards[::-1]
    ranks = tuple(sorted(rows.num_gpus.unique().tolist()))
    complete = rows.groupby("message_size").size() == len(ranks)
    sizes: list[float] = sorted(complete[complete].index.astype(float).tolist())
    points = {"ranks": rows.num_gpus.to_numpy(float), "bytes": rows.message_size.to_numpy(float)}
    seconds = rows.latency.to_numpy(float) * 1e-3

    def table(nodes: list[float]) -> Surface:
        """Return the surface through those message sizes, bytes."""
        chosen = rows[rows.message_size.isin(nodes)].sort_values(["num_gpus", "message_size"])
        values = tuple((chosen.latency * 1e-3).tolist())
        return Surface(axes={"ranks": ranks, "bytes": tuple(nodes)}, values=values)

    coarse = [*sizes[:-1:2], sizes[-1]]
    between = rows.message_size.isin(set(sizes) - set(coarse)).to_numpy()
    predicted = table(coarse)(**{name: at[between] for name, at in points.items()})
    return table(sizes), check(predicted, seconds[between])
