"""Charts of a page as plain data: what ``assets/sheet.js`` hands to the chart module."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field
from typing import Any, Literal

from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of numbers."""

    title: str
    log: bool = False
    zero: bool = False
    """Whether a linear one begins at 0."""
    domain: tuple[float, float] | None = None
    """Default: as far as the values reach."""
    unit: str = ""
    """Behind each number of the axis."""
    ticks: Sequence[float] = ()
    """Default: round numbers."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A line that values keep below, above, or just beside."""

    value: float
    text: str
    keep: Literal["below", "above", "beside"] = "below"


@dataclass(frozen=True, slots=True)
class Series:
    """A line through points ``(x, y)`` or ``(x, y, low, high)``."""

    name: str
    points: Sequence[tuple[float, ...]]
    look: int = 0
    """Its colour and shape: alike for what belongs together."""
    dash: int = 0
    loose: bool = False
    """Whether its points are marks without a line."""
    hollow: bool = False
    span: tuple[float, float, float, str] | None = None
    """A value on the x axis with the ends of its interval, and what stands beside it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A row with a bar, and an interval where one is known."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    state: Literal["plain", "good", "bad"] = "plain"
    hollow: bool = False
    strong: bool = False
    text: str = ""
    """What a pointer or a screen reader is told; by default name and value."""


@dataclass(frozen=True, slots=True)
class Band:
    """A row of slices ``(from, to, kind)``: kinds are places in the names of the figure."""

    name: str
    slices: Sequence[tuple[float, float, int]]


@dataclass(frozen=True, slots=True)
class Stack:
    """A row of parts side by side, one for each name of the figure."""

    name: str
    parts: Sequence[float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart."""

    kind: Literal["lines", "bars", "stacks", "bands"]
    label: str
    x: Axis
    rows: Sequence[Series | Bar | Stack | Band]
    y: Axis | None = None
    limits: Sequence[Limit] = ()
    base: float | None = None
    """Where bars begin; by default at the left end."""
    names: Sequence[str] = field(default=())
    """Of the parts of stacks; or of the kinds of slices, each with its class in the style:
    ``kept:kept the SLO``."""

    def told(self) -> dict[str, Any]:
        """Return it as a page has it."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def plain(value: Any, digits: int = 5) -> Any:
    """Return data as JSON can hold them: few digits, None for what is no number."""
    if isinstance(value, Mapping):
        return {key: plain(each, digits) for key, each in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Iterable):
        return [plain(each, digits) for each in value]
    if isinstance(value, int):
        return value
    number = float(value)
    return float(f"{number:.{digits - 1}e}") if math.isfinite(number) else None
