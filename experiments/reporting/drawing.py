"""Figures in the house style, without a display and without a trace of when they were drawn."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.dataclass import dataclass

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)
"""A home folder that cannot be written costs it a cache, and nobody a message."""
STYLE = Path(__file__).with_name("headroom.mplstyle")
WIDTH = 7.2
"""Inches: 1080 pixels, which a README shows about 880 wide."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that is drawn when somebody wants it."""

    width_in: float
    height_in: float
    fill: "Callable[[Figure], None]"
    """Draws on an empty figure."""

    def save(self, path: Path) -> None:
        """Leave it in a file."""
        with drawing(path, self.width_in, self.height_in) as figure:
            self.fill(figure)

    def figure(self) -> "Figure":
        """Return it for a notebook."""
        from experiments.reporting.figure_library import Figure

        with house_style():
            figure = Figure(figsize=(self.width_in, self.height_in))
            self.fill(figure)
            figure.draw_without_rendering()  # the style is over when somebody shows it
        return figure


@contextmanager
def house_style() -> Iterator[None]:
    """Let figures look as ``STYLE`` says, whatever the user has set.

    ``matplotlib.style`` would read every style that comes with the library first.
    """
    import matplotlib

    with matplotlib.rc_context(_settings()):
        yield


@cache
def _settings() -> dict[Any, Any]:
    """The library's own, and those of ``STYLE`` instead."""
    import matplotlib

    settings: Any = matplotlib.rc_params_from_file(STYLE)
    return {name: value for name, value in settings.items() if name != "backend"}


@contextmanager
def drawing(path: Path, width_in: float, height_in: float) -> "Iterator[Figure]":
    """Give an empty figure to draw on, and save it at ``path`` when the block ends."""
    from experiments.reporting.figure_library import Figure

    with house_style():
        figure = Figure(figsize=(width_in, height_in))
        yield figure
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; unlike ``savefig``, which draws a layout twice, draw it once."""
    from experiments.reporting.figure_library import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(path, metadata={"Software": None})


def figure_of(rows: int, columns: int, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure of equal panels, ``height`` inches each, and the panels row by row."""
    from experiments.reporting.figure_library import Figure

    figure = Figure(figsize=(WIDTH, rows * height + 0.4))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
