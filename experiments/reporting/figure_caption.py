"""What stands above a figure: its title and, where there is an slo, who keeps it at what price."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from experiments.reporting.limits import limits_text
from experiments.reporting.page.columns import label_of, telling_keys
from experiments.reporting.page.verdict import (
    KEPT,
    NOBODY,
    answer,
    by_merit,
    counts_text,
    price_text,
    state_of,
    unanswered,
)
from model.counts import count_of
from sim.measuring.slo import Slo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION_CHARACTERS = 126
"""Of one line across a figure."""
CAPTION_POINTS = 7.5
LINE = 1.4
"""Height of a line, in sizes of its font."""


def caption_of(keys: Sequence[str], rows: Sequence[Mapping[str, Any]], slo: Slo | None) -> str:
    """Say in a line how many points keep the limits, in the next which is cheapest, as the page.

    Beside that point stand its GPUs and what an hour of them costs. Nothing without an slo.

    Args:
        keys: that are swept; each is in every row.
        rows: of summary.csv.
        slo: limits of the study.
    """
    if slo is None or not rows:
        return ""
    states = [state_of(row, slo) for row in rows]
    names = telling_keys(keys, rows)
    labels = [label_of(names, row) for row in rows]
    best = by_merit(rows, states, slo)[0]
    hardware = _hardware(rows[best]) if states[best] == KEPT else ""
    if hardware and len(rows) > 1:
        labels[best] += f" ({hardware})"
    told = f"{NOBODY}." if unanswered(rows) else answer(rows, states, labels, best)
    if hardware and len(rows) == 1:
        told += f" {', '.join(filter(None, (hardware, price_text(rows[best]))))}."
    return f"Limits: {limits_text(slo, '≤')}. {counts_text(states)}".strip() + f"\n{told}"


def _hardware(row: Mapping[str, Any]) -> str:
    """Return ``4 GPUs, 10.00 USD/h``, as far as they are known."""
    gpus, usd = (float(row.get(name, math.nan)) for name in ("gpus", "usd_per_hour"))
    found = [] if math.isnan(gpus) else [count_of(round(gpus), "GPU")]
    return ", ".join([*found, *([] if math.isnan(usd) else [f"{usd:,.2f} USD/h"])])


def entitle(figure: "Figure", title: str, caption: str) -> None:
    """Put the title above a figure and the caption below the title.

    The paper grows by the lines of the caption, so that panels stay as they were laid out; empty
    lines of the title keep the room.
    """
    lines = caption.splitlines()
    if any(len(line) > CAPTION_CHARACTERS for line in lines):
        lines = wrap(caption, CAPTION_CHARACTERS)
    head = figure.suptitle(title)
    if not lines:
        return
    from matplotlib.transforms import ScaledTranslation

    size, inch = float(head.get_fontsize()), 1 / 72
    rows = math.ceil(len(lines) * CAPTION_POINTS / size)
    head.set_text(title + "\n" * rows)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + rows * size * LINE * inch)
    down = ScaledTranslation(0, -(size * LINE + 5) * inch, figure.dpi_scale_trans)
    figure.text(
        0.5, 1, "\n".join(lines), fontsize=CAPTION_POINTS, ha="center", va="top", color="#333333",
        linespacing=1.2, transform=figure.transFigure + down,
    ).set_in_layout(False)  # fmt: skip
