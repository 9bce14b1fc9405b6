"""Shares of FLOPs and of run time of a decoder's operators, beside those published for BERT."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from experiments.reporting.page.figures import Axis, Stack
from experiments.reporting.page.figures import Figure as Chart
from experiments.texts.models import wide_spec
from experiments.texts.page import IVANOV, PROJECT, Page, Picture, Row, TableStudy
from experiments.texts.profile import CLASSES, flops_by_class, seconds_by_class
from model.ops import step_operators
from model.precision import precision
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Shares = dict[str, float]
"""Percent, by class."""

BERT_FLOPS = {"contractions": 99.80, "normalisations": 0.17, "element-wise": 0.03}
BERT_TIME = {"contractions": 61.0, "normalisations": 25.5, "element-wise": 13.5}
"""Percent of a BERT encoder layer: tensor contractions, statistical normalizations, element-wise
operators (Ivanov et al. 2021, table 1)."""


class OperatorClasses(TableStudy):
    """Contractions, normalisations and element-wise operators of a real decoder's prefill."""

    table: Literal["operator_classes"] = "operator_classes"
    """Which table."""
    timed: ClassVar[bool] = True
    model: str = "gpt2"
    """The decoder that torch runs, with random weights: a name or a config.json."""
    layers: PositiveInt = 4
    """Of them, so many are built."""
    counted_model: str = "llama-3-8b"
    """A model of full size whose FLOPs are counted and not run."""
    tokens: PositiveInt = 512
    """Tokens of the prefill."""
    repeats: PositiveInt = 8
    """Timed passes, after one that warms up."""
    threads: PositiveInt | None = 1
    """Cores that torch computes on."""
    seed: int = Field(default=0, ge=0)
    """Of the weights."""

    def page(self) -> Page:
        """Count FLOPs, and time the classes with torch's profiler, on the CPU in float32."""
        counted = self._flop_shares(wide_spec(self.counted_model))
        flops = self._flop_shares(wide_spec(self.model).first_layers(self.layers))
        time = self._time_shares()
        rows = [*self._flop_rows(counted, flops), *_time_rows(time)]
        return Page(
            title="Where FLOPs are, and where time goes",
            answer=f"Contractions are {flops['contractions']:.4g}% of the arithmetic and "
            f"{time['contractions']:.3g}% of the time of {self.model} on this machine; of a BERT "
            f"encoder on a V100 {BERT_FLOPS['contractions']:.4g}% and "
            f"{BERT_TIME['contractions']:.3g}%.",
            intro="Normalisations and element-wise operators are a fraction of a percent of the "
            "arithmetic and a large part of the time, because they are bound by memory. `exact` is "
            "the torch decoder's: FLOPs as model/ops.py counts them, time as torch's profiler "
            f"measures it over {self.repeats} prefills of {self.tokens} tokens with standard "
            "attention. Times differ from run to run and from machine to machine. `text` is a BERT "
            "encoder layer's.",
            rows=rows,
            pictures={
                "operator_classes": Picture(
                    caption="Shares of FLOPs and of time by class of operator.",
                    draw=lambda to: _draw(to, flops, time),
                    charts=[_chart(flops, time)],
                    height_in=3.2,
                )
            },
        )

    def _flop_rows(self, counted: Shares, flops: Shares) -> Iterator[Row]:
        for name in CLASSES:
            about = (
                "adding positions to the embedding: the published classes have no such share"
                if name not in BERT_FLOPS
                else "nearly all arithmetic is in contractions; the small shares depend on what an "
                "exponential or a tanh counts (GELU: 9 FLOPs here)"
            )
            published = IVANOV if name in BERT_FLOPS else PROJECT
            yield Row(
                quantity=f"{name}, share of FLOPs",
                unit="%",
                source=published,
                printed=BERT_FLOPS.get(name),
                text=BERT_FLOPS.get(name),
                exact=flops[name],
                note=f"{about}; {self.counted_model}: {counted[name]:.2f}%",
            )

    def _flop_shares(self, spec: DecoderSpec) -> Shares:
        operators = step_operators(
            spec, 0, 0, [(self.tokens, 0)], precision=precision("float32"), fused=False
        )
        return _percent(flops_by_class(operators))

    def _time_shares(self) -> Shares:
        from experiments.calibrating.decoders import build_decoder

        if find_spec("torch") is None:
            raise ValueError("table = operator_classes needs torch: pip install -e '.[torch]'")
        decoder = build_decoder(self.model, "cpu", "float32", self.layers, self.seed, self.threads)
        return _percent(seconds_by_class(decoder, self.tokens, self.repeats))


def _percent(amounts: Shares) -> Shares:
    total = sum(amounts.values())
    return {name: 100 * amount / total for name, amount in amounts.items()}


def _shares(flops: Shares, time: Shares) -> dict[str, Shares]:
    return {
        "BERT encoder, time (published)": BERT_TIME,
        "this decoder, time": time,
        "BERT encoder, FLOPs (published)": BERT_FLOPS,
        "this decoder, FLOPs": flops,
    }


def _chart(flops: Shares, time: Shares) -> Chart:
    rows = [
        Stack(name, [shares.get(kind, 0.0) for kind in CLASSES])
        for name, shares in _shares(flops, time).items()
    ]
    axis = Axis("share, %", domain=(0, 100), unit="%")
    return Chart("stacks", "Shares by class of operator", axis, rows, names=CLASSES)


def _draw(figure: "Figure", flops: Shares, time: Shares) -> None:
    axes = figure.subplots()
    bars = _shares(flops, time)
    left = dict.fromkeys(bars, 0.0)
    for index, name in enumerate(CLASSES):
        shares = [shares.get(name, 0.0) for shares in bars.values()]
        axes.barh(
            list(bars), shares, left=list(left.values()), label=name, color=f"C{index}", height=0.6
        )
        for place, (bar, share) in enumerate(zip(bars, shares, strict=True)):
            if share > 3:
                axes.text(
                    left[bar] + share / 2, place, f"{share:.1f}", ha="center", va="center",
                    color="white",
                )  # fmt: skip
            left[bar] += share
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share in %")
    figure.legend(loc="outside upper center", ncols=len(CLASSES))


def _time_rows(time: Shares) -> Iterator[Row]:
    for name in CLASSES:
        yield Row(
            quantity=f"{name}, share of time",
            unit="%",
            source=IVANOV if name in BERT_TIME else PROJECT,
            printed=BERT_TIME.get(name),
            text=BERT_TIME.get(name),
            exact=time[name],
            note="published: training on a V100 with tensor cores; here: a forward pass on "
            "a CPU, whose arithmetic is slow beside its memory, so that contractions weigh "
            "more",
        )
