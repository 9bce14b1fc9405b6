"""Fits kernels of attention that chooses what it reads to tables of whole attention layers.

As for latent attention a layer's matrix products, those of its index included, and its small
kernels are taken off. What decoding takes hardly depends on the chosen positions, which are always
as many, but on the keys that the index scores: 132 bytes of each earlier position (DSA).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.kernel_fit import DECODE_SEQUENCES, affine, fastest
from experiments.calibrating.latent_fit import DECODE_AXES, LEAST_PART, PREFILL_AXES, one_layer
from experiments.calibrating.layer_families import LayerFamily
from experiments.calibrating.surface_fit import check, fit_surface, held_out
from hardware.calibration import DATASHEET
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut, Kernels
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.modelled import Roofline
from hardware.prices.surface import Surface
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timed:
    """What whole layers were timed on, and as what they are priced."""

    family: LayerFamily
    kernels: Kernels
    """Matrix products of the GPU."""
    gpu: Gpu
    around: "Series | None"
    """Seconds of small kernels (``experiments.calibrating.latent_fit.around_s``)."""


def sparse_decode(
    rows: "DataFrame", timed: Timed, kv_numbers: str, l2_bytes: float
) -> tuple[DecodeKernel, HeldOut]:
    """Fit decoding: model, batch_size, step (positions less one), num_heads, latency of a layer."""
    family, gpu = timed.family, timed.gpu
    rows = fastest(rows, ["model", "batch_size", "step", "num_heads"])
    rows = rows[rows.batch_size.isin(DECODE_SEQUENCES) & (rows.step >= family.chosen / 2)].copy()
    entry = family.position_bytes(kv_numbers)
    rows["moved_s"] = rows.batch_size * (rows.step + 1) * entry / gpu.bandwidth_bytes_per_s
    _take_off(rows, rows.batch_size.to_numpy(float), timed)
    rows["num_key_value_heads"], rows["group"] = 1, rows.num_heads
    short = rows.step <= family.chosen
    cold = rows.moved_s > 1.3 * l2_bytes / gpu.bandwidth_bytes_per_s
    rows["used"] = short | cold
    rows.loc[short, "step"] = 1
    unseen = held_out(rows.num_heads.to_numpy(float) * 1e4 + rows.batch_size.to_numpy(float))
    _, predict = affine(rows[~unseen], DECODE_AXES)
    test = rows[unseen & rows.used]
    kernel, _ = affine(rows, DECODE_AXES)
    predicted = predict(test) + test.others_s.to_numpy()
    return kernel, check(predicted, test.layer_s.to_numpy())


def sparse_prefill(rows: "DataFrame", timed: Timed, kv_numbers: str) -> tuple[Surface, HeldOut]:
    """Fit whole prompts: model, batch_size, isl, num_heads, latency of a layer."""
    rows = fastest(rows[rows.isl > 1], ["model", "batch_size", "isl", "num_heads"]).copy()
    batch, tokens, heads = (
        rows[name].to_numpy(float) for name in ("batch_size", "isl", "num_heads")
    )
    _take_off(rows, batch * tokens, timed)
    bound_s = batch * np.array(list(_bounds(rows, timed, kv_numbers)))
    shares = np.minimum(bound_s / rows.seconds.to_numpy(), 1.0)
    points = {"rows": batch * tokens, "positions": (tokens + 1) / 2, "heads": heads}
    unseen = held_out(heads * 1e6 + batch * 1e5 + tokens)
    seen = {name: at[~unseen] for name, at in points.items()}
    trial = fit_surface(PREFILL_AXES, seen, shares[~unseen], 1.0)
    reached = trial(**{name: at[unseen] for name, at in points.items()})
    predicted = bound_s[unseen] / reached + rows.others_s.to_numpy()[unseen]
    surface = fit_surface(PREFILL_AXES, points, shares, 1.0)
    return surface, check(predicted, rows.layer_s.to_numpy()[unseen])


def _take_off(rows: "DataFrame", tokens: Floats, timed: Timed) -> None:
    """Add what a layer takes, what its products and small kernels do, and what is left."""
    rows["layer_s"] = rows.latency * 1e-3
    others, family = np.zeros(len(rows)), timed.family
    shapes = rows[["model", "num_heads"]].drop_duplicates().to_numpy().tolist()
    for model, heads in shapes:
        mine = ((rows.model == model) & (rows.num_heads == heads)).to_numpy()
        for operator in family.layer(model, heads).operators(tokens[mine], one_layer("bf16")):
            if operator.gemm is not None:
                others[mine] += timed.kernels.gemm_s(operator, timed.gpu)
    around = timed.around
    if around is not None:
        others += around.loc[:, 1].reindex(rows.num_heads).fillna(around.median()).to_numpy()
    rows["others_s"] = others
    rows["seconds"] = np.maximum(rows.layer_s - others, LEAST_PART * rows.layer_s)


def _bounds(rows: "DataFrame", timed: Timed, kv_numbers: str) -> Iterable[float]:
    """The roofline of one prompt of every row."""
    roofline, family = Roofline(timed.gpu, DATASHEET, fused=True), timed.family
    known = {
        (model, heads): roofline.chunks(family.layer(model, heads), one_layer(kv_numbers), 0.0)
        for model, heads in rows[["model", "num_heads"]].drop_duplicates().to_numpy().tolist()
    }
    for model, heads, tokens in rows[["model", "num_heads", "isl"]].to_numpy().tolist():
        yield known[model, heads].seconds(tokens, 0)
