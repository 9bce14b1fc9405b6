"""What speculative decoding can gain where reading the weights is the whole cost of a token."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from experiments.reporting.page.figures import Axis, Limit, Series
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.forward_pass import counted, total, with_cache
from experiments.texts.models import wide_spec
from experiments.texts.page import GPT2_ASSIGNMENT, LEVIATHAN, Page, Picture, Row, TableStudy
from hardware.roofline import operator_s
from model.alike import attention_of
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PRINTED_SPEED = {(0.6, 2): 1.96, (0.7, 3): 2.53, (0.8, 2): 2.44, (0.8, 5): 3.69, (0.9, 2): 2.71,
                 (0.9, 10): 6.86}  # fmt: skip
"""Leviathan et al. 2023, table 1, by acceptance rate and draft length; drafts cost nothing."""


def expected_tokens(acceptance: float, draft_length: int) -> float:
    """Return tokens per pass of the target, ``(1 - a^(g+1)) / (1 - a)``.

    Leviathan et al. 2023, equation 1, for g drafted tokens that are accepted with probability a
    each; the pass itself gives one token more than it accepts.
    """
    if acceptance == 1:
        return draft_length + 1.0
    return (1 - acceptance ** (draft_length + 1)) / (1 - acceptance)


def expected_speed_up(acceptance: float, draft_length: int, draft_cost: float) -> float:
    """Return ``expected_tokens / (g c + 1)``: Leviathan et al. 2023, theorem 3.8.

    ``draft_cost`` c is the time of a draft's step over that of the target's; the target is taken
    to check g + 1 tokens in the time of one, which holds while memory binds.
    """
    return expected_tokens(acceptance, draft_length) / (draft_length * draft_cost + 1)


class SpeculativeDecodingBound(TableStudy):
    """GPT-2 XL on a T4 at batch 1: time of a token's parts, and what drafts gain."""

    table: Literal["speculative_decoding_bound"] = "speculative_decoding_bound"
    """Which table."""
    model: str = "gpt2-xl"
    """The target."""
    draft_model: str = "gpt2"
    """The draft, whose cost is that of its own decode step."""
    context_tokens: PositiveInt = 4096
    """Positions attended, as the text has it; exact figures stay within the model's own."""
    accepted: PositiveInt = 4
    """Tokens per pass in the text's bound."""
    acceptance_rates: tuple[float, ...] = Field(default=(0.5, 0.6, 0.7, 0.8, 0.9), min_length=1)
    """Of the curves, each within 0 and 1."""
    draft_lengths: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), min_length=1
    )
    """Of the curves."""
    peak_flops_per_s: PositiveFloat = 65e12
    """Of a T4 in fp16, as in the text."""
    bandwidth_bytes_per_s: PositiveFloat = 300e9
    """Of a T4, as in the text."""

    def page(self) -> Page:
        """Compute the parts of a token's time and the speed-ups."""
        for rate in self.acceptance_rates:
            if not 0 <= rate <= 1:
                raise ValueError(f"acceptance_rates = {rate:g}, expected within 0 and 1")
        spec, draft = wide_spec(self.model), wide_spec(self.draft_model)
        tokens = min(
            self.context_tokens, spec.max_position_embeddings, draft.max_position_embeddings
        )
        cost = self._decode_s(draft, tokens) / self._decode_s(spec, tokens)
        curve = self._curve(cost)
        best = curve.sort_values("speed_up").iloc[-1]
        return Page(
            title="Speculative decoding: the bound",
            answer=f"Fastest: {best['draft_length']:.0f} drafts a pass, {best['speed_up']:.3g} "
            f"times as fast where {best['acceptance']:.0%} are accepted; "
            f"{best['expected_tokens']:.3g} times if drafts were for nothing.",
            intro=f"{spec.name}, batch 1. Reading the weights is nearly all of a token's time, so "
            "whatever accepts several tokens per read divides it. Drafts cost something, too: "
            f"{draft.name} takes {cost:.3f} of the target's step by the exact counts.",
            rows=[*self._parts(spec, tokens), *self._published(cost)],
            curves={"speed_up": curve},
            pictures={
                "speed_up": Picture(
                    caption="Expected speed-up over the draft's length by acceptance rate "
                    f"(Leviathan et al. 2023). Dashed: drafts for nothing; solid: {draft.name}, "
                    f"c = {cost:.3f}.",
                    draw=lambda to: _draw(to, curve, cost),
                    charts=[_chart(curve)],
                )
            },
        )

    def _ms(self, bytes_: float) -> float:
        return 1e3 * bytes_ / self.bandwidth_bytes_per_s

    def _decode_s(self, spec: DecoderSpec, tokens: int) -> float:
        peaks = (self.peak_flops_per_s, self.bandwidth_bytes_per_s)
        return sum(
            one.layers * float(operator_s(float(one.flops), float(one.bytes), *peaks))
            for one in counted(spec, 1, tokens, True)
        )

    def _parts(self, spec: DecoderSpec, tokens: int) -> Iterator[Row]:
        hidden, heads, layers = spec.hidden_size, attention_of(spec).num_heads, spec.num_layers
        operators = counted(spec, 1, tokens, True)
        weights = 2 * 12 * layers * hidden**2
        read = float(sum(one.layers * one.weight_bytes for one in operators))
        moved = float(sum(one.layers * one.activation_bytes for one in operators))
        cache = float(sum(one.layers * one.kv_bytes for one in operators))
        # Vectors, and the scores with the softmax's own passes; keys and values are missing.
        other = 2 * (20 * hidden + 4 * heads * self.context_tokens + 5 * hidden) * layers
        text_cache = 2 * 2 * layers * hidden * self.context_tokens
        flops = with_cache(1, self.context_tokens, hidden, heads).flops * layers / 48
        within = f"exact at {tokens} positions, the model's own" if (
            tokens < self.context_tokens
        ) else ""  # fmt: skip
        yield Row(
            quantity="read of the weights", unit="ms", source=GPT2_ASSIGNMENT,
            formula="2 * 576 D^2 / 300e9", printed=9.83, text=self._ms(weights),
            exact=self._ms(read), note="the text leaves out LM head, biases, norms",
        )  # fmt: skip
        yield Row(
            quantity="other traffic", unit="ms", source=GPT2_ASSIGNMENT,
            formula="2 (960 D + 192 H N + 240 D) / 300e9", printed=0.14, text=self._ms(other),
            exact=self._ms(moved),
            note=f"an error: keys and values are not in it, see below; {within}",
        )  # fmt: skip
        yield Row(
            quantity="read of the KV cache", unit="ms", source=GPT2_ASSIGNMENT,
            formula="2 * 96 N D / 300e9", text=self._ms(text_cache), exact=self._ms(cache),
            note=f"in the text's own byte count, but not in its 0.14 ms; {within}",
        )  # fmt: skip
        yield Row(
            quantity="arithmetic", unit="ms", source=GPT2_ASSIGNMENT,
            formula="(1152 D^2 + 192 N D + 144 H N + 240 D) / 65e12", printed=0.065,
            text=1e3 * flops / self.peak_flops_per_s,
            exact=1e3 * total(operators).flops / self.peak_flops_per_s, note=within,
        )  # fmt: skip
        step = self._decode_s(spec, tokens) * 1e3
        yield Row(
            quantity=f"time per token, {self.accepted} per pass", unit="ms",
            source=GPT2_ASSIGNMENT, formula="9.83 / 4", printed=2.46,
            text=self._ms(weights) / self.accepted, exact=step / self.accepted,
            note="the weights' read only, drafts for nothing",
        )  # fmt: skip
        yield Row(
            quantity=f"time per token, {self.accepted} drafts accepted, corrected", unit="ms",
            source=GPT2_ASSIGNMENT, formula="9.83 / (4 + 1)",
            text=self._ms(weights) / (self.accepted + 1), exact=step / (self.accepted + 1),
            note="a pass that accepts four drafts gives a fifth token of its own",
        )  # fmt: skip

    def _published(self, cost: float) -> Iterator[Row]:
        for (rate, length), printed in PRINTED_SPEED.items():
            yield Row(
                quantity=f"speed-up at acceptance {rate:g}, {length} drafted", unit="times",
                source=LEVIATHAN, formula="(1 - a^(g+1)) / ((1 - a) (g c + 1)), c = 0",
                printed=printed, text=expected_speed_up(rate, length, 0.0),
                exact=expected_speed_up(rate, length, cost),
                note=f"exact with the draft's own cost, c = {cost:.3f}",
            )  # fmt: skip

    def _curve(self, cost: float) -> "DataFrame":
        import pandas as pd

        return pd.DataFrame(
            {
                "acceptance": rate,
                "draft_length": length,
                "expected_tokens": expected_tokens(rate, length),
                "speed_up": expected_speed_up(rate, length, cost),
            }
            for rate in self.acceptance_rates
            for length in self.draft_lengths
        )


