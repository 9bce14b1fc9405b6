"""Which requests of a trace wait for which, where its columns say so."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np

from workloads.requests import After, Floats, Ints
from workloads.traces.errors import shown
from workloads.traces.format import Linked
from workloads.traces.units import UNITS_PER_S

Fault = Callable[[int, str], Exception]
"""The error of a row."""


@dataclass(frozen=True, slots=True)
class Links:
    """Who waits for whom; rows in the order of their times."""

    after: After
    """None before a row that begins a session."""
    gap_s: Floats
    """After the last of these answers, seconds; NaN where only the times tell."""
    took_s: Floats
    """What each answer took where it was recorded, seconds; NaN where nothing tells."""
    lost: int
    """Rows that wait for somebody who is not in the trace."""
    adds: bool = False
    """Whether a turn's prompt tokens are those that it adds to all that was said before it."""

    def window(self, low: int, high: int) -> "Links":
        """Return the links among the rows from ``low`` until before ``high``."""
        starts = self.after.offsets[low : high + 1]
        rows = self.after.rows[starts[0] : starts[-1]] - low
        kept = rows >= 0
        owner = np.repeat(np.arange(high - low), np.diff(starts))
        counts = np.bincount(owner[kept], minlength=high - low)
        lost = int(np.count_nonzero((np.diff(starts) > 0) & (counts == 0)))
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
        after = After(offsets.astype(np.int64), rows[kept])
        return Links(
            after, self.gap_s[low:high], self.took_s[low:high], self.lost + lost, self.adds
        )


def links_of(
    linked: Linked, columns: Mapping[str, Sequence[object]], order: Ints, fault: Fault
) -> Links:
    """Return the links that columns of a file tell.

    Args:
        linked: what the columns are called.
        columns: their values, in the file's order.
        order: row of the file by time.
        fault: makes the error of a row of the file.

    Raises:
        TraceError: two rows of one name, a row that waits for a later one, or a time that is none.
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    own, named = columns.get(linked.own or ""), columns.get(linked.before or "")
    if own is not None and named is not None:
        before, lost = _named(own, named, fault)
    else:
        before, lost = _in_turn(columns[linked.session or ""], order), 0
    counts = [len(before[row]) for row in order.tolist()]
    rows: list[int] = []
    for row in order.tolist():
        for each in before[row]:
            if rank[each] >= rank[row]:
                raise fault(row, "waits for the answer to a later request, or to itself")
        rows += sorted(int(rank[each]) for each in before[row])
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
    return Links(
        After(offsets, np.array(rows, dtype=np.int64)),
        _times_s(linked.gap, linked.gap_unit, columns, len(order), fault)[order],
        _times_s(linked.took, linked.took_unit, columns, len(order), fault)[order],
        lost,
        linked.adds,
    )


def _named(
    own: Sequence[object], before: Sequence[object], fault: Fault
) -> tuple[list[list[int]], int]:
    """Rows that each waits for, and of how many nobody whom they wait for is there."""
    rows: dict[str, int] = {}
    for row, name in enumerate(own):
        (key,) = _names(name) or [""]
        if key and rows.setdefault(key, row) != row:
            raise fault(row, f"{shown(name)} is the name of two requests")
    found, lost = [], 0
    for names in before:
        keys = _names(names)
        there = list(dict.fromkeys(rows[key] for key in keys if key in rows))
        lost += bool(keys) and not there
        found.append(there)
    return found, lost


def _names(value: object) -> list[str]:
    """Names in a cell: one, several, or none (nothing, or -1)."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, str) and ";" in value:
        value = value.split(";")
    parts = value if isinstance(value, list) else [value]
    names = [_name(part) for part in parts]
    return [name for name in names if name not in ("", "-1")]


def _name(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _in_turn(session: Sequence[object], order: Ints) -> list[list[int]]:
    """Rows of the same session, each after the one before; those without one stand alone."""
    last: dict[str, int] = {}
    before: list[list[int]] = [[] for _ in session]
    for row in order.tolist():
        name = _name(session[row])
        if name:
            if name in last:
                before[row] = [last[name]]
            last[name] = row
    return before


def _times_s(
    name: str | None,
    unit: str,
    columns: Mapping[str, Sequence[object]],
    rows: int,
    fault: Fault,
) -> Floats:
    """Values of a column of durations, seconds; NaN where there is none."""
    times_s = np.full(rows, np.nan)
    for row, value in enumerate(columns.get(name or "", ())):
        if value is None or value == "":
            continue
        try:
            number = float(value) if isinstance(value, str | float | SupportsFloat) else -1.0
        except ValueError:
            number = -1.0
        if number != number:
            continue
        if not 0 <= number < np.inf:
            raise fault(row, f"{name} = {shown(value)}, expected a finite number >= 0")
        times_s[row] = number / UNITS_PER_S[unit]
    return times_s
