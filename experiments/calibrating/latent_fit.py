"""Fits kernels of latent attention (MLA) to tables of whole attention layers.

The tables time a layer of DeepSeek-V3 from hidden state to hidden state, on one rank with a part of
the heads. What its matrix products cost by the surfaces of the same GPU is taken off, so that a
simulation, which prices them by itself, adds up to what was measured. Off go, too, the kernels
around attention (norms, rotation, copies): the layer runs them one by one, an engine has most of
them fused by its compiler, and its constants hold what is left (``layer_overhead_s``). How long
they take follows from tables of the decoding kernel alone, and of the products with the heads'
parts of ``kv_b_proj`` before and behind it. On Hopper that is some 40 us a layer, on Blackwell 3.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.kernel_fit import DECODE_SEQUENCES, affine, fastest
from experiments.calibrating.surface_fit import Axes, check, fit_surface, held_out
from hardware.calibration import DATASHEET
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.modelled import Roofline
from hardware.prices.surface import Surface
from model.mixers.latent import EXPANDS, LatentAttention
from model.precision import precision
from model.share import Share

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Floats = npt.NDArray[np.float64]

HEADS = (1, 2, 4, 8, 16, 32, 64, 128)
DECODE_AXES: Axes = {"sequences": DECODE_SEQUENCES, "kv_heads": (1,), "group": HEADS}
PREFILL_AXES: Axes = {
    "rows": (64, 128, 256, 512, 1024, 2048, 8192, 32768, 131072),
    "positions": (8, 32, 128, 512, 1024, 2048, 4096, 16384),
    "heads": HEADS[::2] + HEADS[-1:],
}
LEAST_PART = 0.05
"""Of a layer's time that is not its products', whatever those are said to cost."""
COLD = 1.3
"""Contexts of so many L2 caches are read from memory."""


def latent_layer(heads: int) -> LatentAttention:
    """Return the attention of DeepSeek-V3 with so many heads, as the tables have it."""
    return LatentAttention(
        hidden_size=7168,
        num_heads=heads,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
    )


def one_layer(kv_numbers: str) -> Share:
    """Return one layer on one rank, in 16 bits, with a cache of these numbers."""
    return Share((0,), precision(kv_cache_dtype="fp8" if kv_numbers == "fp8" else "auto"))


LayerOf = Callable[[int], LatentAttention]
"""The layer that a table has, with so many heads."""


def products_s(
    kernels: Kernels,
    gpu: Gpu,
    heads: Floats,
    rows: Floats,
    *,
    layer_of: LayerOf = latent_layer,
    without: str = "",
) -> Floats:
    """Return the seconds of a layer's matrix products, by heads of the rank and rows."""
    seconds = np.zeros(len(rows))
    for count in np.unique(heads):
        mine = heads == count
        for operator in layer_of(int(count)).operators(rows[mine], one_layer("bf16")):
            if operator.gemm is not None and operator.name != without:
                seconds[mine] += kernels.gemm_s(operator, gpu)
    return seconds


CELL = ["num_heads", "batch_size"]
SHORT_STEP = 32
"""Contexts below it hardly count."""


def around_s(
    layers: "DataFrame",
    alone: "DataFrame | None",
    absorbed: "DataFrame | None",
    kernels: Kernels,
    gpu: Gpu,
) -> "Series | None":
    """Return the seconds of a layer's small kernels, by heads of the rank and sequences.

    Args:
        layers: decoding layers with a cache in 16 bits.
        alone: their attention kernel alone: batch_size, step, num_heads, latency.
        absorbed: products with parts of ``kv_b_proj``: op_name (before or behind), num_tokens,
            num_heads, latency.
        kernels: the GPU's matrix products.
        gpu: of the catalogue.
    """
    if alone is None or absorbed is None:
        return None
    layer_ms, kernel_ms = (
        fastest(rows[rows.step < SHORT_STEP], [*CELL, "step"]).groupby(CELL)["latency"].median()
        for rows in (layers, alone)
    )
    each = absorbed.rename(columns={"num_tokens": "batch_size"})
    ends_ms = each.groupby([*CELL, "op_name"])["latency"].min().unstack().sum(axis=1)
    found = (layer_ms - kernel_ms - ends_ms).dropna() * 1e-3
    heads, batch = (found.index.get_level_values(name).to_numpy(float) for name in CELL)
    others = products_s(kernels, gpu, heads, batch, without=EXPANDS)
    return (found - others).clip(lower=0.0)


