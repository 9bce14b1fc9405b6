"""The table of replicas: what each was sent, how well it was used, run by run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.running.pieces import read_piece
from experiments.running.sweep import Run
from experiments.study.grid import cell
from experiments.study.points import Plan

if TYPE_CHECKING:
    from pandas import DataFrame


def replicas_table(plan: Plan, runs: Sequence[Run]) -> "DataFrame":
    """Return one row per run and replica, with ``REPLICAS`` and ``REPLICA_USE`` of ``sim``.

    Of runs with several replicas; without any it is empty.
    """
    import pandas as pd

    points = {point.number: point for point in plan.points}
    tables = []
    for run in runs:
        columns = read_piece(run.path).replicas
        if not columns:
            continue
        values = points[run.point].values.items()
        pools = points[run.point].study.cluster.all_pools
        keys = {"point": run.point, **{key: cell(value) for key, value in values}, **run.identity}
        numbers = range(len(columns["requests"]))
        of_each = {
            "replica": numbers,
            "pool": [pool.name for pool in pools for _ in range(pool.all_ranks)],
        }
        same = {key: [value] * len(numbers) for key, value in keys.items()}
        tables.append(pd.DataFrame({**same, **of_each, **columns}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
