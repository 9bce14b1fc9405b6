"""A whole forward pass of GPT-2 XL on a T4, with and without a KV cache.

The text's sums, with L = 48 layers folded in: B requests, N tokens, D wide, H heads.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from experiments.reporting.page.figures import Axis, Bar
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.page import (
    GPT2_ASSIGNMENT,
    Page,
    Picture,
    Row,
    TableStudy,
    ratio,
)
from hardware.roofline import operator_s
from model.alike import attention_of
from model.dataclass import dataclass
from model.ops import Operator, step_operators
from model.precision import precision
from model.spec import DecoderSpec, load_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAYERS = 48
"""That the text's coefficients hold."""


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs and bytes of one forward pass."""

    flops: float
    bytes: float


def without_cache(b: float, n: float, d: float, h: float) -> Work:
    """Return the text's work of a pass over all N tokens of B requests.

    Per layer 24 B N D^2 of projections and MLP, 4 B N^2 D of scores and values, 5 per score for
    softmax and mask, 5 per hidden element for norms, residuals and activation together.
    """
    flops = 1152 * b * n * d**2 + 192 * b * n**2 * d + 240 * h * b * n**2 + 240 * b * n * d
    numbers = 1056 * b * n * d + 576 * d**2 + 288 * h * b * n**2 + 240 * d
    return Work(flops, 2 * numbers)


def with_cache(b: float, n: float, d: float, h: float, *, corrected: bool = False) -> Work:
    """Return the text's work of one new token for each of B requests of N tokens.

    Its bytes drop the softmax's own read and write, 2 B H N a layer, from the sum: ``corrected``
    puts them back, which makes the coefficient of B H N 192.
    """
    scores = 192 if corrected else 96
    flops = 1152 * b * d**2 + 192 * b * n * d + 144 * b * h * n + 240 * b * d
    numbers = 960 * b * d + 576 * d**2 + 96 * b * n * d + scores * b * h * n + 240 * d
    return Work(flops, 2 * numbers)


def counted(spec: DecoderSpec, b: int, n: int, cached: bool) -> list[Operator]:
    """Return the project's operators of the same pass, attention unfused as in the text."""
    half = precision("float16")
    if cached:
        return step_operators(spec, b, b * n, (), precision=half, fused=False)
    return step_operators(spec, 0, 0, [(n, 0)] * b, precision=half, fused=False)


def total(operators: list[Operator]) -> Work:
    """Return the work of all layers."""
    return Work(
        float(sum(one.layers * one.flops for one in operators)),
        float(sum(one.layers * one.bytes for one in operators)),
    )


