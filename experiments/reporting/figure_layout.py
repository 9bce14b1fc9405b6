"""How a sweep is laid out on paper: the key along the axis and the curves."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import TypeVar

from experiments.reporting.records import Records
from experiments.study.errors import show
from model.dataclass import dataclass

T = TypeVar("T")

MAX_CURVES = 8
"""Curves that a reader can tell apart in one panel: the colours of the style file."""

KINDS = ("distribution", "process", "kind", "name")
"""Keys of mappings whose values say what the mapping is."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a summary that belong together: rows, by the axis key."""

    label: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A sweep on paper."""

    axis: str | None
    """The numeric key along the axis; None when none orders the points: each is then a curve."""
    title: str
    """Short names of the keys that tell the curves apart."""
    curves: tuple[Curve, ...]
    points_title: str
    """Short names of all keys that vary."""
    points: tuple[str, ...]
    """One label per row of the summary: the values of these keys."""


def sweep_layout(summary: Records, keys: Sequence[str]) -> Layout:
    """Choose the axis: the numeric key of most values that leaves curves of several points.

    The other keys that vary name the curves. Without such a key (no sweep, names only, a list of
    points that agree in nothing) every point stands alone.
    """
    varying = [key for key in keys if len(set(map(str, summary[key]))) > 1]
    points = _labels(summary, varying)
    points_title = ", ".join(map(short_key, varying))
    numeric = [key for key in varying if all(map(_is_number, summary[key]))]
    for axis in sorted(numeric, key=lambda key: -len(set(summary[key]))):
        at = [float(value) for value in summary[axis]]
        others = [key for key in varying if key != axis]
        groups: dict[str, list[int]] = {}
        for row, label in enumerate(_labels(summary, others)):
            groups.setdefault(label, []).append(row)
        alone = all(len(rows) == 1 for rows in groups.values())
        twice = any(len({at[row] for row in rows}) < len(rows) for rows in groups.values())
        if not alone and not twice:
            curves = (
                Curve(label, tuple(sorted(rows, key=at.__getitem__)))
                for label, rows in groups.items()
            )
            title = ", ".join(map(short_key, others))
            return Layout(axis, title, tuple(curves), points_title, points)
    curves = (Curve(label, (row,)) for row, label in enumerate(points))
    return Layout(None, points_title, tuple(curves), points_title, points)


def value_text(value: object) -> str:
    """Text of one swept value: ``256``, ``0.9``, ``true``, ``none``; of a mapping, its name.

    Among numbers, tables hold none as NaN.
    """
    if value is None or value != value:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if _is_number(value):
        return f"{value:.10g}"
    if isinstance(value, bool):
        return show(value)
    return str(value.get("name", value)) if isinstance(value, Mapping) else str(value)


def said(value: object) -> str:
    """Write a swept value as people read it: a mapping, which tables hold as JSON, in words.

    ``{"distribution": "lognormal", "mean": 20}`` is ``lognormal mean 20``.
    """
    text = value_text(value)
    try:
        held = value if isinstance(value, Mapping) else json.loads(text) if text[:1] == "{" else {}
    except ValueError:
        return text
    words = [said(one) if key in KINDS else f"{key} {said(one)}" for key, one in held.items()]
    return " ".join(words) or text


def short_key(key: str) -> str:
    """A key without its section: ``workload.arrivals.rate_per_s`` is ``arrivals.rate_per_s``."""
    return key.partition(".")[2] or key


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _labels(summary: Records, keys: Sequence[str]) -> tuple[str, ...]:
    columns = [[said(value) for value in summary[key]] for key in keys]
    return tuple(", ".join(values) for values in zip(*columns, strict=True)) or ("",) * len(summary)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
