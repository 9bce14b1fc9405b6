"""Intensity from AXPY over tiled matrix products to fused attention, on one roofline."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from experiments.reporting.page.figures import Axis, Series
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.attention import intensity
from experiments.texts.marks import draw_roofline, ridge, ridges, roofline_chart
from experiments.texts.models import wide_spec
from experiments.texts.page import LECTURE, PROJECT, Page, Picture, Row, TableStudy
from hardware.gpu import Gpu, load_gpu
from model.ops import decode_attention, prefill_attention, step_operators
from model.precision import precision
from model.share import gemm
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

HALF = precision("float16")


def tile_intensity(rows: int, columns: int, k: int) -> float:
    """FLOP/byte of a thread that computes ``rows`` by ``columns`` outputs of a product, 16 bits.

    It reads ``rows`` rows of one matrix and ``columns`` columns of the other, K numbers each, and
    writes its outputs: ``2 r c K / (2 ((r + c) K + r c))``.
    """
    return 2 * rows * columns * k / (2 * ((rows + columns) * k + rows * columns))


class RooflineBasics(TableStudy):
    """Tiling and fusion raise intensity; a roofline says when that is enough."""

    table: Literal["roofline_basics"] = "roofline_basics"
    """Which table."""
    gpu: str = "a100-80gb-sxm"
    """Whose roofline is drawn."""
    m: PositiveInt = 4096
    """Rows of the matrix product."""
    n: PositiveInt = 4096
    """Its columns."""
    k: PositiveInt = 4096
    """Its inner dimension."""
    axpy_number_bytes: PositiveInt = 8
    """Of the AXPY's vectors: double precision."""
    model: str = "llama-3-8b"
    """Whose prefill and decode are placed on the roofline."""
    tokens: PositiveInt = 1024
    """Prompt of the prefill, and context of the decode."""

    def page(self) -> Page:
        """Compute the intensities."""
        gpu, spec = load_gpu(self.gpu), wide_spec(self.model)
        rows = [*self._products(), *self._fusion(spec), *self._steps(spec)]
        points = {row.quantity: row.exact for row in rows if row.exact is not None}
        tiles = self._tiles()
        return Page(
            title="Rooflines: tiling and fusion",
            answer=f"A product of {self.m} x {self.n} x {self.k} does "
            f"{points['product, every matrix moved once']:,.4g} FLOP/byte when every matrix is "
            f"moved once, and {points['product, one output per thread']:.3g} with one output per "
            f"thread; arithmetic binds on {gpu.name} from {ridge(gpu):.0f} on.",
            intro="FLOPs per byte of memory traffic. A product is read from memory as often as its "
            "tiling asks for: one output per thread stays at half a FLOP per byte however large "
            "the matrices. Fusing operators saves writing and reading what is between them.",
            rows=rows,
            curves={"intensity_over_tile": tiles},
            pictures={
                "roofline": Picture(
                    caption=f"Everything of the table on the roofline of {gpu.name}.",
                    draw=lambda to: _draw_roofline(to, gpu, points),
                    charts=[roofline_chart(gpu, points)],
                    height_in=4.6,
                ),
                "intensity_over_tile": Picture(
                    caption="Intensity over the side of a square tile of outputs.",
                    draw=lambda to: _draw_tiles(to, gpu, tiles),
                    charts=[_tile_chart(gpu, tiles)],
                    width_in=6.6,
                    height_in=3.4,
                ),
            },
        )

    def _products(self) -> Iterator[Row]:
        m, n, k, unit = self.m, self.n, self.k, "FLOP/byte"
        axpy = 2 / (3 * self.axpy_number_bytes)
        yield Row(
            quantity="AXPY", unit=unit, source=LECTURE, formula="2 / (3 * 8)", printed=1 / 12,
            text=axpy, exact=axpy,
            note="read x, read y, write y in double precision; 1/3 in 16 bits",
        )  # fmt: skip
        for rows, columns, name, formula, text in (
            (1, 1, "one output per thread", "2K / (2 (2K + 1))", 2 * k / (2 * (2 * k + 1))),
            (1, 2, "one-dimensional tile, two outputs", "4K / (2 (3K + 2))",
             4 * k / (2 * (3 * k + 2))),
            (2, 2, "two-dimensional tile, four outputs", "8K / (2 (4K + 4))",
             8 * k / (2 * (4 * k + 4))),
        ):  # fmt: skip
            yield Row(
                quantity=f"product, {name}", unit=unit, source=LECTURE, formula=formula,
                text=text, exact=tile_intensity(rows, columns, k),
                note=f"{rows} by {columns} outputs; at most "
                f"{rows * columns / (rows + columns):.3g} for long rows",
            )  # fmt: skip
        per_number = 2 * m * n * k / (m * k + k * n + m * n)
        product = gemm("product", 1, float(m), n, k, HALF)
        yield Row(
            quantity="product, every matrix moved once", unit=unit, source=LECTURE,
            formula="2MNK / (MK + KN + MN)", text=per_number / 2,
            exact=float(product.flops / product.bytes),
            note=f"the text's {per_number:.6g} is per number; at two bytes each it is half",
        )  # fmt: skip

    def _fusion(self, spec: DecoderSpec) -> Iterator[Row]:
        unit, n = "FLOP/byte", self.tokens
        yield Row(
            quantity="three element-wise operators, unfused", unit=unit, source=LECTURE,
            formula="3 / (2 * 6)", text=3 / 12, exact=3 / 12,
            note="each reads and writes every number, 16 bits",
        )  # fmt: skip
        yield Row(
            quantity="three element-wise operators, fused", unit=unit, source=LECTURE,
            formula="3 / (2 * 2)", text=3 / 4, exact=3 / 4, note="read once, written once",
        )  # fmt: skip
        for fused in (False, True):
            yield Row(
                quantity=f"attention of a prompt, {'fused' if fused else 'standard'}", unit=unit,
                source=PROJECT,
                exact=intensity(prefill_attention(spec, n, 0, precision=HALF, fused=fused)),
                note=f"{spec.name}, {n} tokens",
            )  # fmt: skip
        yield Row(
            quantity="attention of a decode, fused", unit=unit, source=PROJECT,
            exact=intensity(decode_attention(spec, 1, n, precision=HALF)),
            note=f"{spec.name}, {n} positions",
        )  # fmt: skip

    def _steps(self, spec: DecoderSpec) -> Iterator[Row]:
        n = self.tokens
        steps = {
            f"prefill of {n} tokens": (0, 0, [(n, 0)]),
            "decode of 1 request": (1, n, []),
            "decode of 64 requests": (64, 64 * n, []),
        }
        for name, (decodes, context, chunks) in steps.items():
            operators = step_operators(spec, decodes, context, chunks, precision=HALF)
            flops = sum(one.layers * one.flops for one in operators)
            moved = sum(one.layers * one.bytes for one in operators)
            found = float(flops / moved)
            yield Row(
                quantity=name, unit="FLOP/byte", source=PROJECT, exact=found,
                note=f"the whole step of {spec.name}, fused attention",
            )  # fmt: skip

    def _tiles(self) -> "DataFrame":
        import pandas as pd

        sides = [2**power for power in range(10)]
        return pd.DataFrame(
            {"side": side, "intensity": tile_intensity(side, side, self.k)} for side in sides
        )


