"""What pictures of rooflines share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.reporting.page.figures import Axis, Bar, Figure, Limit
from hardware.gpu import Gpu
from hardware.roofline import ridge_flops_per_byte

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("-", "--", ":")
"""Dashes, in the order of those of the page."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")


def ridge(gpu: Gpu) -> float:
    """Return the intensity in FLOP/byte at which 16-bit arithmetic takes over."""
    return ridge_flops_per_byte(gpu.peak("fp16"), gpu.bandwidth_bytes_per_s)


def roofline_chart(gpu: Gpu, points: Mapping[str, float]) -> Figure:
    """Return intensities as bars, with the ridge of ``gpu`` as a line across them."""
    at = ridge(gpu)
    bars = [
        Bar(
            name, intensity, text=f"{name}: {intensity:,.4g} FLOP/byte, "
            f"{'arithmetic' if intensity > at else 'memory'} binds",
        )
        for name, intensity in points.items()
    ]  # fmt: skip
    domain = (min(at, *points.values()) / 2, max(at, *points.values()) * 2)
    return Figure(
        "bars", f"Intensity beside the ridge of {gpu.name}",
        Axis("intensity, FLOP/byte", log=True, domain=domain), bars, limits=ridges([gpu]),
    )  # fmt: skip


def ridges(gpus: Sequence[Gpu]) -> list[Limit]:
    """Return each GPU's ridge as a line of a chart."""
    return [Limit(ridge(gpu), f"{gpu.name} {ridge(gpu):.0f}", "beside") for gpu in gpus]


def draw_ridges(axes: "Axes", gpus: Sequence[Gpu]) -> None:
    """Draw each GPU's ridge as a horizontal line with its name at the right end."""
    transform = axes.get_yaxis_transform()
    for gpu in gpus:
        axes.axhline(ridge(gpu), color="#555555", linestyle=(0, (4, 2)), linewidth=0.9)
        axes.text(
            0.015, ridge(gpu), f"{gpu.name} {ridge(gpu):.0f}", transform=transform, fontsize=7,
            color="#333333", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def draw_roofline(axes: "Axes", gpu: Gpu, points: Mapping[str, float]) -> None:
    """Draw the roofline of ``gpu`` and set every point, an intensity, on it; legend outside."""
    import numpy as np

    peak, bandwidth = gpu.peak("fp16"), gpu.bandwidth_bytes_per_s
    low, high = (
        min(*points.values(), 0.1 * peak / bandwidth),
        max(*points.values(), 4 * peak / bandwidth),
    )
    x: Any = np.geomspace(low / 2, high * 2, 200)
    axes.plot(x, np.minimum(peak, x * bandwidth) / 1e12, color="#333333", linewidth=1.6)
    axes.axvline(peak / bandwidth, color="#555555", linestyle=(0, (4, 2)), linewidth=0.9)
    axes.annotate(
        f"ridge of {gpu.name}:\n{peak / bandwidth:.0f} FLOP/byte", (peak / bandwidth, 0.02),
        xycoords=("data", "axes fraction"), xytext=(5, 0), textcoords="offset points", fontsize=7,
    )  # fmt: skip
    for index, (name, intensity) in enumerate(points.items()):
        hollow = {"markerfacecolor": "none", "markersize": 10, "markeredgewidth": 1.6}
        text = f"{intensity:,.0f}" if intensity >= 100 else f"{intensity:.3g}"
        axes.plot(
            intensity, min(peak, intensity * bandwidth) / 1e12, linestyle="none",
            marker=MARKERS[index % len(MARKERS)], color=f"C{index % 8}", label=f"{name}: {text}",
            **(hollow if index >= 8 else {"markersize": 7}),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("intensity in FLOP/byte")
    axes.set_ylabel("attainable TFLOP/s")
