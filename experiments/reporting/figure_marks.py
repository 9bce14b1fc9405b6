"""Marks on paper: points with bars, hollow when saturated, their ticks, names and legend."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MARKERS = "os^DvPX*"
LOG_SPAN = 10.0
"""An axis whose values span at least this factor is logarithmic."""
_FAR = 3.0
"""An axis ends at the latest at this factor beyond its values, however far intervals reach."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
LIMIT_LINE: Any = {"linestyle": (0, (4, 3)), "linewidth": 0.9}
LEGEND_CHARACTERS = 120
"""Characters that fit side by side below a figure."""
NAME_CHARACTERS = 44
"""Of a point's name beside an axis."""
MOST_LINES = 2
"""Of a name or an entry of a legend."""
GREY = "#555555"
SATURATED, MISSES = "hollow: saturated", "crossed: misses the slo"
LIMIT = "limit of the slo"
"""What marks say of points."""


def colour(place: int) -> str:
    """Colour of the style file for the ``place``-th curve, from 0; after the last, the first."""
    import matplotlib as mpl

    colours: list[str] = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    return colours[place % len(colours)]


def draw_points(
    axes: "Axes", across: Floats, up: Floats, hollow: Mask, place: int, joined: bool
) -> None:
    """Draw points with their intervals, in the colour and marker of the ``place``-th curve.

    ``across`` and ``up`` have the rows value, lower end and upper end; ends are NaN where there is
    no interval. Values that are not finite leave a gap.
    """
    across, up = (np.where(np.isfinite(part), part, np.nan) for part in (across, up))
    ink = colour(place)
    if joined:
        axes.plot(across[0], up[0], color=ink, linestyle=DASHES[place % len(DASHES)], zorder=2)
    for direction, part in (("xerr", across), ("yerr", up)):
        if np.isfinite(part[1:]).any():
            bars: dict[str, Any] = {direction: np.abs(part[1:] - part[0])}
            axes.errorbar(across[0], up[0], fmt="none", ecolor=ink, alpha=0.6, elinewidth=1, **bars)
    for chosen, face in ((~hollow, ink), (hollow, "white")):
        if chosen.any():
            (marks,) = axes.plot(
                across[0][chosen],
                up[0][chosen],
                color=ink,
                linestyle="none",
                marker=MARKERS[place % len(MARKERS)],
                markerfacecolor=face,
                clip_on=False,  # whole markers on the edge of the panel
                zorder=3,
            )
            marks.set_in_layout(False)


def cross_out(axes: "Axes", across: Floats, up: Floats, crossed: Mask) -> None:
    """Put a cross on points, ``across`` and ``up`` as in ``draw_points``."""
    seen = crossed & np.isfinite(across[0]) & np.isfinite(up[0])
    if seen.any():
        (marks,) = axes.plot(
            across[0][seen], up[0][seen], color=GREY, linestyle="none", marker="x", clip_on=False,
            zorder=4,
        )  # fmt: skip
        marks.set_in_layout(False)


def curve_handle(place: int, joined: bool, marked: bool = True) -> "Line2D":
    """Legend entry of the ``place``-th curve."""
    from matplotlib.lines import Line2D

    marker = MARKERS[place % len(MARKERS)] if marked else "none"
    dashes: Any = DASHES[place % len(DASHES)] if joined and marked else "-" if joined else "none"
    return Line2D([], [], color=colour(place), marker=marker, linestyle=dashes)


def legend(
    figure: "Figure", title: str, handles: Mapping[str, "Line2D"], states: Sequence[str], seeds: int
) -> None:
    """Explain below the figure: its curves, what marks mean (``states``) and what the bars are.

    A curve without a label is not listed; fewer than 2 ``seeds`` mean that there are no bars.
    """
    from matplotlib.lines import Line2D

    entries = {label: handle for label, handle in handles.items() if label}
    for state in states:
        marker = {SATURATED: "o", MISSES: "x", LIMIT: "none"}[state]
        line: Any = LIMIT_LINE if state == LIMIT else {"linestyle": "none"}
        mark = Line2D([], [], color=GREY, marker=marker, markerfacecolor="white", **line)
        entries[state] = mark
    if seeds > 1:
        bar = Line2D([], [], color=GREY, marker="|", markersize=9, linestyle="none")
        entries[f"95% interval, {seeds} seeds"] = bar
    if entries:
        figure.legend(
            list(entries.values()),
            [folded(label, LEGEND_CHARACTERS - 9) for label in entries],
            loc="outside lower center",
            ncols=_legend_columns([len(label) + 9 for label in entries]),
            title=title if any(handles) else None,
        )


def folded(label: str, characters: int) -> str:
    """Return a long label in lines of so many characters, two at most, which may end in dots."""
    lines = wrap(label, characters, break_on_hyphens=False)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1][: characters - 3] + "..."]
    return "\n".join(lines)


