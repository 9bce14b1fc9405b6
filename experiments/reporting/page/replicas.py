"""The page's table of replicas: what each was sent, how well it was used."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from experiments.reporting.page.columns import named
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import MISSING, significant

Row = Mapping[str, Any]
MOST_SHOWN = 16
"""Replicas of a point; of more, those that were sent most."""
MOST_ROWS = 200
"""Of all points; of more, those of the points that are shown at first."""
SENT = "requests"
METRICS = (
    "prefix_cache_hit_rate", "claimed_hit_rate", "busy_share", "mean_batch_size", "kv_use_mean",
    "kv_use_max", "mfu", "mbu",
)  # fmt: skip


def replica_table(rows: Iterable[Row], labels: Mapping[int, str], first: Collection[int]) -> Table:
    """Return means over the runs of each point; of many replicas only those of ``first``.

    Args:
        rows: of replicas.csv, in its order.
        labels: what each point is called, by its number.
        first: numbers of the points that are shown at first.
    """
    groups = [
        (point, _most_sent(list(group)))
        for point, group in groupby(rows, lambda row: int(row["point"]))
    ]
    if sum(len(group) for _, group in groups) > MOST_ROWS:
        groups = [(point, group) for point, group in groups if point in first]
    shown = [row | {"point": point} for point, group in groups for row in group]
    told = [name for name in METRICS if any(row[name] for row in shown if row[name] == row[name])]
    cells = [
        (
            row["name"],
            _text(100 * row[SENT] / row["total"] if row[SENT] else math.nan),
            *(_text(row[name] * named(name)[1]) for name in told),
        )
        for row in shown
    ]
    headings = ("replica", "requests, %", *(named(name)[0] for name in told))
    points = [row["point"] for row in shown]
    return Table(headings, tuple(cells), points=points, labels=labels)


def _most_sent(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The replicas of a point that were sent most, in their order, and what all were sent."""
    found = _replicas(rows)
    total = sum(row[SENT] for row in found)
    found.sort(key=lambda row: -row[SENT])
    return [row | {"total": total} for row in sorted(found[:MOST_SHOWN], key=_number)]


def _number(row: Row) -> int:
    return int(row["replica"])


def _replicas(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The mean of all runs of a point, replica by replica."""
    by_replica: dict[int, list[Row]] = {}
    for row in rows:
        by_replica.setdefault(int(row["replica"]), []).append(row)
    return [
        {"replica": replica, "name": f"{replica} {runs[0]['pool'] or ''}".strip()}
        | {name: _mean([float(run[name]) for run in runs]) for name in (SENT, *METRICS)}
        for replica, runs in by_replica.items()
    ]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _text(value: float) -> str:
    return MISSING if math.isnan(value) else significant(value)
