"""What binds on an A100: attention, the MLP, and tokens per read of the weights."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat, PositiveInt

from experiments.texts.attention import intensity
from experiments.texts.marks import draw_roofline, ridge, roofline_chart
from experiments.texts.page import BLOG, LECTURE, PROJECT, Page, Picture, Row, TableStudy, ratio
from hardware.gpu import Gpu, load_gpu
from model.alike import attention_of, dense_of
from model.ops import prefill_attention, token_operators
from model.precision import precision
from model.spec import DecoderSpec, load_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF = precision("float16")


def attention_intensity(n: float, d: float, h: float) -> float:
    """The text's ``(4 N^2 D + 5 H N^2) / (2 (4 N D + 6 H N^2))``; the batch cancels.

    The text prints 84.87; the sum is put together from its other counts: 5 FLOPs a score, six
    passes over the scores, and queries, keys, values and output once. Projections are not in it.
    """
    return (4 * n**2 * d + 5 * h * n**2) / (2 * (4 * n * d + 6 * h * n**2))


def mlp_intensity(tokens: float, d: float) -> float:
    """The text's ``(16 T D^2 + 5 T D) / (2 (8 D^2 + 10 T D))`` for a plain MLP of width 4 D.

    T = B N tokens; the activation is 5 FLOPs an element of D and moves nothing. Again the sum is
    put together from the text's other counts, and gives the printed 3236.6.
    """
    return (16 * tokens * d**2 + 5 * tokens * d) / (2 * (8 * d**2 + 10 * tokens * d))


class A100Bounds(TableStudy):
    """Attention is bound by memory, the MLP by arithmetic."""

    table: Literal["a100_bounds"] = "a100_bounds"
    """Which table."""
    gpu: str = "a100-80gb-sxm"
    """A GPU of the catalogue."""
    batch: PositiveInt = 16
    """Requests B."""
    tokens: PositiveInt = 16384
    """Tokens N of each."""
    hidden_size: PositiveInt = 4096
    """D."""
    num_heads: PositiveInt = 16
    """H."""
    rounded_peak_flops_per_s: PositiveFloat = 312e12
    """Of an A100, as the blog has it."""
    rounded_bandwidth_bytes_per_s: PositiveFloat = 1.5e12
    """Of an A100 with 40 GB, rounded, as the blog has it."""

    def page(self) -> Page:
        """Compute intensities and the balance."""
        gpu, spec = load_gpu(self.gpu), self._layer()
        rows = [*self._intensities(spec, gpu), *self._balances(gpu)]
        points = {row.quantity: x for row in rows[:3] if (x := row.text) is not None}
        points |= {f"{row.quantity}, exact": x for row in rows[:4] if (x := row.exact) is not None}
        attention, mlp = (row.text or 0.0 for row in rows[:2])
        return Page(
            title=f"What binds on {gpu.name}",
            answer=f"Standard attention does {attention:.4g} FLOP/byte and is "
            f"{_side(attention, ridge(gpu))}, the MLP does {mlp:,.4g} and is "
            f"{_side(mlp, ridge(gpu))}: the balance is {ridge(gpu):.0f}.",
            intro=f"B = {self.batch}, N = {self.tokens}, D = {self.hidden_size}, "
            f"H = {self.num_heads}, 16 bits. Standard attention lies below the balance of the GPU "
            "and is bound by memory however it is counted; the MLP, and fused attention, lie far "
            "above.",
            rows=rows,
            pictures={
                "a100_bounds": Picture(
                    caption="The same on the roofline of the GPU.",
                    draw=lambda to: _draw(to, gpu, points),
                    charts=[roofline_chart(gpu, points)],
                )
            },
        )

    def _layer(self) -> DecoderSpec:
        """One layer with a plain MLP, in the text's sizes.

        Raises:
            ValueError: heads do not divide the width.
        """
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} does not divide hidden_size = {self.hidden_size}"
            )
        like, hidden = load_spec("gpt2-xl").first_layers(1), self.hidden_size
        (layer,) = like.layers
        attention = replace(
            attention_of(like),
            hidden_size=hidden,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=hidden // self.num_heads,
        )
        mlp = replace(dense_of(like), hidden_size=hidden, width=4 * hidden)
        norm = replace(layer.norm, size=hidden)
        return replace(
            like,
            name="one layer",
            embedding=replace(like.embedding, hidden_size=hidden),
            layers=(replace(layer, mixer=attention, mlp=mlp, norm=norm),),
            head=replace(like.head, norm=norm),
        )

    def _intensities(self, spec: DecoderSpec, gpu: Gpu) -> Iterator[Row]:
        n, unit = self.tokens, "FLOP/byte"
        balance = ridge(gpu)
        standard = intensity(prefill_attention(spec, n, 0, precision=HALF, fused=False))
        fused = intensity(prefill_attention(spec, n, 0, precision=HALF))
        text = attention_intensity(n, self.hidden_size, self.num_heads)
        yield Row(
            quantity="attention, standard", unit=unit, source=LECTURE,
            formula="(4 N^2 D + 5 H N^2) / (2 (4 N D + 6 H N^2))", printed=84.87, text=text,
            exact=standard,
            note=f"{_side(text, balance)}; six passes over the scores (our sum), four suffice; "
            f"{ratio(standard, text)}",
        )  # fmt: skip
        rows = self.batch * n
        operators = {one.name: one for one in token_operators(spec, rows, precision=HALF)}
        products = intensity([operators["mlp_up"], operators["mlp_down"]])
        whole = intensity([operators[name] for name in ("mlp_up", "mlp_act", "mlp_down")])
        mlp = mlp_intensity(rows, self.hidden_size)
        yield Row(
            quantity="MLP", unit=unit, source=LECTURE,
            formula="(16 B N D^2 + 5 B N D) / (2 (8 D^2 + 10 B N D))", printed=3236.6, text=mlp,
            exact=products,
            note=f"{_side(mlp, balance)}; {ratio(products, mlp)}, but for biases and activation",
        )  # fmt: skip
        yield Row(
            quantity="MLP with its activation", unit=unit, source=PROJECT, exact=whole,
            note="GELU as an operator of its own reads and writes B N 4 D numbers more",
        )  # fmt: skip
        yield Row(
            quantity="attention, fused", unit=unit, source=PROJECT, exact=fused,
            note=f"{_side(fused, balance)}: no scores in memory",
        )  # fmt: skip

    def _balances(self, gpu: Gpu) -> Iterator[Row]:
        balance = ridge(gpu)
        peak = gpu.peak("fp16")
        yield Row(
            quantity=f"balance of {gpu.name}", unit="FLOP/byte", source=LECTURE,
            formula="peak / bandwidth", printed=153.0, text=peak / gpu.bandwidth_bytes_per_s,
            exact=balance, note="the same",
        )  # fmt: skip
        rounded = self.rounded_peak_flops_per_s / self.rounded_bandwidth_bytes_per_s
        yield Row(
            quantity="tokens per read of the weights before arithmetic binds", unit="tokens",
            source=BLOG, formula="312e12 / 1.5e12", printed=208, text=rounded, exact=balance,
            note="2 FLOPs and 2 bytes a weight, so the balance itself; 1.5 TB/s is an A100 with 40 "
            "GB (1.555), rounded; activations and KV cache are left out",
        )  # fmt: skip


def _side(found: float, balance: float) -> str:
    return "compute-bound" if found > balance else "memory-bound"


def _draw(figure: "Figure", gpu: Gpu, points: dict[str, float]) -> None:
    axes = figure.subplots()
    draw_roofline(axes, gpu, points)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="in FLOP/byte")