def _chart(curve: "DataFrame") -> Chart:
    kinds = {"speed_up": "", "expected_tokens": ", drafts for nothing"}
    rows = [
        Series(f"acceptance {rate:g}{told}", list(zip(here["draft_length"], here[column],
               strict=True)), look=place, dash=dash)
        for place, (rate, here) in enumerate(curve.groupby("acceptance"))
        for dash, (column, told) in enumerate(kinds.items())
    ]  # fmt: skip
    return Chart(
        "lines", "Expected speed-up over the draft's length", Axis("drafted tokens per pass"), rows,
        Axis("expected speed-up", zero=True), [Limit(1.0, "no drafts", "beside")],
    )  # fmt: skip


def _draw(figure: "Figure", curve: "DataFrame", cost: float) -> None:
    axes = figure.subplots()
    rates = list(dict.fromkeys(curve["acceptance"]))
    for index, rate in enumerate(reversed(rates)):
        here, color = curve[curve["acceptance"] == rate], f"C{index % 8}"
        axes.plot(
            here["draft_length"], here["expected_tokens"], "--", color=color, linewidth=1,
        )  # fmt: skip
        axes.plot(
            here["draft_length"], here["speed_up"], color=color, marker="osD^v"[index % 5],
            label=f"{rate:g}",
        )  # fmt: skip
    axes.plot([], [], "--", color="#555555", linewidth=1, label="drafts for nothing")
    axes.axhline(1, color="#555555", linewidth=0.9)
    axes.set_ylim(0)
    axes.set_xticks(sorted(set(curve["draft_length"])))
    axes.set_xlabel("drafted tokens per pass")
    axes.set_ylabel("expected speed-up")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), title=f"acceptance rate (c = {cost:.3f})"
    )
