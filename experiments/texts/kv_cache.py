"""Weights against the KV cache of a large batch."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from experiments.reporting.page.figures import Axis, Series
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.models import wide_spec
from experiments.texts.page import BLOG, GIB, TIB, Page, Picture, Row, TableStudy
from model.alike import dense_of
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NUMBER_BYTES = 2
"""The text has 16-bit weights and KV cache."""


class Opt175b(TableStudy):
    """Weights against KV cache of a large batch."""

    table: Literal["opt_175b"] = "opt_175b"
    """Which table."""
    model: str = "opt-175b"
    """A decoder with a plain MLP and as many KV heads as query heads."""
    batch: PositiveInt = 512
    """Requests."""
    prompt_tokens: PositiveInt = 512
    """Of each."""
    output_tokens: PositiveInt = 32
    """Of each."""

    def page(self) -> Page:
        """Compute weights, KV cache and their ratio."""
        spec = wide_spec(self.model)
        tokens = self.prompt_tokens + self.output_tokens
        hidden, width, layers = spec.hidden_size, dense_of(spec).width, spec.num_layers
        weights = NUMBER_BYTES * layers * (4 * hidden**2 + 2 * hidden * width)
        cache = 4 * self.batch * layers * hidden * tokens
        exact_weights = NUMBER_BYTES * spec.parameters()
        exact_cache = spec.kv_bytes_per_token(NUMBER_BYTES) * tokens * self.batch
        rows = [
            Row(
                quantity="weights", unit="GiB", source=BLOG, formula="n l (4 h1^2 + 2 h1 h2)",
                printed=325, text=weights / GIB, exact=exact_weights / GIB,
                note="printed as 325 GB, which are GiB (in GB it is "
                f"{weights / 1e9:.0f}); embeddings, biases and norms are left out",
            ),
            Row(
                quantity="KV cache", unit="TiB", source=BLOG,
                formula="4 b l h1 (s + n)", printed=1.2, text=cache / TIB,
                exact=exact_cache / TIB, note=f"printed as 1.2 TB ({cache / 1e12:.2f} in TB)",
            ),
            Row(
                quantity="KV cache over weights", unit="", source=BLOG, printed=3.8,
                text=cache / weights, exact=exact_cache / exact_weights,
                note="the same example is in Sheng et al. 2023 (FlexGen), section 3",
            ),
        ]  # fmt: skip
        curve = self._curve(spec, tokens)
        return Page(
            title=f"Weights and KV cache of {spec.name}",
            answer=f"{self.batch} requests of {tokens} tokens keep {exact_cache / TIB:.3g} TiB of "
            f"keys and values, {exact_cache / exact_weights:.2g} times as much as the weights.",
            intro=f"{self.batch} requests of {self.prompt_tokens} + {self.output_tokens} tokens "
            "keep more than the weights: at such batches the KV cache is the memory problem.",
            rows=rows,
            curves={"memory_over_batch": curve},
            pictures={
                "memory_over_batch": Picture(
                    caption=f"Memory of {spec.name} over the batch, {tokens} tokens per request.",
                    draw=lambda to: _draw_memory(to, curve),
                    charts=[_chart(curve)],
                    height_in=3.6,
                    width_in=6.6,
                )
            },
        )

    def _curve(self, spec: DecoderSpec, tokens: int) -> "DataFrame":
        import numpy as np
        import pandas as pd

        batches = np.unique(np.linspace(0, self.batch, 33).round().astype(int))
        per_request = spec.kv_bytes_per_token(NUMBER_BYTES) * tokens / GIB
        return pd.DataFrame(
            {
                "batch": batches,
                "weights_gib": NUMBER_BYTES * spec.parameters() / GIB,
                "kv_cache_gib": batches * per_request,
            }
        )


def _crossing(curve: "DataFrame") -> float:
    """Requests that keep as much as the weights take."""
    last = curve.iloc[-1]
    return float(last["weights_gib"] * last["batch"] / last["kv_cache_gib"])


def _chart(curve: "DataFrame") -> Chart:
    batches, crossing = curve["batch"], _crossing(curve)
    inside = crossing < batches.iloc[-1]
    lines = {"weights": "weights_gib", "KV cache": "kv_cache_gib"}
    rows = [
        Series(name, list(zip(batches, curve[column], strict=True)), look=place, span=(
            crossing, math.nan, math.nan, f"equal at {crossing:.0f} requests",
        ) if inside and place else None)
        for place, (name, column) in enumerate(lines.items())
    ]  # fmt: skip
    return Chart(
        "lines", "Memory over the batch", Axis("requests in the batch", zero=True), rows,
        Axis("GiB", zero=True),
    )  # fmt: skip


def _draw_memory(figure: "Figure", curve: "DataFrame") -> None:
    axes = figure.subplots()
    axes.stackplot(
        curve["batch"], curve["weights_gib"], curve["kv_cache_gib"], colors=["C0", "C4"],
        labels=["weights", "KV cache"], alpha=0.85,
    )  # fmt: skip
    crossing = _crossing(curve)
    if crossing < curve["batch"].iloc[-1]:
        axes.axvline(crossing, color="black", linestyle="--", linewidth=1)
        axes.annotate(
            f"as much cache as weights:\n{crossing:.0f} requests", (crossing, 0.97),
            xycoords=("data", "axes fraction"), xytext=(6, 0), textcoords="offset points", va="top",
        )  # fmt: skip
    axes.set_xlim(0, curve["batch"].iloc[-1])
    axes.set_xlabel("requests in the batch")
    axes.set_ylabel("GiB")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside upper center", ncols=2)
