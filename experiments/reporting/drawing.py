"""Figures in the house style, without a display and without a trace of when they were drawn."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)
"""A home folder that cannot be written costs it a cache, and nobody a message."""
STYLE = Path(__file__).with_name("headroom.mplstyle")


@contextmanager
def drawing(path: Path, width_in: float, height_in: float) -> "Iterator[Figure]":
    """Give an empty figure to draw on, and save it at ``path`` when the block ends."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width_in, height_in))
        yield figure
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; unlike ``savefig``, which draws a layout twice, draw it once."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(path, metadata={"Software": None})
