"""Fits kernels of layers with a state per sequence (the delta rule) to tables of kernel times.

Gated DeltaNet as Qwen3.5 has it, and Kimi Delta Attention. The tables time the scan over a prompt
and the update of a decoding sequence, without the products and convolutions around them.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.kernel_fit import DECODE_SEQUENCES, fastest
from experiments.calibrating.latent_fit import one_layer
from experiments.calibrating.surface_fit import Axes, check, fit_surface, held_out
from hardware.calibration import DATASHEET
from hardware.gpu import Gpu
from hardware.prices.kernels import HeldOut
from hardware.prices.mixer_kernels import DecodeKernel, MixerKernels
from hardware.prices.modelled import Roofline
from hardware.prices.surface import Surface
from model.mixers.delta import DeltaRule

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = npt.NDArray[np.float64]

HEADS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
DECODE_AXES: Axes = {"sequences": DECODE_SEQUENCES, "kv_heads": (1,), "group": HEADS}
PREFILL_AXES: Axes = {
    "rows": (1, 16, 64, 128, 256, 512, 1024, 4096, 16384, 131072),
    "positions": (1, 8, 64, 512, 4096, 16384),
    "heads": (2, 8, 32, 96),
}
CONVOLUTION = "conv"
"""In the names of kernels that are priced beside the state's."""
SHAPE = ["num_k_heads", "num_v_heads"]


def state_kernels(
    rows: "DataFrame", gpu: Gpu, *, decay_per_channel: bool
) -> tuple[MixerKernels, HeldOut, HeldOut]:
    """Fit both phases: phase, batch_size, seq_len, num_k_heads, num_v_heads, latency.

    Returns:
        The kernels, and how well updates and scans of shapes left out are predicted.
    """
    rows = rows[~rows.kernel_source.str.contains(CONVOLUTION) & (rows.num_v_heads >= HEADS[0])]
    update = fastest(rows[rows.phase == "generation"], ["batch_size", "num_v_heads"])
    scan = fastest(rows[rows.phase == "context"], ["batch_size", "seq_len", *SHAPE])
    decode, decoded = _update(update)
    prefill, scanned = _scan(scan, gpu, decay_per_channel=decay_per_channel)
    kernels = MixerKernels(decode={"bf16": decode}, prefill={"bf16": prefill})
    return kernels, decoded, scanned


def _update(rows: "DataFrame") -> tuple[DecodeKernel, HeldOut]:
    """Seconds by sequences and heads of the rank; there are no positions to read."""
    batch, heads = (rows[name].to_numpy(float) for name in ("batch_size", "num_v_heads"))
    seconds = rows.latency.to_numpy(float) * 1e-3
    points = {"sequences": batch, "kv_heads": np.ones(len(rows)), "group": heads}
    unseen = held_out(heads * 1e4 + batch)
    trial = fit_surface(DECODE_AXES, {name: at[~unseen] for name, at in points.items()},
                        seconds[~unseen])  # fmt: skip
    checked = check(trial(**{name: at[unseen] for name, at in points.items()}), seconds[unseen])
    surface = fit_surface(DECODE_AXES, points, seconds)
    whole = Surface(axes=surface.axes, values=(1.0,) * len(surface.values))
    return DecodeKernel(floor_s=surface, base_s=surface, bytes_share=whole), checked


def _scan(rows: "DataFrame", gpu: Gpu, *, decay_per_channel: bool) -> tuple[Surface, HeldOut]:
    """Share of the roofline by rows, tokens of a prompt and heads of the rank."""
    batch, tokens, heads = (
        rows[name].to_numpy(float) for name in ("batch_size", "seq_len", "num_v_heads")
    )
    roofline, share = Roofline(gpu, DATASHEET, fused=True), one_layer("bf16")
    bound_s = np.zeros(len(rows))
    shapes = rows[SHAPE].to_numpy(int)
    for shape in np.unique(shapes, axis=0):
        mine = (shapes == shape).all(axis=1)
        keys, values = shape.tolist()
        layer = DeltaRule(
            hidden_size=4096, num_key_heads=keys, num_value_heads=values, key_dim=128,
            value_dim=128, conv_kernel=4, decay_per_channel=decay_per_channel,
        )  # fmt: skip
        chunks = roofline.chunks(layer, share, 0.0)
        each = [chunks.seconds(int(length), 0) for length in tokens[mine]]
        bound_s[mine] = batch[mine] * np.array(each)
    seconds = rows.latency.to_numpy(float) * 1e-3
    shares = np.minimum(bound_s / seconds, 1.0)
    points = {"rows": batch * tokens, "positions": (tokens + 1) / 2, "heads": heads}
    unseen = held_out(heads * 1e6 + batch * 1e5 + tokens)
    trial = fit_surface(PREFILL_AXES, {name: at[~unseen] for name, at in points.items()},
                        shares[~unseen], 1.0)  # fmt: skip
    reached = trial(**{name: at[unseen] for name, at in points.items()})
    checked = check(bound_s[unseen] / reached, seconds[unseen])
    return fit_surface(PREFILL_AXES, points, shares, 1.0), checked
