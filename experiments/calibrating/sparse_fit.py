"""Fits kernels of sparse latent attention (DSA) to tables of whole attention layers.

As for latent attention a layer's matrix products, those of its index included, and its small
kernels are taken off. What decoding takes hardly depends on the chosen positions, which are always
as many, but on the keys that the index scores: 132 bytes of each earlier position.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.kernel_fit import DECODE_SEQUENCES, affine, fastest
from experiments.calibrating.latent_fit import (
    DECODE_AXES,
    LEAST_PART,
    PREFILL_AXES,
    LayerOf,
    one_layer,
    products_s,
)
from experiments.calibrating.surface_fit import check, fit_surface, held_out
from hardware.calibration import DATASHEET
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.modelled import Roofline
from hardware.prices.surface import Surface
from model.mixers.latent import LatentAttention
from model.spec import load_spec

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Floats = npt.NDArray[np.float64]

MODELS = {"deepseek-ai/DeepSeek-V3.2": "deepseek-v3.2", "zai-org/GLM-5": "glm-5"}
"""Of the tables, and of the catalogue."""
CHOSEN = 2048
"""Positions that the index chooses; shorter contexts take as long."""


def sparse_layer(model: str) -> LayerOf:
    """Return the layer of a model of the catalogue that has an index, by heads of the rank."""
    mixers = (kind.mixer for kind in load_spec(model).layers)
    layer = next(each for each in mixers if isinstance(each, LatentAttention) and each.index)
    return lambda heads: replace(layer, num_heads=heads)


def sparse_decode(
    rows: "DataFrame", kernels: Kernels, gpu: Gpu, l2_bytes: float, around: "Series | None"
) -> tuple[DecodeKernel, HeldOut]:
    """Fit decoding: model, batch_size, step (positions less one), num_heads, latency of a layer."""
    rows = fastest(rows, ["model", "batch_size", "step", "num_heads"])
    rows = rows[rows.batch_size.isin(DECODE_SEQUENCES) & (rows.step >= CHOSEN / 2)].copy()
    entry = sparse_layer("glm-5")(1).caches[-1].entry_bytes(1.0, 1)
    rows["moved_s"] = rows.batch_size * (rows.step + 1) * entry / gpu.bandwidth_bytes_per_s
    _take_off(rows, rows.batch_size.to_numpy(float), kernels, gpu, around)
    rows["num_key_value_heads"], rows["group"] = 1, rows.num_heads
    short = rows.step <= CHOSEN
    cold = rows.moved_s > 1.3 * l2_bytes / gpu.bandwidth_bytes_per_s
    rows["used"] = short | cold
    rows.loc[short, "step"] = 1
    unseen = held_out(rows.num_heads.to_numpy(float) * 1e4 + rows.batch_size.to_numpy(float))
    _, predict = affine(rows[~unseen], DECODE_AXES)
    test = rows[unseen & rows.used]
    kernel, _ = affine(rows, DECODE_AXES)
    predicted = predict(test) + test.others_s.to_numpy()
    return kernel, check(predicted, test.layer_s.to_numpy())


def sparse_prefill(
    rows: "DataFrame", kernels: Kernels, gpu: Gpu, kv_numbers: str, around: "Series | None"
) -> tuple[Surface, HeldOut]:
    """Fit whole prompts: model, batch_size, isl, num_heads, latency of a layer."""
    rows = fastest(rows[rows.isl > 1], ["model", "batch_size", "isl", "num_heads"]).copy()
    batch, tokens, heads = (
        rows[name].to_numpy(float) for name in ("batch_size", "isl", "num_heads")
    )
    _take_off(rows, batch * tokens, kernels, gpu, around)
    bound_s = batch * np.array(list(_bounds(rows, gpu, kv_numbers)))
    shares = np.minimum(bound_s / rows.seconds.to_numpy(), 1.0)
    points = {"rows": batch * tokens, "positions": (tokens + 1) / 2, "heads": heads}
    unseen = held_out(heads * 1e6 + batch * 1e5 + tokens)
    seen = {name: at[~unseen] for name, at in points.items()}
    trial = fit_surface(PREFILL_AXES, seen, shares[~unseen], 1.0)
    reached = trial(**{name: at[unseen] for name, at in points.items()})
    predicted = bound_s[unseen] / reached + rows.others_s.to_numpy()[unseen]
    surface = fit_surface(PREFILL_AXES, points, shares, 1.0)
    return surface, check(predicted, rows.layer_s.to_numpy()[unseen])


def _take_off(
    rows: "DataFrame", tokens: Floats, kernels: Kernels, gpu: Gpu, around: "Series | None"
) -> None:
    """Add what a layer takes, what its products and small kernels do, and what is left."""
    rows["layer_s"] = rows.latency * 1e-3
    others = np.zeros(len(rows))
    for published, model in MODELS.items():
        mine = (rows.model == published).to_numpy()
        heads = rows.num_heads.to_numpy(float)[mine]
        others[mine] = products_s(kernels, gpu, heads, tokens[mine], layer_of=sparse_layer(model))
    if around is not None:
        others += around.loc[:, 1].reindex(rows.num_heads).fillna(around.median()).to_numpy()
    rows["others_s"] = others
    rows["seconds"] = np.maximum(rows.layer_s - others, LEAST_PART * rows.layer_s)


def _bounds(rows: "DataFrame", gpu: Gpu, kv_numbers: str) -> Iterable[float]:
    """The roofline of one prompt of every row."""
    roofline = Roofline(gpu, DATASHEET, fused=True)
    known = {
        (model, heads): roofline.chunks(
            sparse_layer(MODELS[model])(heads), one_layer(kv_numbers), 0.0
        )
        for model, heads in rows[["model", "num_heads"]].drop_duplicates().to_numpy().tolist()
    }
    for model, heads, tokens in rows[["model", "num_heads", "isl"]].to_numpy().tolist():
        yield known[model, heads].seconds(tokens, 0)
