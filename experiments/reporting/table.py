"""What the terminal shows: ceilings before results, then one row per point, then notes."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.reporting.figure_layout import said
from experiments.reporting.grid import Grid
from experiments.reporting.limits import limited, limits_of
from experiments.reporting.notes import point_notes
from experiments.reporting.quantities import DASH, half_length
from experiments.reporting.records import Records
from experiments.reporting.settings_text import setting_lines
from experiments.reporting.support import FIRM, THIN, effective, too_short
from experiments.reporting.terminal import Screen
from experiments.reporting.words import calibration_notes, ceiling_lines, ledger_lines
from experiments.study.points import Plan
from model.counts import count_of
from model.dataclass import dataclass

_ENDS = ("lo", "hi")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table: heading, metric, and how a person reads the metric."""

    heading: str
    metric: str
    factor: float = 1.0
    digits: int = 0
    interval: bool = False
    steady: bool = False
    """Only a steady state has it, so a saturated point does not show it."""


COLUMNS = (
    Column("requests/s", "request_throughput_per_s", digits=2),
    Column("goodput/s", "goodput_per_s", digits=2, interval=True),
    Column("SLO %", "slo_attainment", 100, 1),
    Column("SLO", "slo_verdict"),
    Column("tightest", "slo_binds"),
    Column("output tokens/s", "output_tokens_per_s", interval=True),
    Column("TTFT p50 ms", "ttft_p50_s", 1e3, interval=True, steady=True),
    Column("TTFT p99 ms", "ttft_p99_s", 1e3, interval=True, steady=True),
    Column("TPOT p50 ms", "tpot_p50_s", 1e3, 1, interval=True),
    Column("TPOT p99 ms", "tpot_p99_s", 1e3, 1, interval=True),
    Column("E2E p50 s", "e2e_p50_s", 1.0, 2, steady=True),
    Column("batch", "mean_batch_size", digits=1),
    Column("KV max %", "kv_use_max", 100),
    Column("MFU %", "mfu", 100),
    Column("MBU %", "mbu", 100),
    Column("GPUs", "gpus"),
    Column("USD/h", "usd_per_hour", digits=2),
    Column("USD/M output tokens", "usd_per_million_output_tokens", digits=3, interval=True),
)
"""What the terminal shows of ``sim.measuring.metrics.METRICS``; summary.csv has everything."""

UNITS = {"ttft": (1e3, "ms", 0), "tpot": (1e3, "ms", 1), "e2e": (1.0, "s", 2)}
"""Factor, unit and digits of a latency, as in the columns above."""

LEFT_OUT_FIRST = (
    "slo_binds", "mfu", "mbu", "e2e_p50_s", "mean_batch_size", "kv_use_max",
    "request_throughput_per_s", "tpot_p50_s", "ttft_p50_s", "output_tokens_per_s",
    "slo_attainment", "goodput_per_s", "e2e_p99_s", "tpot_p99_s", "ttft_p99_s",
    "usd_per_million_output_tokens", "usd_per_hour", "gpus",
)  # fmt: skip
"""Metrics that a narrow terminal does without, one after the other: what it costs goes last, the
verdict on the slo never."""
OF_AN_SLO = ("goodput_per_s", "slo_attainment", "slo_verdict", "slo_binds")
WORDS = ("slo_verdict", "slo_binds")
TAIL = re.compile(r"(ttft|tpot|e2e)_p(90|95|99)_s")
FLATTERED = ("ttft", "e2e", "goodput", "slo_attainment")
"""Figures that come out too good where runs are too short for their load."""
ALIKE = {"gpus": "{:,.0f} GPUs", "usd_per_hour": "{:,.2f} USD/h"}
"""What stands above the table where all points have it alike, and how."""