def _tile_chart(gpu: Gpu, tiles: "DataFrame") -> Chart:
    points = list(zip(tiles["side"], tiles["intensity"], strict=True))
    return Chart(
        "lines", "Intensity over the side of a tile",
        Axis("outputs along one side of a tile", log=True), [Series("", points)],
        Axis("intensity, FLOP/byte", log=True), ridges([gpu]),
    )  # fmt: skip


def _draw_roofline(figure: "Figure", gpu: Gpu, points: dict[str, float]) -> None:
    axes = figure.subplots()
    draw_roofline(axes, gpu, points)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="in FLOP/byte")


def _draw_tiles(figure: "Figure", gpu: Gpu, tiles: "DataFrame") -> None:
    axes = figure.subplots()
    axes.plot(tiles["side"], tiles["intensity"], marker="o")
    axes.axhline(ridge(gpu), color="#555555", linestyle=(0, (4, 2)), linewidth=0.9)
    axes.annotate(
        f"ridge of {gpu.name}: {ridge(gpu):.0f}", (1, ridge(gpu)), xytext=(0, 3),
        textcoords="offset points", fontsize=7.5,
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(tiles["side"], [str(side) for side in tiles["side"]])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("outputs along one side of a tile")
    axes.set_ylabel("intensity in FLOP/byte")
