"""The page's table of replicas: what each was sent, how well it was used."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from experiments.reporting.page.columns import named
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import MISSING, significant

Row = Mapping[str, Any]
MOST_SHOWN = 16
"""Replicas of a point; of more, those that were sent most."""
SENT = "requests"
METRICS = (
    "prefix_cache_hit_rate", "claimed_hit_rate", "busy_share", "mean_batch_size", "kv_use_mean",
    "kv_use_max", "mfu", "mbu",
)  # fmt: skip


def replica_table(rows: Iterable[Row], labels: Mapping[int, str]) -> Table:
    """Return means over the runs of the points that ``labels`` names.

    Args:
        rows: of replicas.csv, in its order.
        labels: what a point is called, by its number.
    """
    shown = []
    for point, group in groupby(rows, lambda row: int(row["point"])):
        if point in labels:
            of_point = _replicas(list(group))
            total = sum(row[SENT] for row in of_point)
            of_point.sort(key=lambda row: -row[SENT])
            kept = sorted(of_point[:MOST_SHOWN], key=lambda row: row["replica"])
            shown += [row | {"label": labels[point], "total": total} for row in kept]
    told = [name for name in METRICS if any(row[name] for row in shown if row[name] == row[name])]
    several = len({row["label"] for row in shown}) > 1
    cells = [
        (
            *([row["label"]] if several else []),
            row["name"],
            _text(100 * row[SENT] / row["total"] if row[SENT] else math.nan),
            *(_text(row[name] * named(name)[1]) for name in told),
        )
        for row in shown
    ]
    headings = (*(["point"] if several else []), "replica", "requests, %")
    return Table((*headings, *(named(name)[0] for name in told)), tuple(cells), 1 + several)


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