class Gpt2XlT4(TableStudy):
    """FLOPs, bytes, time and bound of whole forward passes."""

    table: Literal["gpt2_xl_t4"] = "gpt2_xl_t4"
    """Which table."""
    batches: tuple[PositiveInt, ...] = Field(default=(1, 64), min_length=1)
    """Requests B."""
    tokens: tuple[PositiveInt, ...] = Field(default=(32, 1024), min_length=1)
    """Tokens N of each: computed at once without a cache, attended with one."""
    assumed_tokens: PositiveInt = 4096
    """The context that the text assumes for the cache."""
    peak_flops_per_s: PositiveFloat = 65e12
    """Of a T4 in fp16, as in the text and the catalogue."""
    bandwidth_bytes_per_s: PositiveFloat = 300e9
    """Of a T4 as in the text; the datasheet has 320e9."""

    def page(self) -> Page:
        """Evaluate the text's sums beside the operators' own."""
        spec = load_spec("gpt2-xl")
        rows: list[Row] = []
        times = []
        for cached in (False, True):
            for b in self.batches:
                for n in self.tokens:
                    rows += self._rows(spec, b, n, cached)
                    times.append(self._times(spec, b, n, cached))
        import pandas as pd

        curve = pd.DataFrame(times)
        slow, fast = (float(curve["exact_s"].iloc[place]) for place in (len(curve) // 2 - 1, -1))
        return Page(
            title="GPT-2 XL on a T4",
            answer=f"A token more for each of {self.batches[-1]} requests of {self.tokens[-1]:,} "
            f"tokens takes {fast:.3g} s with a KV cache and {slow:.3g} s without: "
            f"{slow / fast:,.3g} times as long.",
            intro="One forward pass. Without a KV cache it computes all N tokens of each of B "
            "requests, for one new token each; with a cache only the new ones. Times are the "
            f"longer of FLOPs over {self.peak_flops_per_s / 1e12:g} TFLOP/s and bytes over "
            f"{self.bandwidth_bytes_per_s / 1e9:g} GB/s: of the whole pass at once in the text, of "
            "every operator by itself in the exact column, which can only be longer. The exact "
            "counts also hold embedding, LM head, biases and the tanh GELU, which the text leaves "
            "out, and 7 FLOPs an element for LayerNorm.",
            rows=[*rows, *self._cache(spec), *self._beyond(spec)],
            curves={"forward_pass": curve},
            pictures={
                "forward_pass": Picture(
                    caption="Time of a forward pass; letters: bound by arithmetic (C) or memory "
                    "(M).",
                    draw=lambda to: _draw(to, curve),
                    charts=[_chart(curve, cached) for cached in (False, True)],
                )
            },
        )

    def _text(self, spec: DecoderSpec, b: int, n: int, cached: bool) -> Work:
        sums = with_cache if cached else without_cache
        return sums(b, n, spec.hidden_size, attention_of(spec).num_heads)

    def _corrected(self, spec: DecoderSpec, b: int, n: int, cached: bool) -> Work:
        if cached:
            return with_cache(b, n, spec.hidden_size, attention_of(spec).num_heads, corrected=True)
        return self._text(spec, b, n, cached)

    def _seconds(self, work: Work) -> float:
        return float(
            operator_s(work.flops, work.bytes, self.peak_flops_per_s, self.bandwidth_bytes_per_s)
        )

    def _bound(self, work: Work) -> str:
        balance = self.peak_flops_per_s / self.bandwidth_bytes_per_s
        return "compute" if work.flops / work.bytes > balance else "memory"

    def _exact_seconds(self, operators: list[Operator]) -> float:
        return sum(
            one.layers * self._seconds(Work(float(one.flops), float(one.bytes)))
            for one in operators
        )

    def _rows(self, spec: DecoderSpec, b: int, n: int, cached: bool) -> Iterator[Row]:
        text, right = self._text(spec, b, n, cached), self._corrected(spec, b, n, cached)
        operators = counted(spec, b, n, cached)
        exact = total(operators)
        name = f"{'with' if cached else 'without'} cache, B={b}, N={n}"
        yield Row(
            quantity=f"FLOPs {name}", unit="FLOP", source=GPT2_ASSIGNMENT,
            formula="1152 B D^2 + 192 B N D + 144 B H N + 240 B D" if cached
            else "1152 B N D^2 + 192 B N^2 D + 240 H B N^2 + 240 B N D",
            text=text.flops, exact=exact.flops,
            note=f"{ratio(exact.flops, text.flops)}: LM head and what the text leaves out"
            + ("; 3 FLOPs a score here, 5 without cache" if cached else ""),
        )  # fmt: skip
        yield Row(
            quantity=f"bytes {name}", unit="bytes", source=GPT2_ASSIGNMENT,
            formula="2 (960 B D + 576 D^2 + 96 B N D + 96 B H N + 240 D)" if cached
            else "2 (1056 B N D + 576 D^2 + 288 H B N^2 + 240 D)",
            text=text.bytes, exact=exact.bytes,
            note="as printed" if cached else ratio(exact.bytes, text.bytes)
            + "; norms, residuals and GELU as operators of their own move 38 B N D numbers a "
            "layer, 22 in the text; six passes over the scores in the text, four here",
        )  # fmt: skip
        if cached:
            yield Row(
                quantity=f"bytes {name}, corrected", unit="bytes", source=GPT2_ASSIGNMENT,
                formula="2 (960 B D + 576 D^2 + 96 B N D + 192 B H N + 240 D)",
                text=right.bytes, exact=exact.bytes,
                note="an error: the printed sum drops its own softmax's 2 B H N a layer; "
                f"{ratio(exact.bytes, right.bytes)}",
            )  # fmt: skip
        seconds = self._seconds(right)
        exact_s = self._exact_seconds(operators)
        yield Row(
            quantity=f"time {name}", unit="ms", source=GPT2_ASSIGNMENT,
            formula="max(FLOPs / 65e12, bytes / 300e9)", text=seconds * 1e3, exact=exact_s * 1e3,
            note=f"{self._bound(right)}-bound by the text's sums"
            + (" with the corrected bytes" if cached else ""),
        )  # fmt: skip

    def _cache(self, spec: DecoderSpec) -> Iterator[Row]:
        yield Row(
            quantity="KV cache per token of one request", unit="bytes", source=GPT2_ASSIGNMENT,
            formula="2 * 2 * 48 * D", printed=307_200,
            text=2 * 2 * LAYERS * spec.hidden_size, exact=spec.kv_bytes_per_token(2),
            note="the same: times B N",
        )  # fmt: skip

    def _beyond(self, spec: DecoderSpec) -> Iterator[Row]:
        """The context that the text assumes, and the longest that the model has."""
        longest = spec.max_position_embeddings
        for b in self.batches:
            for n, which in ((self.assumed_tokens, "as printed"), (longest, "corrected")):
                work = self._corrected(spec, b, n, True)
                possible = n <= longest
                exact = self._exact_seconds(counted(spec, b, n, True)) if possible else None
                yield Row(
                    quantity=f"time with cache, B={b}, context {n}, {which}", unit="ms",
                    source=GPT2_ASSIGNMENT, formula="max(FLOPs / 65e12, bytes / 300e9)",
                    text=self._seconds(work) * 1e3,
                    exact=None if exact is None else exact * 1e3,
                    note=f"{self._bound(work)}-bound" if possible
                    else f"an error: GPT-2 XL has {longest} positions, so nothing is exact here",
                )  # fmt: skip

    def _times(self, spec: DecoderSpec, b: int, n: int, cached: bool) -> dict[str, object]:
        printed, right = self._text(spec, b, n, cached), self._corrected(spec, b, n, cached)
        operators = counted(spec, b, n, cached)
        return {
            "batch": b,
            "tokens": n,
            "cached": cached,
            "as_printed_s": self._seconds(printed),
            "corrected_s": self._seconds(right),
            "exact_s": self._exact_seconds(operators),
            "bound": self._bound(right),
        }


KINDS = {
    "as_printed_s": "text, as printed",
    "corrected_s": "text, corrected",
    "exact_s": "exact, operator by operator",
}
"""Columns of the curve, and what each counts."""


def _short(label: str, bound: str) -> str:
    """Name a bar: the exact one with the letter of what binds."""
    return label.removeprefix("text, ") if "text" in label else f"exact ({bound[0].upper()})"


def _chart(curve: "DataFrame", cached: bool) -> Chart:
    bars = [
        Bar(
            f"B={row['batch']} N={row['tokens']} {_short(label, row['bound'])}",
            1e3 * row[column], strong=exact, hollow=not exact,
            text=f"B={row['batch']}, N={row['tokens']}, {label}: {1e3 * row[column]:,.4g} ms, "
            f"{row['bound']}-bound",
        )
        for row in curve[curve["cached"] == cached].to_dict("records")
        for column, label in KINDS.items()
        for exact in [column == "exact_s"]
    ]  # fmt: skip
    told = "with KV cache: N attended" if cached else "without KV cache: N computed"
    domain = (min(bar.value for bar in bars) / 2, max(bar.value for bar in bars) * 2)
    return Chart("bars", told, Axis(f"ms, {told}", log=True, domain=domain), bars)


def _draw(figure: "Figure", curve: "DataFrame") -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for axes, cached in zip(panels, (False, True), strict=True):
        here = curve[curve["cached"] == cached]
        for index, (column, label) in enumerate(KINDS.items()):
            places = [place + (index - 1) * 0.26 for place in range(len(here))]
            axes.bar(places, here[column] * 1e3, width=0.26, color=f"C{index}", label=label)
        names = [f"B={b}\nN={n}" for b, n in zip(here["batch"], here["tokens"], strict=True)]
        axes.set_xticks(range(len(here)), names)
        axes.set_yscale("log")
        for place, (value, bound) in enumerate(zip(here["exact_s"], here["bound"], strict=True)):
            axes.annotate(
                bound[0].upper(), (place, max(value, here["as_printed_s"].iloc[place]) * 1e3),
                xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                fontweight="bold",
            )  # fmt: skip
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.12)
        axes.set_title("with KV cache: N attended" if cached else "without KV cache: N computed")
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[0].set_ylabel("time of a forward pass in ms")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
