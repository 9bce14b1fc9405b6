"""The data of the page: plain values of four significant digits, alike for the same study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.figure_layout import short_key, value_text
from experiments.reporting.page.curves import PARTS, RANKS, Curves
from experiments.reporting.page.verdict import by_merit, limits_text, state_of, verdict
from sim.metrics import METRICS
from sim.percentiles import PERCENTS
from sim.slo import Slo, percentile_limits

Row = Mapping[str, Any]
MOST_CURVES = 64
"""Points whose curves are shown; of more, the best and every so-manieth of the others."""
MOST_CHOSEN = 6
DAYS_S = 3 * 3600
"""A run that is longer is told in hours."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    metric: str
    name: str
    views: tuple[str, ...] = ()
    scale: float = 1.0


VERDICT, LATENCY, LOAD = "verdict", "latency", "load"
VIEWS = {VERDICT: "Verdict", LATENCY: "Latency", LOAD: "Load", "all": "All"}
COLUMNS = (
    Column("usd_per_million_output_tokens", "USD/M output tokens", (VERDICT, LOAD)),
    Column("gpus", "GPUs", (VERDICT,)),
    Column("usd_per_hour", "USD/h", (VERDICT,)),
    Column("slo_attainment", "within limits, %", (VERDICT,), 100),
    Column("ttft_p99_s", "TTFT p99, ms", (VERDICT, LATENCY), 1e3),
    Column("tpot_p99_s", "TPOT p99, ms", (VERDICT, LATENCY), 1e3),
    Column("ttft_p50_s", "TTFT p50, ms", (LATENCY,), 1e3),
    Column("tpot_p50_s", "TPOT p50, ms", (LATENCY,), 1e3),
    Column("itl_p99_s", "ITL p99, ms", (LATENCY,), 1e3),
    Column("e2e_p50_s", "E2E p50, s", (LATENCY,)),
    Column("e2e_p99_s", "E2E p99, s", (LATENCY,)),
    Column("queue_p99_s", "queue p99, ms", (LATENCY,), 1e3),
    Column("request_throughput_per_s", "requests/s", (VERDICT, LOAD)),
    Column("output_tokens_per_s", "output tokens/s", (LOAD,)),
    Column("goodput_per_s", "goodput/s", (LOAD,)),
    Column("load", "load, %", (LOAD,), 100),
    Column("mean_batch_size", "batch", (LOAD,)),
    Column("kv_use_max", "KV max, %", (LOAD,), 100),
    Column("mfu", "MFU, %", (LOAD,), 100),
    Column("mbu", "MBU, %", (LOAD,), 100),
    Column("prefix_cache_hit_rate", "prefix hits, %", (), 100),
    Column("preemptions", "preemptions"),
    Column("rejected", "rejected"),
    Column("timed_out", "timed out"),
    Column("unfinished", "unfinished"),
)
STEADY = ("ttft_", "e2e_", "queue_")
"""Latencies that a saturated point does not have."""


def page_data(
    name: str,
    keys: Sequence[str],
    rows: Sequence[Row],
    curves: Sequence[Curves | None],
    slo: Slo | None,
    *,
    clock: bool,
) -> dict[str, Any]:
    """Return all that the script of the page draws.

    Args:
        name: of the study.
        keys: that are swept; each is in every row.
        rows: of summary.csv, in their order.
        curves: of each point; None where it is not among ``drawn_points``.
        slo: limits of the study; None for none.
        clock: whether times of the day mean something.
    """
    states = [state_of(row, slo) for row in rows]
    labels = [_label(keys, row) for row in rows]
    columns = [column for column in COLUMNS if _known(rows, column.metric)]
    order = by_merit(rows, states, slo)
    best = order[0]
    firsts = list(dict.fromkeys(value_text(row[keys[0]]) for row in rows)) if keys else [name]
    points = [
        {
            "n": place + 1,
            "values": [_plain(row[key]) for key in keys],
            "label": labels[place],
            "state": states[place],
            "first": firsts.index(value_text(row[keys[0]])) if keys else 0,
            "m": {column.metric: _triple(row, column.metric, states[place]) for column in columns},
            **_curves(curves[place]),
        }
        for place, row in enumerate(rows)
    ]
    return {
        "name": name,
        "keys": list(keys),
        "axis": _axis(keys, rows),
        "firsts": firsts,
        "points": points,
        "order": [place + 1 for place in order],
        "chosen": _chosen(keys, rows, order),
        "columns": _headings(keys, columns, slo),
        "views": [{"id": view, "name": title} for view, title in VIEWS.items()],
        "limits": _limits(slo),
        "verdict": verdict(rows, states, labels, slo, curves, clock=clock),
        "wanted": limits_text(slo),
        "ranks": list(RANKS),
        "percents": list(PERCENTS),
        "parts": list(PARTS),
        "days": clock or max((each.end_s for each in curves if each), default=0.0) > DAYS_S,
        "best": best + 1,
    }  # fmt: skip


