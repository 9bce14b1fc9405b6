"""The table of replicas: what each was sent, how well it was used, run by run."""

from collections.abc import Sequence
from typing import Any

from experiments.reporting.records import Records
from experiments.running.pieces import read_piece
from experiments.running.sweep import Run
from experiments.study.grid import cell
from experiments.study.points import Plan


def replicas_table(plan: Plan, runs: Sequence[Run]) -> Records:
    """Return one row per run and replica, with ``REPLICAS`` and ``REPLICA_USE`` of ``sim``.

    Of runs with several replicas; without any it is empty.
    """
    points = {point.number: point for point in plan.points}
    rows: list[dict[str, Any]] = []
    for run in runs:
        pools = points[run.point].study.cluster.all_pools
        names = [pool.name for pool in pools for _ in range(pool.all_ranks)]
        if len(names) == 1:
            continue
        columns = read_piece(run.path).replicas
        values = points[run.point].values.items()
        keys = {"point": run.point, **{key: cell(value) for key, value in values}, **run.identity}
        of_each = zip(*columns.values(), strict=True)
        rows += [
            {**keys, "replica": replica, "pool": name, **dict(zip(columns, values, strict=True))}
            for replica, (name, values) in enumerate(zip(names, of_each, strict=True))
        ]
    return Records.of(rows)