def plain_ticks(
    axes: "Axes", which: str, values: Floats, *, logarithmic: bool = True, at_values: bool = False
) -> None:
    """Scale the ``"x"`` or ``"y"`` axis for ``values`` and write its ticks as plain numbers.

    ``values`` has the rows of ``draw_points``; ends of intervals far from all values are cut off.
    Logarithmic, where allowed, when the values span ``LOG_SPAN``; else from 0 upwards. With
    ``at_values`` the ticks are at the values themselves, when there is room to read them.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    finite = np.unique(values[0][np.isfinite(values[0])])
    if not len(finite):
        return
    low, high = float(finite[0]), float(np.where(np.isfinite(values), values, -np.inf).max())
    high = min(high, _FAR * float(finite[-1])) if finite[-1] > 0 else high
    logarithmic = logarithmic and low > 0 and finite[-1] >= LOG_SPAN * low
    if logarithmic:
        ends = values[np.isfinite(values) & (values > low / _FAR)]
        axes.set(**{f"{which}scale": "log", f"{which}lim": (ends.min() / 1.3, high * 1.3)})
        axis.set_minor_locator(NullLocator())
        subs = (1.0,) if high >= 1e3 * low else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    elif not at_values:
        axes.set(**{f"{which}lim": (0, high * 1.1 or 1.0)})
    if at_values and _apart(np.log(finite) if logarithmic else finite):
        axis.set_major_locator(FixedLocator([float(value) for value in finite]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def name_points(
    axes: "Axes", across: Floats, up: Floats, curves: Sequence[Sequence[int]], names: Sequence[str]
) -> None:
    """Write the name of each point beside it, where it covers no marker and no other name.

    ``across`` and ``up`` have the rows of ``draw_points`` and one column per point; ``curves`` hold
    columns. A place off lines and bars is preferred. Neighbours on a curve that coincide share a
    name. The ends of a curve go first, and a name that finds no free place is left out. The
    figure's layout must be fixed (``Figure.draw_without_rendering``).
    """
    from matplotlib.transforms import Bbox

    inked = np.isfinite(across[0]) & np.isfinite(up[0])
    columns = [[column for column in curve if inked[column]] for curve in curves]
    places = axes.transData.transform(np.column_stack((across[0], up[0])))
    ink = [_along(places[curve]) for curve in columns if curve]
    ink += [
        _along(bar)
        for column in np.flatnonzero(inked).tolist()
        for bar in _bars(axes, across, up, column)
    ]
    lines = np.concatenate(ink) if ink else np.empty((0, 2))
    reach = 3.5 * axes.figure.dpi / 72
    taken = [Bbox([place - reach, place + reach]) for place in places[inked]]
    for number, curve in enumerate(columns):
        groups = _coinciding(curve, places, 2 * reach)
        for rank in sorted(range(len(groups)), key=lambda i: 0 < i < len(groups) - 1):
            group = groups[rank]
            first, last = names[group[0]], names[group[-1]]
            words = (
                first if len(group) == 1 else f"{first}{', ' if len(group) == 2 else ' to '}{last}"
            )
            text = axes.annotate(
                words,
                (across[0][group[0]], up[0][group[0]]),
                (0, 0),
                textcoords="offset points",
                fontsize=7.5,
                color=colour(number) if len(columns) <= len(MARKERS) else "black",
            )
            box = _settle(text, taken, lines)
            taken += [] if box is None else [box]


def _apart(places: Floats) -> bool:
    """Whether labels at these places of an axis have room: a fourteenth of it between them."""
    return bool((np.diff(places) >= (places[-1] - places[0]) / 14).all())


def _legend_columns(widths: Sequence[int]) -> int:
    """Most columns in which entries of these widths (characters) fit.

    matplotlib fills columns downwards, and the first ones get what the division leaves over.
    """
    for columns in range(len(widths), 1, -1):
        rows, longer = divmod(len(widths), columns)
        starts = [rows * i + min(i, longer) for i in range(columns + 1)]
        needed = sum(max(widths[i:j]) for i, j in pairwise(starts))
        if needed <= LEGEND_CHARACTERS:
            return columns
    return 1


def _along(path: Floats) -> Floats:
    """Places along the line through the points."""
    at = np.linspace(0, len(path) - 1, 60 * (len(path) - 1) + 1)
    return np.column_stack([np.interp(at, np.arange(len(path)), column) for column in path.T])


def _bars(axes: "Axes", across: Floats, up: Floats, column: int) -> list[Floats]:
    """Ends on paper of the bars of one point, as far as they are within the axes."""
    x, y = np.clip(across[:, column], *axes.get_xlim()), np.clip(up[:, column], *axes.get_ylim())
    bars = ([(x[1], y[0]), (x[2], y[0])], [(x[0], y[1]), (x[0], y[2])])
    return [axes.transData.transform(bar) for bar in bars if np.isfinite(bar).all()]


def _coinciding(curve: Sequence[int], places: Floats, distance: float) -> list[list[int]]:
    """Cut a curve where neighbours are at least ``distance`` apart on paper."""
    groups: list[list[int]] = []
    for column in curve:
        if groups and np.abs(places[column] - places[groups[-1][-1]]).max() < distance:
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def _settle(text: "Annotation", taken: "list[Bbox]", lines: Floats) -> "Bbox | None":
    """Move a text to its best free place and return the place; remove it when there is none."""
    text.set_in_layout(False)
    axes = text.axes
    assert axes is not None
    frame, best, least = axes.bbox, None, np.inf
    for across, up in _DIRECTIONS:
        ha = ("right", "center", "left")[int(np.sign(across)) + 1]
        va = ("top", "center", "bottom")[int(np.sign(up)) + 1]
        text.set(position=(5.5 * across, 5.5 * up), ha=ha, va=va)
        box = text.get_window_extent().frozen()
        within = (
            box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
        )
        crossed = int(((lines > box.min) & (lines < box.max)).all(axis=1).sum())
        if within and crossed < least and not any(box.overlaps(other) for other in taken):
            best, least = (text.get_position(), ha, va, box), crossed
    if best is None:
        text.remove()
        return None
    text.set(position=best[0], ha=best[1], va=best[2])
    return best[3]


_DIRECTIONS = (
    (0, 1), (0, -1), (1, 0), (-1, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7),
    (0, 2), (0, -2), (1.6, 1.6), (-1.6, 1.6), (1.6, -1.6), (-1.6, -1.6),
)  # fmt: skip
"""Directions from a point in which its text may stand, the preferred ones first."""
