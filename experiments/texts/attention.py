"""Intensity of attention: standard and fused, prefill and decode, one request and a batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from experiments.reporting.page.figures import Axis, Series
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.marks import LINES, draw_ridges, ridges
from experiments.texts.models import wide_spec
from experiments.texts.page import (
    PROJECT,
    SOLUTION_A,
    SOLUTION_B,
    Page,
    Picture,
    Row,
    TableStudy,
    ratio,
)
from hardware.gpu import Gpu, load_gpu
from model.alike import attention_of
from model.ops import Operator, decode_attention, prefill_attention
from model.precision import precision
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

HALF = precision("float16")
LABELS = {"tokens": "tokens N", "batch": "requests B"}
OVER_LENGTH = {
    "prefill_fused": ("prefill, fused (exact)", "C2", "-", "o"),
    "prefill_rival": ("prefill, standard, solution B", "C1", ":", "^"),
    "prefill_standard": ("prefill, standard, solution A = exact", "C0", "--", "s"),
    "decode_fused": ("decode, fused (exact)", "C4", "-", "D"),
    "decode_standard": ("decode, standard, solution A = exact", "C3", "--", "v"),
}
OVER_BATCH = {
    "shared": ("one K and V for the whole batch (solution A)", "C0", "--", "s"),
    "distinct_grouped": ("distinct requests, grouped heads, fused (exact)", "C4", "-", "D"),
    "distinct": ("distinct requests, one head (exact)", "C3", "-", "v"),
}
"""What each column of a curve is: its name, colour, line and mark."""


def prefill_intensity(tokens: float, d: float) -> float:
    """Solution A: ``N^2 (4d + 3)`` FLOPs over ``8 N (N + d)`` bytes of one head."""
    return tokens**2 * (4 * d + 3) / (8 * tokens * (tokens + d))


def rival_prefill_intensity(tokens: float, d: float) -> float:
    """Solution B: ``4 N^2 d + 5 N^2`` FLOPs over ``2 (5 N d + 3 N^2)`` bytes."""
    return (4 * tokens**2 * d + 5 * tokens**2) / (2 * (5 * tokens * d + 3 * tokens**2))


def decode_intensity(tokens: float, d: float, batch: float = 1) -> float:
    """Solution A: ``N B (4d + 3)`` over ``4 N d + 8 B N + 4 B d``: one K and V for all B requests.

    With B = 1 it is ``N (4d + 3)`` over ``4 (N d + d + 2 N)``.
    """
    moved = 4 * tokens * d + 8 * batch * tokens + 4 * batch * d
    return tokens * batch * (4 * d + 3) / moved


def rival_decode_intensity(tokens: float, d: float) -> float:
    """Solution B's 0.998: ``4 N d + 5 N`` over ``2 (2 N d + 3 N)``, vectors of d left out.

    The text prints the figure only; the sum is ours, in the manner of its prefill.
    """
    return (4 * tokens * d + 5 * tokens) / (2 * (2 * tokens * d + 3 * tokens))


def intensity(operators: Sequence[Operator]) -> float:
    """Return FLOPs over bytes of one layer's operators, in FLOP/byte."""
    flops = sum(operator.flops for operator in operators)
    return float(flops / sum(operator.bytes for operator in operators))


def one_head(spec: DecoderSpec) -> DecoderSpec:
    """Return the model with one layer, one query head and its own KV head."""
    attention = attention_of(spec)
    alone = replace(attention, num_heads=1, num_kv_heads=1, sliding_window=None)
    return spec.first_layers(1).with_mixers(lambda _: alone)


