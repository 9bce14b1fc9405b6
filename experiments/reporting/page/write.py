"""Writes the report of a study: one HTML file that needs no other file and no network."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.limits import tails_of
from experiments.reporting.page import base
from experiments.reporting.page.columns import named
from experiments.reporting.page.curves import Curves
from experiments.reporting.page.data import digits, page_data
from experiments.reporting.page.replicas import replica_table
from experiments.reporting.pool_table import reported_pools
from experiments.reporting.quantities import DASH, MISSING, significant, with_interval
from experiments.reporting.support import FIRM, effective
from model.dataclass import dataclass
from sim.measuring.metrics import ALL_METRICS
from sim.measuring.slo import Slo

SCRIPTS = ("report_state.js", "report_charts.js", "report_table.js", "report.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands on a page beside the points."""

    name: str
    description: str
    basis: str
    """What the figures rest on: seeds, prices, version."""
    notes: Sequence[str]
    """Whatever a reader must know, one sentence each."""
    texts: Sequence[tuple[str, str]]
    """Titles and plain texts to be opened: ledger, ceilings, settings, study, command."""
    gpus: Sequence[int]
    """Of each point."""
    pools: Sequence[Mapping[str, Any]] = ()
    """Rows of pools.csv, where pools have names."""
    differences: Sequence[Mapping[str, Any]] = ()
    """Rows of differences.csv."""
    replicas: Sequence[Mapping[str, Any]] = ()
    """Rows of replicas.csv, where a point has several."""


def write_page(
    path: Path,
    page: Page,
    keys: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    curves: Sequence[Curves | None],
    slo: Slo | None,
    *,
    clock: bool,
) -> None:
    """Write the report of a study to ``path``; for the arguments see ``page_data``.

    Raises:
        ValueError: a swept key is no column of the rows.
    """
    missing = [key for key in keys if rows and key not in rows[0]]
    if missing:
        raise ValueError(f"summary has no column {missing[0]!r}, expected every swept key")
    data = page_data(
        page.name, keys, rows, curves, slo, clock=clock, differences=page.differences
    )  # fmt: skip
    best = data["best"] - 1
    columns = {column["id"] for column in data["columns"]}
    labels = {point["n"]: point["label"] for point in data["points"]}
    text = base.rendered(
        "report.html.j2",
        SCRIPTS,
        data,
        name=page.name,
        description=page.description,
        basis=page.basis,
        verdict=data["verdict"],
        states=[point["state"] for point in data["points"]],
        wanted=data["wanted"],
        cards=cards(rows[best], page.gpus[best], slo),
        few=any("few" in point for point in data["points"]),
        has_price="usd_per_million_output_tokens" in columns,
        axis=data["axis"] if columns & {*shown_tails(slo), "slo_attainment"} else None,
        spans=data["spans"],
        bound=data["bound"],
        differences=data["differences"],
        windows=any("windows" in point for point in data["points"]),
        notes=list(page.notes),
        pools=reported_pools(page.pools, labels, tails_of(slo)),
        replicas=replica_table(page.replicas, labels, data["chosen"]),
        texts=list(page.texts),
        definitions={name: text for name, text in ALL_METRICS.items() if name in columns},
    )
    base.write(path, text)


def shown_tails(slo: Slo | None) -> tuple[str, str]:
    """Return the metrics of TTFT and TPOT that are looked at first."""
    ttft, tpot = (f"{name}_p{percent}_s" for name, percent in tails_of(slo).items())
    return ttft, tpot


def cards(row: Mapping[str, Any], gpus: int, slo: Slo | None) -> list[dict[str, str]]:
    """The figures of the best point that a buyer looks at first, from the digits of its table."""

    def figure(metric: str, factor: float = 1.0) -> str:
        names = (metric, f"{metric}_lo", f"{metric}_hi")
        values = (digits(float(row.get(name, math.nan))) for name in names)
        return with_interval(
            *(math.nan if value is None else float(f"{value * factor:.12g}") for value in values)
        )

    def tail(metric: str) -> dict[str, str]:
        rests = effective(row, metric)
        few = f"rests on {significant(rests, 2)} independent requests" if rests < FIRM else ""
        return {"value": f"{'~' if few else ''}{figure(metric, 1e3)}", "few": few}

    served = figure("request_throughput_per_s")
    within = {"title": "within the limits, %", "value": _share(row), "note": f"{served} requests/s"}
    ttft, tpot = shown_tails(slo)
    waiting = {"title": named(ttft)[0], "note": f"median {figure('ttft_p50_s', 1e3)}"}
    full = effective(row, ttft) == 0  # at its capacity, within what that is known to
    grows = row.get("saturated", 0) > 0
    lost = {"value": MISSING, "note": "saturated" if grows else "as much comes as can be served"}
    return [
        {"title": "USD/M output tokens", "value": figure("usd_per_million_output_tokens"),
         "note": "while it is this busy"},
        {"title": "GPUs", "value": f"{gpus:,}", "note": f"USD {figure('usd_per_hour')} per hour"},
        within if slo is not None else {"title": "requests/s", "value": served, "note": ""},
        waiting | (lost if grows or full else tail(ttft)),
        {"title": named(tpot)[0], "note": f"median {figure('tpot_p50_s', 1e3)}"}
        | tail(tpot),
        {"title": "KV cache, most, %", "value": figure("kv_use_max", 100),
         "note": f"mean {figure('kv_use_mean', 100)}"},
    ]  # fmt: skip


def _share(row: Mapping[str, Any]) -> str:
    """The share within the limits, in per cent: near all of them the fourth digit matters."""
    ends = ("slo_attainment", "slo_attainment_lo", "slo_attainment_hi")
    value, low, high = (100 * float(row.get(name, math.nan)) for name in ends)
    if math.isnan(low) or low == high:
        return MISSING if math.isnan(value) else f"{value:.4g}"
    return f"{value:.4g} ({low:.4g}{DASH}{high:.4g})"
