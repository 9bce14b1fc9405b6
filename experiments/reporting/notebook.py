"""Figures of a study for a notebook."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.reporting.drawing import house_style
from experiments.reporting.figure_caption import caption_of, entitle
from experiments.reporting.figure_layout import sweep_layout
from experiments.reporting.limits import limits_of
from experiments.reporting.plots import FIGURES, TITLES
from experiments.reporting.records import Records
from model.errors import one_of
from sim.measuring.slo import Slo

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_named(
    name: str,
    study_name: str,
    sweep_keys: Sequence[str],
    runs: Records,
    summary: Records,
    slo: Slo | None,
) -> "Figure":
    """Return one of ``FIGURES`` in the house style, for a notebook.

    Raises:
        ValueError: no figure has that name, or there is nothing to draw.
    """
    if name not in FIGURES:
        raise ValueError(f"figure {name!r}: {one_of(name, tuple(FIGURES))}")
    with house_style():
        layout = sweep_layout(summary, sweep_keys)
        figure = FIGURES[name](layout, summary, len(set(runs["seed"])), limits_of(slo))
        if figure is None:
            raise ValueError(f"figure {name!r} has nothing to draw: too few points are known")
        caption = caption_of(sweep_keys, list(summary.rows()), slo)
        entitle(figure, f"{study_name}: {TITLES[name]}", caption)
        figure.draw_without_rendering()  # the style is over when somebody shows it
    return figure
