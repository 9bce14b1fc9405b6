"""The table of pools: one row per point and pool, where a study has pools with names."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from experiments.reporting.basis import Basis
from experiments.reporting.records import Records
from experiments.reporting.support import LOADED
from experiments.running import pooling
from experiments.running.pieces import read_piece
from experiments.running.sweep import Run
from experiments.study.build import prices_of
from experiments.study.calibrations import gpu_of
from experiments.study.document import Study
from experiments.study.points import Plan
from experiments.study.pools import by_pool
from sim.measuring.caveats import EXTRAPOLATED, SATURATED

if TYPE_CHECKING:
    from hardware.calibration import Calibration

POOL_COLUMNS = {
    "pool": "name of the pool",
    "gpu": "its GPUs",
    "tensor_parallel_size": "GPUs that share attention",
    "pipeline_parallel_size": "such groups of one replica, each with a part of the layers",
    "data_parallel_size": "such groups of one replica, each with a scheduler of its own",
    "replicas": "engine instances",
}
"""What stands in a row of a pool before its shares and metrics."""


def calibrations_of(study: Study) -> "list[Calibration]":
    """Load what the prices of each pool rest on."""
    return [prices_of(alone) for _, alone in by_pool(study)]


def has_pools(plan: Plan) -> bool:
    """Tell whether pools have names at any point."""
    return any(point.study.cluster.pools is not None for point in plan.points)


def pools_table(plan: Plan, runs: Sequence[Run]) -> Records:
    """Return one row per point and pool: means over runs, as in the summary, and notes."""
    from experiments.reporting.stats import summarise_points
    from sim.measuring.metrics import ALL_METRICS, POOL_SHARES
    from sim.measuring.transfer_use import TRANSFER_METRICS

    points = {point.number: point for point in plan.points}
    pools = {number: list(_columns(point.study)) for number, point in points.items()}
    rows = [
        {"point": run.point, **points[run.point].values, **columns, **run.identity, **metrics}
        for run in runs
        for columns, metrics in zip(
            pools[run.point], read_piece(run.path).pools, strict=bool(pools[run.point])
        )
    ]
    by_point = [(number, list(each)) for number, each in groupby(runs, lambda run: run.point)]
    bases = [
        Basis(calibration, pooling.pool(of_point, place))
        for number, of_point in by_point
        if pools[number]
        for place, calibration in enumerate(calibrations_of(points[number].study))
    ]
    keys = ["point", *plan.keys, *POOL_COLUMNS]
    table = Records.of(rows)
    metrics = [name for name in (*POOL_SHARES, *TRANSFER_METRICS, *ALL_METRICS) if name in table]
    summary = summarise_points(table, keys, metrics, bases)
    return Records({name: summary[name] for name in summary if name not in LOADED})


def pools_of_replicas(plan: Plan) -> dict[int, list[str]]:
    """Return, of each point, the pool of each replica by its number; nothing without pools.

    A point without pools has replicas of a pool without a name.
    """
    if not has_pools(plan):
        return {}
    return {
        point.number: [
            pool.name for pool in point.study.cluster.all_pools for _ in range(pool.all_ranks)
        ]
        for point in plan.points
    }


def _columns(study: Study) -> Iterator[dict[str, object]]:
    """``POOL_COLUMNS`` of each pool that has a name."""
    for pool, alone in by_pool(study):
        if pool.name:
            yield {
                "pool": pool.name,
                "gpu": gpu_of(pool.gpu, prices_of(alone)).name,
                "tensor_parallel_size": pool.tensor_parallel_size,
                "pipeline_parallel_size": pool.pipeline_parallel_size,
                "data_parallel_size": pool.data_parallel_size,
                "replicas": pool.replicas,
            }


def noted(summary: Records, pools: Records) -> Records:
    """Return a summary whose notes also say which pools are saturated or extrapolated."""
    notes = {
        point: [text, *_worst(pools.where("point", point))]
        for point, text in zip(summary["point"], summary["notes"], strict=True)
    }
    joined = ["; ".join(filter(None, texts)) for texts in notes.values()]
    return summary.having(notes=joined)


def _worst(pools: Records) -> Iterator[str]:
    for name, notes in zip(pools["pool"], pools["notes"], strict=True):
        for note in notes.split("; "):
            if note.startswith((SATURATED, EXTRAPOLATED)):
                yield f"pool {name}: {note}"