class AttentionIntensity(TableStudy):
    """FLOPs per byte of attention against the ridge points of GPUs."""

    table: Literal["attention_intensity"] = "attention_intensity"
    """Which table."""
    model: str = "llama-3-8b"
    """Gives the head dimension, and how many query heads share a KV head."""
    tokens: PositiveInt = 1024
    """Prompt of the prefill, and context of the decode."""
    lengths: tuple[PositiveInt, ...] = Field(
        default=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384), min_length=2
    )
    """Tokens of the curve over N."""
    batches: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), min_length=2
    )
    """Requests of the curve over B."""
    gpus: tuple[str, ...] = ("t4", "a100-80gb-sxm", "h100-sxm")
    """Whose ridge points are drawn."""

    def page(self) -> Page:
        """Compute intensities of one head in 16 bits."""
        spec = wide_spec(self.model)
        gpus = [load_gpu(name) for name in self.gpus]
        width = attention_of(spec).head_dim
        over_n, over_b = self._over_length(spec), self._over_batch(spec)
        prefill, decode = list(self._prefill(spec)), list(self._decode(spec))
        standard, fused, one = (row.exact for row in (prefill[0], prefill[-1], decode[0]))
        return Page(
            title="Intensity of attention",
            answer=f"A prefill of {self.tokens:,} tokens does {standard:.3g} FLOP/byte with "
            f"standard attention and {fused:.3g} with fused, a decode {one:.2g}.",
            intro=f"FLOPs per byte of one head, d = {width}, 16 bits. Standard attention "
            "writes and reads its scores, so even a long prefill stays below every ridge point; "
            "that of fused attention grows with N. Decode reads each key and value for two "
            "multiplications, fused or not. Both solutions let a whole batch share one read of K "
            "and V. Distinct requests have keys of their own: their decode intensity does not grow "
            "with the batch. Only the query heads of one group share (grouped-query attention).",
            rows=[*prefill, *decode, *self._batch(spec)],
            curves={"intensity_over_length": over_n, "intensity_over_batch": over_b},
            pictures={
                "intensity_over_length": Picture(
                    caption="Intensity over the number of tokens, with ridge points of GPUs.",
                    draw=lambda to: _draw_length(to, over_n, gpus),
                    charts=[_chart(over_n, "tokens", OVER_LENGTH, gpus)],
                ),
                "intensity_over_batch": Picture(
                    caption=f"Decode intensity over the batch at {self.tokens} positions: shared "
                    "and distinct requests.",
                    draw=lambda to: _draw_batch(to, over_b, gpus),
                    charts=[_chart(over_b, "batch", OVER_BATCH, gpus)],
                ),
            },
        )

    def _prefill(self, spec: DecoderSpec) -> Iterator[Row]:
        n, d, head = self.tokens, attention_of(spec).head_dim, one_head(spec)
        standard = intensity(prefill_attention(head, n, 0, precision=HALF, fused=False))
        fused = intensity(prefill_attention(head, n, 0, precision=HALF))
        text, rival = prefill_intensity(n, d), rival_prefill_intensity(n, d)
        unit = "FLOP/byte"
        yield Row(
            quantity="prefill, standard", unit=unit, source=SOLUTION_A,
            formula="N^2 (4d + 3) / (8 N (N + d))", printed=57.2, text=text, exact=standard,
            note=ratio(standard, text),
        )  # fmt: skip
        limit = intensity(prefill_attention(head, 1e9, 0, precision=HALF, fused=False))
        yield Row(
            quantity="prefill, standard, N without bound", unit=unit, source=SOLUTION_A,
            formula="(4d + 3) / 8", printed=64, text=(4 * d + 3) / 8, exact=limit,
            note="printed without the 3 FLOPs of the softmax: d / 2",
        )  # fmt: skip
        yield Row(
            quantity="prefill, standard, rival count", unit=unit, source=SOLUTION_B,
            formula="(4 N^2 d + 5 N^2) / (2 (5 N d + 3 N^2))", printed=71.3, text=rival,
            exact=standard,
            note="5 FLOPs a score instead of 3; three passes over the scores instead of four "
            f"(write, read, write, read); {ratio(standard, rival)}",
        )  # fmt: skip
        yield Row(
            quantity="prefill, fused and causal", unit=unit, source=PROJECT, exact=fused,
            note="scores stay on the chip, masked blocks are skipped; storing keys and values in "
            "the cache is counted",
        )  # fmt: skip

    def _decode(self, spec: DecoderSpec) -> Iterator[Row]:
        n, d, head = self.tokens, attention_of(spec).head_dim, one_head(spec)
        standard = intensity(decode_attention(head, 1, n, precision=HALF, fused=False))
        fused = intensity(decode_attention(head, 1, n, precision=HALF))
        text, rival = decode_intensity(n, d), rival_decode_intensity(n, d)
        unit = "FLOP/byte"
        yield Row(
            quantity="decode, standard", unit=unit, source=SOLUTION_A,
            formula="N (4d + 3) / (4 (N d + d + 2 N))", printed=0.99, text=text, exact=standard,
            note=ratio(standard, text),
        )  # fmt: skip
        yield Row(
            quantity="decode, standard, rival count", unit=unit, source=SOLUTION_B,
            formula="(4 N d + 5 N) / (2 (2 N d + 3 N))", printed=0.998, text=rival, exact=standard,
            note=f"as for the prefill; the text gives no sum, this one is ours; "
            f"{ratio(standard, rival)}",
        )  # fmt: skip
        yield Row(
            quantity="decode, fused", unit=unit, source=PROJECT, exact=fused,
            note="scores of one row are few: fusing gains 1% of the bytes"
            if abs(fused / standard - 1) < 0.03 else "fusing saves the scores' traffic",
        )  # fmt: skip
        heads = attention_of(spec)
        queries = heads.num_heads // heads.num_kv_heads
        yield Row(
            quantity=f"decode, fused, {queries} query heads per KV head", unit=unit,
            source=PROJECT, exact=intensity(decode_attention(spec, 1, n, precision=HALF)),
            note="grouped-query attention: the one sharing that distinct requests have",
        )  # fmt: skip

    def _batch(self, spec: DecoderSpec) -> Iterator[Row]:
        n, d, head = self.tokens, attention_of(spec).head_dim, one_head(spec)
        many = intensity(decode_attention(head, 1e9, 1e9 * n, precision=HALF, fused=False))
        yield Row(
            quantity="decode of a batch without bound, K and V shared", unit="FLOP/byte",
            source=SOLUTION_A, formula="N (4d + 3) / (8 N + 4 d)", printed=60,
            text=decode_intensity(n, d, 1e15), exact=many,
            note="printed as about 60; an error for distinct requests, whose keys and values are "
            "read request by request: intensity stays that of one",
        )  # fmt: skip
        largest = max(self.batches)
        yield Row(
            quantity=f"decode of a batch of {largest}, K and V shared", unit="FLOP/byte",
            source=SOLUTION_A, formula="N B (4d + 3) / (4 N d + 8 B N + 4 B d)",
            text=decode_intensity(n, d, largest),
            exact=intensity(
                decode_attention(head, largest, largest * n, precision=HALF, fused=False)
            ),
            note="as above; true only of requests that attend the very same tokens, such as "
            "samples of one prompt",
        )  # fmt: skip

    def _over_length(self, spec: DecoderSpec) -> "DataFrame":
        import pandas as pd

        d, head = attention_of(spec).head_dim, one_head(spec)
        return pd.DataFrame(
            {
                "tokens": n,
                "prefill_standard": prefill_intensity(n, d),
                "prefill_rival": rival_prefill_intensity(n, d),
                "prefill_fused": intensity(prefill_attention(head, n, 0, precision=HALF)),
                "decode_standard": decode_intensity(n, d),
                "decode_fused": intensity(decode_attention(head, 1, n, precision=HALF)),
            }
            for n in self.lengths
        )

    def _over_batch(self, spec: DecoderSpec) -> "DataFrame":
        import pandas as pd

        n, head = self.tokens, one_head(spec)
        return pd.DataFrame(
            {
                "batch": b,
                "shared": decode_intensity(n, attention_of(spec).head_dim, b),
                "distinct": intensity(
                    decode_attention(head, b, b * n, precision=HALF, fused=False)
                ),
                "distinct_grouped": intensity(decode_attention(spec, b, b * n, precision=HALF)),
            }
            for b in self.batches
        )