def columns_of(summary: Iterable[str]) -> list[Column]:
    """Return ``COLUMNS`` with the percentiles that the slo limits in place of p99.

    ``summary`` names the columns of summary.csv.
    """
    asked: dict[str, list[Column]] = {}
    for metric in limited(summary):
        latency, percentile, _ = metric.split("_")
        factor, unit, digits = UNITS[latency]
        heading = f"{latency.upper()} {percentile} {unit}"
        column = Column(heading, metric, factor, digits, interval=True, steady=latency != "tpot")
        asked.setdefault(latency, []).append(column)
    found = []
    for column in COLUMNS:
        latency, _, percentile = column.metric.partition("_")
        tail = [each for each in asked.get(latency, []) if each.metric != f"{latency}_p50_s"]
        if percentile != "p99_s" or not tail:
            found.append(column)
        if tail and percentile == ("p50_s" if latency == "e2e" else "p99_s"):
            found += tail
    return found


def print_ceilings(plan: Plan, to: Screen) -> None:
    """Print what the hardware allows at best."""
    to.print("\n".join(ceiling_lines(plan)))


def print_ledgers(plan: Plan, to: Screen) -> None:
    """Print the memory ledger of every distinct setup."""
    to.print("\n".join(ledger_lines(plan)))


def print_settings(plan: Plan, to: Screen) -> None:
    """Print the engine's settings, vLLM's own and the study's."""
    to.print("\n".join(setting_lines(plan)))


def print_price_notes(plan: Plan, to: Screen) -> None:
    """Print what prices rest on, and what would make them better."""
    for note in calibration_notes(plan):
        to.print(f"note: {note}")


def print_points(plan: Plan, to: Screen) -> None:
    """Print every point and its seeds, without results."""
    grid = Grid()
    drawn = plan.study.calibration_draws
    for heading in ("point", *plan.keys, *(["draws"] if drawn else []), "seeds"):
        grid.add_column(heading)
    for point in plan.points:
        values = [said(point.values[key]) for key in plan.keys]
        draws = [str(drawn)] if drawn else []
        grid.add_row(str(point.number), *values, *draws, ", ".join(map(str, point.seeds)))
    points, runs = count_of(len(plan.points), "point"), count_of(plan.runs, "run")
    to.print(f"{plan.study.name}: {points}, {runs}")
    to.print(grid)


def print_summary(plan: Plan, summary: Records, to: Screen) -> None:
    """Print one row per point, saturated points marked, notes below.

    A terminal too narrow for all columns gets headings of several lines, and if that does not do,
    the more important columns; words and figures are never cut.
    """
    rows = summary.rows()
    columns = [each for each in columns_of(summary) if _is_worth_showing(each, plan, rows)]
    marked = any(_mark(row) for row in rows)
    shown, grid = _fitting(plan, rows, columns, marked, to.width)
    to.print(_title(plan, rows))
    to.print(grid)
    notes = point_notes(plan, rows, any(row["saturated"] > 0 for row in rows))
    if left_out := len(columns) - len(shown):
        notes.append(f"no room here for {count_of(left_out, 'column')}: see summary.csv")
    for note in notes:
        to.print(f"note: {note}")


def _fitting(
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    marked: bool,
    room: int,
) -> tuple[Sequence[Column], Grid]:
    """Return as many columns as have room, and their table."""
    grid = _grid(plan, rows, columns, marked)
    if grid.width <= room:
        return columns, grid
    for fewer in _fewer(columns, rows):
        grid = _grid(plan, rows, fewer, marked, tall=True)
        if grid.width <= room:
            break
    return fewer, grid


def _fewer(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Sequence[Column]]:
    """Yield fewer and fewer columns; first those go in which no point has anything to show."""
    yield columns
    columns = [each for each in columns if any(cell(row, each) != "-" for row in rows)]
    for metric in LEFT_OUT_FIRST:
        columns = [each for each in columns if TAIL.sub(r"\1_p99_s", each.metric) != metric]
        yield columns


