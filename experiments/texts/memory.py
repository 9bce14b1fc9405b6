"""How many requests fit in memory beside the weights."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from experiments.reporting.page.figures import Axis, Series
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.marks import LINES
from experiments.texts.models import wide_spec
from experiments.texts.page import (
    GIB,
    PROJECT,
    SOLUTION_A,
    SOLUTION_B,
    Page,
    Picture,
    Row,
    TableStudy,
    ratio,
)
from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import MemoryDemand, MemoryLedger, memory_ledger
from model.alike import attention_of, dense_of
from model.ops import tensor_parallel_sizes
from model.precision import precision
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NUMBER_BYTES = 2
"""Every text has 16-bit weights and KV cache."""
PRINTED_BATCHES = {1: (556, 278, 139), 2: (1196,), 4: (2476,), 8: (5036,)}
"""Solution B by tensor-parallel size; in the order of 1024, 2048 and 4096 tokens."""


def batch(memory_gib: float, weights_gib: float, request_gib: float) -> int:
    """Return the texts' batch: requests that fit in what the weights leave."""
    return int((memory_gib - weights_gib) / request_gib)


def two_matrix_parameters(spec: DecoderSpec) -> int:
    """Return the count that matches solution B's printed figures.

    Up and down matrices, but neither gate nor output projection; queries, keys, values; an
    embedding and an LM head; RMSNorm weights. The text prints 5.61e9 and 10.458 GiB and not its
    sum, and of the plausible sums this one gives both.
    """
    heads = attention_of(spec)
    attention = spec.hidden_size * (heads.query_size + 2 * heads.kv_size)
    mlp = 2 * spec.hidden_size * dense_of(spec).width
    norms = (2 * spec.num_layers + 1) * spec.hidden_size
    return spec.num_layers * (attention + mlp) + norms + 2 * spec.vocab_size * spec.hidden_size