def latent_decode(
    rows: "DataFrame",
    kernels: Kernels,
    gpu: Gpu,
    kv_numbers: str,
    l2_bytes: float,
    around: "Series | None" = None,
) -> tuple[DecodeKernel, HeldOut]:
    """Fit decoding: batch_size, step (positions less one), num_heads, latency of a whole layer.

    ``around``: see ``around_s``; None: all of a layer is taken for attention.
    """
    rows = fastest(rows, ["batch_size", "step", "num_heads"])
    rows = rows[rows.batch_size.isin(DECODE_SEQUENCES)].copy()
    entry = latent_layer(1).latent_size * one_layer(kv_numbers).precision.kv_bytes
    rows["moved_s"] = rows.batch_size * (rows.step + 1) * entry / gpu.bandwidth_bytes_per_s
    heads, batch = rows.num_heads.to_numpy(float), rows.batch_size.to_numpy(float)
    rows["layer_s"] = rows.latency * 1e-3
    rows["products_s"] = products_s(kernels, gpu, heads, batch)
    if around is not None:
        cells = list(zip(rows.num_heads, rows.batch_size, strict=True))
        rows["products_s"] += around.reindex(cells).fillna(around.median()).to_numpy()
    rows["seconds"] = np.maximum(rows.layer_s - rows.products_s, LEAST_PART * rows.layer_s)
    rows["num_key_value_heads"], rows["group"] = 1, rows.num_heads
    cold = rows.moved_s > COLD * l2_bytes / gpu.bandwidth_bytes_per_s
    rows["used"] = (rows.step < 32) | cold
    unseen = held_out(heads * 1e4 + batch)
    _, predict = affine(rows[~unseen], DECODE_AXES)
    test = rows[unseen & rows.used]
    kernel, _ = affine(rows, DECODE_AXES)
    predicted = predict(test) + test.products_s.to_numpy()
    return kernel, check(predicted, test.layer_s.to_numpy())


def latent_prefill(
    rows: "DataFrame",
    kernels: Kernels,
    gpu: Gpu,
    kv_numbers: str,
    around: "Series | None" = None,
) -> tuple[Surface, HeldOut]:
    """Fit whole prompts: batch_size, isl, num_heads, latency of a whole layer."""
    rows = fastest(rows[rows.isl > 1], ["batch_size", "isl", "num_heads"])
    batch, tokens, heads = (
        rows[name].to_numpy(float) for name in ("batch_size", "isl", "num_heads")
    )
    layer_s = rows.latency.to_numpy(float) * 1e-3
    products = products_s(kernels, gpu, heads, batch * tokens)
    if around is not None:
        products += around.loc[:, 1].reindex(heads).fillna(around.median()).to_numpy()
    own_s = np.maximum(layer_s - products, LEAST_PART * layer_s)
    bound_s = np.zeros(len(rows))
    for count in np.unique(heads):
        mine = heads == count
        chunks = Roofline(gpu, DATASHEET, fused=True).chunks(
            latent_layer(int(count)), one_layer(kv_numbers), 0.0
        )
        each = [chunks.seconds(int(length), 0) for length in tokens[mine]]
        bound_s[mine] = batch[mine] * np.array(each)
    points = {"rows": batch * tokens, "positions": (tokens + 1) / 2, "heads": heads}
    shares = np.minimum(bound_s / own_s, 1.0)
    unseen = held_out(heads * 1e6 + batch * 1e5 + tokens)
    seen = {name: at[~unseen] for name, at in points.items()}
    trial = fit_surface(PREFILL_AXES, seen, shares[~unseen], 1.0)
    reached = trial(**{name: at[unseen] for name, at in points.items()})
    predicted = bound_s[unseen] / reached + products[unseen]
    surface = fit_surface(PREFILL_AXES, points, shares, 1.0)
    return surface, check(predicted, layer_s[unseen])