def _grid(
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    marked: bool,
    *,
    tall: bool = False,
) -> Grid:
    """``tall``: every word of a heading has a line of its own, and so has every part of a key."""
    grid = Grid()
    for key in plan.keys:
        name = short_name(key, plan.keys)
        grid.add_column(name.replace("_", "_\n") if tall else name)
    for column in columns:
        heading = column.heading.replace(" ", "\n") if tall else column.heading
        grid.add_column(heading, whole=True)
    if marked:
        grid.add_column("", right=False, whole=True)
    for row in rows:
        grid.add_row(*_cells(plan, row, columns, marked))
    return grid


def _cells(
    plan: Plan, row: Mapping[str, Any], columns: Sequence[Column], marked: bool
) -> list[str]:
    cells = [said(row[key]) for key in plan.keys]
    cells += [cell(row, column) for column in columns]
    return [*cells, *([_mark(row)] if marked else [])]


def _title(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> str:
    seeds = max(len(point.seeds) for point in plan.points)
    repeats = "one seed"
    if seeds > 1:
        repeats = f"{seeds} seeds, ± or (low{DASH}high) is the 95% interval"
    if draws := plan.study.calibration_draws:
        number = f"{seeds} seeds" if seeds > 1 else "one seed"
        repeats = (
            f"{count_of(draws, 'drawn calibration')} with {number}, ± or (low{DASH}high) is a 95% "
            "interval, prices included"
        )
    values = {metric: {row.get(metric, math.nan) for row in rows} for metric in ALIKE}
    alike = [
        text.format(*values[metric]).removesuffix("s" if values[metric] == {1.0} else "")
        for metric, text in ALIKE.items()
        if len(values[metric]) == 1 and not math.isnan(*values[metric])
    ]
    return ", ".join((f"{plan.study.name} ({repeats})", *alike))


def short_name(key: str, keys: Sequence[str]) -> str:
    """Return the last word of a dotted key, or the key when another ends in the same word."""
    last = key.rsplit(".", 1)[-1]
    return key if sum(other.rsplit(".", 1)[-1] == last for other in keys) > 1 else last


def _is_worth_showing(column: Column, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> bool:
    if column.metric in OF_AN_SLO and all(point.study.slo is None for point in plan.points):
        return False
    values = [row.get(column.metric, math.nan) for row in rows]
    if column.metric in ALIKE and len(set(values)) == 1:
        return False
    if column.metric == "slo_binds":  # of one limit it says nothing
        asked = [limits_of(point.study.slo).keys() - {"slo_attainment"} for point in plan.points]
        return max(map(len, asked)) > 1
    return not all(isinstance(value, float) and math.isnan(value) for value in values)


def cell(row: Mapping[str, Any], column: Column) -> str:
    """Write an estimate, with ``±half`` if its interval is nearly symmetric, else with its ends.

    A percentile that rests on few independent requests is marked ``~``, on too few left out. So is
    what waits decide where runs are too short for their load.
    """
    if column.metric in WORDS:
        return str(row[column.metric])
    rests_on = effective(row, column.metric)
    if (column.steady and row["saturated"] > 0) or rests_on < THIN:
        return "-"
    flattered = column.metric.startswith(FLATTERED) and too_short(row)
    about = "~" if rests_on < FIRM or flattered else ""
    ends = (row[column.metric], *(row.get(f"{column.metric}_{end}", math.nan) for end in _ENDS))
    mean, low, high = (value * column.factor for value in ends)
    text = about + _number(mean, column.digits)
    if not column.interval or math.isnan(high):
        return text
    half = half_length(mean, low, high)
    if max(high - mean, mean - low) < 10.0**-column.digits / 2:
        return text
    if not math.isnan(half):
        return f"{text} ±{_number(half, column.digits)}"
    return f"{text} ({_number(low, column.digits)}{DASH}{_number(high, column.digits)})"


def _mark(row: Mapping[str, Any]) -> str:
    """What is wrong with a whole point."""
    if row["saturated"] > 0:
        return "saturated"
    return "too short" if too_short(row) else ""


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "inf"