def _chart(
    curve: "DataFrame", over: str, lines: Mapping[str, tuple[str, str, str, str]],
    gpus: Sequence[Gpu],
) -> Chart:  # fmt: skip
    rows = [
        Series(label, list(zip(curve[over], curve[column], strict=True)), look=number,
               dash=LINES.index(line))
        for number, (column, (label, _, line, _)) in enumerate(lines.items())
    ]  # fmt: skip
    return Chart(
        "lines", f"Intensity over {over}", Axis(LABELS[over], log=True), rows,
        Axis("intensity, FLOP/byte", log=True), ridges(gpus),
    )  # fmt: skip


def _draw_length(figure: "Figure", curve: "DataFrame", gpus: Sequence[Gpu]) -> None:
    axes = figure.subplots()
    for column, (label, color, line, marker) in OVER_LENGTH.items():
        axes.plot(curve["tokens"], curve[column], line, color=color, marker=marker, label=label)
    _finish(figure, list(curve["tokens"]), gpus, LABELS["tokens"])


def _draw_batch(figure: "Figure", curve: "DataFrame", gpus: Sequence[Gpu]) -> None:
    axes = figure.subplots()
    for column, (label, color, line, marker) in OVER_BATCH.items():
        axes.plot(curve["batch"], curve[column], line, color=color, marker=marker, label=label)
    _finish(figure, list(curve["batch"]), gpus, LABELS["batch"])


def _finish(figure: "Figure", values: Sequence[int], gpus: Sequence[Gpu], label: str) -> None:
    (axes,) = figure.axes
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    draw_ridges(axes, gpus)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(label)
    axes.set_ylabel("intensity in FLOP/byte")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
