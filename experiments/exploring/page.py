"""The live page: one template, the report's charts and style, the knobs inside it."""

from collections.abc import Sequence

from experiments.exploring.knobs import Knob
from experiments.exploring.points import MOST_SEEDS, Base
from experiments.reporting.page.base import rendered
from experiments.reporting.page.curves import RANKS
from sim.measuring.percentiles import PERCENTS


def live_page(base: Base, knobs: Sequence[Knob]) -> str:
    """Return the page, its script, style and knobs inside it."""
    data = {
        "name": base.name,
        "knobs": [knob.told() for knob in knobs],
        "ranks": list(RANKS),
        "percents": list(PERCENTS),
        "most_seeds": MOST_SEEDS,
    }
    return rendered(
        "live.html.j2", ("live.js",), data, ("live.css",),
        name=base.name, description="", basis="", told=base.notes, notes=(), texts=(),
    )  # fmt: skip