def _headings(
    keys: Sequence[str], columns: Sequence[Column], slo: Slo | None
) -> list[dict[str, Any]]:
    """Columns of the table: the swept keys, the verdict, metrics."""
    found: list[dict[str, Any]] = [
        {"id": f"key:{place}", "key": key, "name": short_key(key), "views": list(VIEWS)}
        for place, key in enumerate(keys)
    ]
    if slo:
        found.append({"id": "state", "key": "verdict", "name": "verdict", "views": [VERDICT]})
    return found + [
        {
            "id": column.metric, "key": column.metric, "name": column.name,
            "views": list(column.views), "scale": column.scale,
            "about": METRICS.get(column.metric, ""),
        }
        for column in columns
    ]  # fmt: skip


def _label(keys: Sequence[str], row: Row) -> str:
    return ", ".join(f"{short_key(key)} {value_text(row[key])}" for key in keys)


def _known(rows: Sequence[Row], metric: str) -> bool:
    return any(metric in row and not math.isnan(row[metric]) for row in rows)


def _plain(value: Any) -> Any:
    """A swept value as JSON has it."""
    value = getattr(value, "item", lambda: value)()
    return value if isinstance(value, int | float | str | bool) else value_text(value)


def _four(value: float) -> float | None:
    """Four significant digits; None for what is no number."""
    return float(f"{value:.3e}") if math.isfinite(value) else None


def _triple(row: Row, metric: str, state: str) -> list[float | None]:
    if state == "saturated" and metric.startswith(STEADY):
        return [None]
    names = (metric, f"{metric}_lo", f"{metric}_hi")
    found = [_four(float(row.get(name, math.nan))) for name in names]
    return found if found[1] is not None else found[:1]


def _curves(curve: Curves | None) -> dict[str, Any]:
    if curve is None:
        return {"q": {}, "split": None, "time": _time(0.0, [], [], [])}
    return {
        "q": {name: [_four(each) for each in values] for name, values in curve.quantiles.items()},
        "split": [[_four(each) for each in parts] for parts in curve.split] or None,
        "time": _time(curve.end_s, curve.rate, curve.ttft_p99_s, curve.within),
    }


def _time(end_s: float, rate: list[float], ttft: list[float], within: list[float]) -> Any:
    return {
        "end": _four(end_s), "rate": [_four(each) for each in rate],
        "ttft": [_four(each) for each in ttft], "within": [_four(each) for each in within],
    }  # fmt: skip


def _axis(keys: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The key that is varied last, if it is a number: what charts have on x."""
    if not keys:
        return None
    values = [row[keys[-1]] for row in rows]
    plain = all(isinstance(_plain(each), int | float) for each in values)
    return short_key(keys[-1]) if plain and len(set(values)) > 1 else None


def _limits(slo: Slo | None) -> dict[str, float]:
    if slo is None:
        return {}
    named = {"ttft_p99_s": slo.ttft_s, "tpot_p99_s": slo.tpot_s, "slo_attainment": slo.attainment}
    named |= {one.key: one.limit_s for one in percentile_limits(slo)}
    return {name: limit for name, limit in named.items() if limit is not None}


def _chosen(keys: Sequence[str], rows: Sequence[Row], order: Sequence[int]) -> list[int]:
    """For each value of the first key its best point."""
    best: dict[object, int] = {}
    for place in order:
        best.setdefault(str(rows[place][keys[0]]) if keys else "", place)
    return sorted(place + 1 for place in list(best.values())[:MOST_CHOSEN])


def drawn_points(rows: Sequence[Row], slo: Slo | None) -> set[int]:
    """Return the places of the points whose curves are shown: all, or of many the telling ones."""
    if len(rows) <= MOST_CURVES:
        return set(range(len(rows)))
    order = by_merit(rows, [state_of(row, slo) for row in rows], slo)
    spread = range(0, len(rows), 1 + len(rows) // MOST_CURVES)
    return set(list(dict.fromkeys([*order[: MOST_CURVES // 2], *spread]))[:MOST_CURVES])
