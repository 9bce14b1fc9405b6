"""What the terminal and the report show of pools: one row per point and pool."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.reporting.report import Column as ReportColumn
from experiments.reporting.report import Table as ReportTable
from experiments.reporting.report import report_table
from experiments.reporting.table import Column, cell, is_known, short_name
from experiments.reporting.terminal import PIPED_WIDTH
from experiments.study.errors import show
from experiments.study.points import Plan

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console
    from rich.table import Table

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

REPORTED = (
    ReportColumn("requests", "request_share", "%"),
    ReportColumn("output tokens", "output_token_share", "%"),
    ReportColumn("requests", "request_throughput_per_s", "1/s"),
    ReportColumn("output tokens", "output_tokens_per_s", "1/s"),
    ReportColumn("within the SLO", "slo_attainment", "%"),
    ReportColumn("TTFT p95", "ttft_p95_s", "time"),
    ReportColumn("TPOT p95", "tpot_p95_s", "time"),
    ReportColumn("batch size", "mean_batch_size", "sequences"),
    ReportColumn("KV blocks, mean", "kv_use_mean", "%"),
    ReportColumn("KV blocks, most", "kv_use_max", "%"),
    ReportColumn("preemptions", "preemptions", "count"),
    ReportColumn("busy", "busy_share", "%"),
    ReportColumn("MFU", "mfu", "%"),
    ReportColumn("MBU", "mbu", "%"),
    ReportColumn("price", "usd_per_hour", "USD/h"),
    ReportColumn("output tokens", "usd_per_million_output_tokens", "USD per million"),
)


def reported_pools(pools: "DataFrame", sweep_keys: Sequence[str]) -> ReportTable:
    """Return the table of the report."""
    named = pools.assign(
        GPUs=[
            f"{replicas} x {size} x {gpu}" if size > 1 else f"{replicas} x {gpu}"
            for replicas, size, gpu in zip(
                pools["replicas"], pools["tensor_parallel_size"], pools["gpu"], strict=True
            )
        ]
    )
    return report_table("Pools", REPORTED, named, [*sweep_keys, "pool", "GPUs"])


def print_pools(plan: Plan, pools: "DataFrame", to: "Console") -> None:
    """Print one row per point and pool; a narrow terminal gets the more important columns."""
    rows: list[dict[str, Any]] = pools.to_dict("records")  # type: ignore[assignment]
    has_slo = any(point.study.slo is not None for point in plan.points)
    columns = [
        column
        for column in COLUMNS
        if is_known(rows, column.metric) and (has_slo or column.metric != "slo_attainment")
    ]
    unbounded = to.options.update(width=PIPED_WIDTH)
    table = _table(plan, rows, columns)
    for metric in LEFT_OUT_FIRST:
        if to.measure(table, options=unbounded).maximum <= to.width:
            break
        columns = [column for column in columns if column.metric != metric]
        table = _table(plan, rows, columns)
    to.print("pools (pools.csv has every metric of each)")
    to.print(table)


def _table(plan: Plan, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> "Table":
    from rich.table import Table

    table = Table()
    for key in plan.keys:
        table.add_column(short_name(key, plan.keys), justify="right", overflow="fold")
    table.add_column("pool", overflow="fold")
    table.add_column("GPUs", justify="right", overflow="fold")
    marked = any(row["saturated"] > 0 for row in rows)
    for column in columns:
        table.add_column(column.heading, justify="right", overflow="fold")
    if marked:
        table.add_column("")
    for row in rows:
        gpus = f"{row['replicas'] * row['tensor_parallel_size']} x {row['gpu']}"
        cells = [*(show(row[key]) for key in plan.keys), str(row["pool"]), gpus]
        cells += [cell(row, column) for column in columns]
        table.add_row(*cells, *(["saturated" if row["saturated"] > 0 else ""] if marked else []))
    return table
