"""What the page shows of a fit: step times as they were timed, beside what they are priced at."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.reporting.page.figures import Axis, Figure, Series
from experiments.reporting.page.sheet import Section

if TYPE_CHECKING:
    from experiments.calibrating.fit import Fit
    from experiments.calibrating.measure import Shape

KINDS = ("decode", "prefill", "mixed")


def kind_of(shape: "Shape") -> str:
    """Return what a step does: one of ``KINDS``."""
    if shape.contexts and shape.chunks:
        return "mixed"
    return "decode" if shape.contexts else "prefill"


def section(found: "Fit") -> Section:
    """Return the chart of all shapes that were timed; those held out were not fitted to."""
    timed_ms = [1e3 * each.seconds for each in found.measurements]
    priced_ms = (1e3 * found.predicted_s).tolist()
    kinds = [kind_of(each.shape) for each in found.measurements]
    rows = list(zip(kinds, found.held_out.tolist(), timed_ms, priced_ms, strict=True))
    series = [
        Series(
            f"{kind}, held out" if held else kind,
            [(x, y) for one, out, x, y in rows if (one, out) == (kind, held)],
            look=place, loose=True, hollow=held,
        )
        for place, kind in enumerate(KINDS)
        for held in (False, True)
    ]  # fmt: skip
    ends = (min(timed_ms), max(timed_ms))
    same = Series("as timed", [(end, end) for end in ends], look=len(KINDS))
    held_out = np.median(np.abs(found.errors[found.held_out])) if found.held_out.any() else np.nan
    told = f" Half of those held out are within {held_out:.1%}." if np.isfinite(held_out) else ""
    return Section(
        "How well the prices fit what was timed",
        f"Of the steps that were timed before anything was compared.{told}",
        figures=[
            Figure(
                "lines", "Priced and timed steps", Axis("timed step, ms", log=True),
                [*(one for one in series if one.points), same], Axis("priced step, ms", log=True),
            )
        ],
    )  # fmt: skip