class MemoryAndBatch(TableStudy):
    """Parameters, weights, KV cache per request, and the largest batch beside the weights."""

    table: Literal["memory_and_batch"] = "memory_and_batch"
    """Which table."""
    model: str = "llama-3-8b"
    """A decoder with a gated MLP."""
    gpu: str = "a100-80gb-sxm"
    """A GPU of the catalogue, for the exact figures."""
    memory_gib: PositiveFloat = 80.0
    """Memory of one GPU as the texts have it."""
    tokens: tuple[PositiveInt, ...] = Field(default=(1024, 2048, 4096), min_length=1)
    """Lengths of a request, prompt and answer together."""
    rounded_parameters: PositiveFloat = 8e9
    """Solution A's."""
    rounded_weights_gib: PositiveFloat = 15.0
    """What solution A subtracts for them."""
    rounded_tensor_parallel_size: PositiveInt = 3
    """Solution A's group."""
    tensor_parallel_sizes: tuple[PositiveInt, ...] = (2, 4, 8)
    """Solution B's groups."""
    gpu_memory_utilization: PositiveFloat = Field(default=0.9, le=1)
    """Share of the memory that an engine takes; exact figures only."""
    max_num_batched_tokens: PositiveInt = 2048
    """Tokens of the largest step, which sizes the activations; exact figures only."""
    max_num_seqs: PositiveInt = 256
    """Sequences of the largest step; exact figures only."""

    def page(self) -> Page:
        """Compute both solutions and the ledger."""
        spec = wide_spec(self.model)
        curve = self._curve(spec)
        longest = curve[curve["tokens"] == max(self.tokens)].iloc[0]
        return Page(
            title=f"Memory and batch of {spec.name}",
            answer=f"One {self.gpu} holds {longest['batch_exact']:,.0f} requests of "
            f"{longest['tokens']:,.0f} tokens; the texts have "
            f"{longest['batch_solution_a']:,.0f} and {longest['batch_solution_b']:,.0f}.",
            intro="A request keeps keys and values of all its tokens; what the weights leave of "
            "the memory, divided by that, is the largest batch. `exact` is the ledger that the "
            "simulator uses: it also subtracts activations, the runtime and the share of the "
            "memory that the engine leaves alone, and hands out whole blocks. A batch is that of "
            "the whole tensor-parallel group: every GPU of it holds its share of every request.",
            rows=[*self._solution_a(spec), *self._solution_b(spec), *self._left_out(spec)],
            curves={"batch_over_tensor_parallel": curve},
            pictures={
                "batch_over_tensor_parallel": Picture(
                    caption=f"Largest batch of {spec.name} over the size of the tensor-parallel "
                    "group, by what is counted.",
                    draw=lambda to: _draw_batches(to, curve),
                    charts=_charts(curve),
                )
            },
        )

    def _request_gib(self, spec: DecoderSpec, tokens: int) -> float:
        return spec.kv_bytes_per_token(NUMBER_BYTES) * tokens / GIB

    def _ledger(self, spec: DecoderSpec, tp: int) -> MemoryLedger:
        return memory_ledger(
            MemoryDemand(
                spec=spec,
                gpu=load_gpu(self.gpu),
                precision=precision(),
                tp=tp,
                gpu_memory_utilization=self.gpu_memory_utilization,
                max_num_batched_tokens=self.max_num_batched_tokens,
                max_num_seqs=self.max_num_seqs,
            )
        )

    def _exact_batch(self, spec: DecoderSpec, tp: int, tokens: int) -> int:
        ledger = self._ledger(spec, tp)
        return ledger.num_gpu_blocks // -(-tokens // ledger.block_size)

    def _solution_a(self, spec: DecoderSpec) -> Iterator[Row]:
        longest, tp = max(self.tokens), self.rounded_tensor_parallel_size
        request = self._request_gib(spec, longest)
        exact = spec.parameters()
        weights = NUMBER_BYTES * self.rounded_parameters / GIB
        yield Row(
            quantity="parameters, rounded", unit="", source=SOLUTION_A, formula="8e9",
            printed=8e9, text=self.rounded_parameters, exact=exact,
            note=f"the name's 8B; {ratio(exact, self.rounded_parameters)}",
        )  # fmt: skip
        yield Row(
            quantity="weights, rounded", unit="GiB", source=SOLUTION_A, formula="2 P / 2^30",
            printed=15.0, text=weights, exact=NUMBER_BYTES * exact / GIB,
            note="rounded up to 15 before it is subtracted",
        )  # fmt: skip
        yield Row(
            quantity=f"KV cache of a request of {longest} tokens", unit="GiB", source=SOLUTION_A,
            formula="2 * 2 bytes * layers * kv_heads * d * N / 2^30",
            printed=0.5, text=request, exact=request, note="the same; blocks round N up",
        )  # fmt: skip
        one = batch(self.memory_gib, self.rounded_weights_gib, request)
        yield Row(
            quantity=f"largest batch, {longest} tokens, one GPU", unit="requests",
            source=SOLUTION_A, formula="(M - 15) / KV", printed=130, text=one,
            exact=self._exact_batch(spec, 1, longest),
            note="the text leaves out activations, runtime, reserve and whole blocks",
        )  # fmt: skip
        group = batch(tp * self.memory_gib, self.rounded_weights_gib, request)
        divides = tp in tensor_parallel_sizes(spec)
        whole = self._exact_batch(spec, tp, longest) if divides else None
        cut = (
            ""
            if divides
            else f"; no engine cuts {attention_of(spec).num_heads} heads into {tp}: no exact value"
        )
        yield Row(
            quantity=f"largest batch, {longest} tokens, tensor parallel {tp}", unit="requests",
            source=SOLUTION_A, formula="(TP M - 15) / KV", printed=450, text=group, exact=whole,
            note=f"this is the batch of the whole group{cut}",
        )  # fmt: skip
        yield Row(
            quantity=f"the same times {tp}, as the text goes on", unit="requests",
            source=SOLUTION_A, formula="TP (TP M - 15) / KV", text=tp * group,
            exact=whole,
            note="an error: the memory of all GPUs is counted already, and each of them holds a "
            f"share of every request, so a group's batch is no sum over its GPUs; {group} stands",
        )  # fmt: skip

    def _solution_b(self, spec: DecoderSpec) -> Iterator[Row]:
        parameters, exact = two_matrix_parameters(spec), spec.parameters()
        weights = NUMBER_BYTES * parameters / GIB
        yield Row(
            quantity="parameters, two-matrix MLP", unit="", source=SOLUTION_B,
            formula="L (h (q + 2 kv) + 2 h w + 2 h) + h + 2 V h", printed=5.61e9, text=parameters,
            exact=exact,
            note="an error: the gate matrix is missing, and so is the output projection (the sum "
            f"is ours; it gives both printed figures); {ratio(exact, parameters)}",
        )  # fmt: skip
        yield Row(
            quantity="weights, two-matrix MLP", unit="GiB", source=SOLUTION_B,
            formula="2 P / 2^30", printed=10.458, text=weights, exact=NUMBER_BYTES * exact / GIB,
            note="as above",
        )  # fmt: skip
        for tp in (1, *self.tensor_parallel_sizes):
            for index, tokens in enumerate(self.tokens if tp == 1 else self.tokens[:1]):
                known = PRINTED_BATCHES.get(tp, ())
                note = "weights too small, nothing but weights subtracted"
                if tp > 1:
                    note += "; printed as a batch per GPU, but it is the group's: memory and "
                    note += "requests are both those of all its GPUs"
                yield Row(
                    quantity=f"largest batch, {tokens} tokens, "
                    + (f"tensor parallel {tp}" if tp > 1 else "one GPU, two-matrix MLP"),
                    unit="requests", source=SOLUTION_B, formula="(TP M - W) / KV",
                    printed=known[index] if index < len(known) else None,
                    text=batch(tp * self.memory_gib, weights, self._request_gib(spec, tokens)),
                    exact=self._exact_batch(spec, tp, tokens), note=note,
                )  # fmt: skip

    def _left_out(self, spec: DecoderSpec) -> Iterator[Row]:
        ledger = self._ledger(spec, 1)
        missing = self.memory_gib - ledger.total_bytes / GIB
        entries = {
            "memory that the driver keeps": (missing, "80 GB are sold, fewer are offered"),
            "memory that the engine leaves alone": (
                (ledger.total_bytes - ledger.budget_bytes) / GIB,
                f"gpu_memory_utilization = {self.gpu_memory_utilization:g}",
            ),
            "activations": (ledger.activations.bytes / GIB, "peak of the largest step"),
            "outside of torch": (ledger.non_torch_bytes / GIB, "CUDA and its libraries"),
            "CUDA graphs": (ledger.graphs_bytes / GIB, "captured at start"),
            "rest of a last block": (
                (ledger.kv_bytes - ledger.num_gpu_blocks * ledger.block_bytes) / GIB,
                f"blocks of {ledger.block_size} tokens",
            ),
        }
        for name, (gib, note) in entries.items():
            yield Row(
                quantity=f"left out by the texts: {name}", unit="GiB", source=PROJECT, text=0.0,
                exact=gib, note=note,
            )  # fmt: skip

    def _curve(self, spec: DecoderSpec) -> "DataFrame":
        import pandas as pd

        weights = NUMBER_BYTES * two_matrix_parameters(spec) / GIB
        points = []
        for tokens in self.tokens:
            request = self._request_gib(spec, tokens)
            for tp in tensor_parallel_sizes(spec, 8):
                memory = tp * self.memory_gib
                points.append(
                    {
                        "tokens": tokens,
                        "tensor_parallel_size": tp,
                        "batch_solution_a": batch(memory, self.rounded_weights_gib, request),
                        "batch_solution_b": batch(memory, weights, request),
                        "batch_exact": self._exact_batch(spec, tp, tokens),
                    }
                )
        return pd.DataFrame(points)


