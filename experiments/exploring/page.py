"""The live page: the report's charts and style, with knobs."""

from collections.abc import Sequence

from experiments.exploring.knobs import Knob
from experiments.exploring.points import MOST_SEEDS, Base
from experiments.reporting.page.curves import PARTS, RANKS
from experiments.reporting.page.write import asset, embedded, environment, sha
from sim.percentiles import PERCENTS

SCRIPTS = ("charts.js", "live.js")


def live_page(base: Base, knobs: Sequence[Knob]) -> str:
    """Return the page, its script, style and knobs inside it."""
    style, *scripts = (asset(name) for name in ("page.css", *SCRIPTS))
    data = {
        "name": base.name,
        "knobs": [knob.told() for knob in knobs],
        "ranks": list(RANKS),
        "percents": list(PERCENTS),
        "parts": list(PARTS),
        "most_seeds": MOST_SEEDS,
    }
    return environment().get_template("live.html.j2").render(
        name=base.name,
        notes=base.notes,
        data=embedded(data),
        style=style,
        style_sha=sha(style),
        scripts=scripts,
        script_shas=[sha(script) for script in scripts],
    )  # fmt: skip
