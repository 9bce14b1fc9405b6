"""What the terminal and the report show of pools: one row per point and pool."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.figure_layout import said
from experiments.reporting.grid import Grid
from experiments.reporting.page.columns import VERDICT, columns_of
from experiments.reporting.page.columns import Column as Reported
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import significant, with_interval
from experiments.reporting.records import Records
from experiments.reporting.table import Column, cell, short_name
from experiments.reporting.terminal import Screen
from experiments.study.points import Plan

COLUMNS = (
    Column("requests %", "request_share", 100, interval=True),
    Column("tokens %", "output_token_share", 100),
    Column("output tokens/s", "output_tokens_per_s", interval=True),
    Column("SLO %", "slo_attainment", 100, 1),
    Column("TTFT p95 ms", "ttft_p95_s", 1e3, interval=True, steady=True),
    Column("TPOT p95 ms", "tpot_p95_s", 1e3, 1, interval=True),
    Column("batch", "mean_batch_size", digits=1),
    Column("KV max %", "kv_use_max", 100),
    Column("preemptions", "preemptions"),
    Column("busy %", "busy_share", 100),
    Column("MFU %", "mfu", 100),
    Column("MBU %", "mbu", 100),
    Column("USD/h", "usd_per_hour", digits=2),
    Column("USD/M output tokens", "usd_per_million_output_tokens", digits=3),
)
LEFT_OUT_FIRST = (
    "preemptions", "usd_per_hour", "output_token_share", "mbu", "mean_batch_size", "kv_use_max",
    "output_tokens_per_s", "busy_share", "usd_per_million_output_tokens", "mfu",
)  # fmt: skip
"""Metrics that a narrow terminal does without, one after the other."""


def reported_pools(
    rows: Sequence[Mapping[str, Any]], labels: Mapping[int, str], tails: Mapping[str, int]
) -> Table:
    """Return the table of the report: what its first view has of metrics, with intervals.

    Args:
        rows: of pools.csv, in its order.
        labels: what each point is called, by its number.
        tails: percentiles of latencies that are looked at.
    """
    told = [
        column for column in columns_of(rows, tails=tails)
        if VERDICT in column.views and column.metric != "gpus"
    ]  # fmt: skip
    cells = [
        (str(row["pool"]), gpus_text(row), *(_estimate(row, column) for column in told))
        for row in rows
    ]
    return Table(
        ("pool", "GPUs", *(column.name for column in told)), tuple(cells), 2,
        ["saturated" if row["saturated"] > 0 else "" for row in rows],
        [int(row["point"]) for row in rows], labels,
    )  # fmt: skip


def _estimate(row: Mapping[str, Any], column: Reported) -> str:
    """A figure in the unit of its heading, with its interval where one is shown."""
    names = (column.metric, f"{column.metric}_lo", f"{column.metric}_hi")
    value, *ends = (float(row.get(name, math.nan)) * column.scale for name in names)
    if column.ends:
        return with_interval(value, *ends)
    return f"{value:,.0f}" if value.is_integer() else significant(value)


def gpus_text(row: Mapping[str, Any]) -> str:
    """Return ``2 x l40s`` or ``3 x 2 x h100-sxm``: replicas of so many GPUs."""
    gpus = row["tensor_parallel_size"] * row["data_parallel_size"]
    gpus *= row["pipeline_parallel_size"]
    size = f"{gpus} x " if gpus > 1 else ""
    return f"{row['replicas']} x {size}{row['gpu']}"


def print_pools(plan: Plan, pools: Records, to: Screen) -> None:
    """Print one row per point and pool; a narrow terminal gets the more important columns."""
    rows = pools.rows()
    has_slo = any(point.study.slo is not None for point in plan.points)
    columns = [
        column
        for column in COLUMNS
        if _known(rows, column.metric) and (has_slo or column.metric != "slo_attainment")
    ]
    grid = _grid(plan, rows, columns)
    for metric in LEFT_OUT_FIRST:
        if grid.width <= to.width:
            break
        columns = [column for column in columns if column.metric != metric]
        grid = _grid(plan, rows, columns)
    to.print("pools (pools.csv has every metric of each)")
    to.print(grid)


def _grid(plan: Plan, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Grid:
    grid = Grid()
    for key in plan.keys:
        grid.add_column(short_name(key, plan.keys))
    grid.add_column("pool", right=False)
    grid.add_column("GPUs")
    marked = any(row["saturated"] > 0 for row in rows)
    for column in columns:
        grid.add_column(column.heading)
    if marked:
        grid.add_column("", right=False)
    for row in rows:
        cells = [*(said(row[key]) for key in plan.keys), str(row["pool"]), gpus_text(row)]
        cells += [cell(row, column) for column in columns]
        grid.add_row(*cells, *(["saturated" if row["saturated"] > 0 else ""] if marked else []))
    return grid


def _known(rows: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Whether a metric is a number somewhere."""
    return not all(math.isnan(row[metric]) for row in rows)