KINDS = {
    "batch_solution_a": ("solution A: 15 GiB of weights", "s", "--"),
    "batch_solution_b": ("solution B: two-matrix MLP", "^", ":"),
    "batch_exact": ("exact: the ledger", "o", "-"),
}
"""Columns of the curve: what each counts, its mark and its line."""


def _charts(curve: "DataFrame") -> list[Chart]:
    found = []
    for tokens, here in curve.groupby("tokens"):
        sizes = here["tensor_parallel_size"]
        rows = [
            Series(label, list(zip(sizes, here[column], strict=True)), look=place,
                   dash=LINES.index(line))
            for place, (column, (label, _, line)) in enumerate(KINDS.items())
        ]  # fmt: skip
        axis = Axis("tensor-parallel size", log=True, ticks=[float(size) for size in sizes])
        found.append(
            Chart("lines", f"Largest batch of {tokens} tokens", axis, rows,
                  Axis(f"largest batch, {tokens:,} tokens", log=True))
        )  # fmt: skip
    return found


def _draw_batches(figure: "Figure", curve: "DataFrame") -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    lengths = list(dict.fromkeys(curve["tokens"]))
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    for axes, tokens in zip(panels, lengths, strict=True):
        here = curve[curve["tokens"] == tokens]
        for index, (column, (label, marker, line)) in enumerate(KINDS.items()):
            axes.plot(
                here["tensor_parallel_size"], here[column], line, color=f"C{index}",
                marker=marker, label=label,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        sizes = list(here["tensor_parallel_size"])
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_title(f"{tokens} tokens per request")
        axes.set_xlabel("GPUs of the group")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("largest batch of the group")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
