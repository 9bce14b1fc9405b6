"""The report of a study: one HTML page that needs no other file, no script and no network.

    write_report(
        folder / "report.html",
        study_name="batching_sweep",
        description="...",                # may be empty
        study_yaml="...",                 # the resolved study, as text
        summary=summary,                  # of stats, in seconds and shares
        pools=None,                       # the table of pools, where they have names
        sweep_keys=["engine.max_num_seqs"],
        plots=draw_plots(...),            # PNG files, taken into the page
        settings_text="...",              # what the engine does by default, as text; may be empty
        ledger_text="...",                # where the memory goes, as text; may be empty
        ceilings_text="...",              # what cannot be exceeded, as text; may be empty
        notes=["calibration: none ..."],  # whatever a reader must know, one sentence each
    )

The physical ceilings come before the results, and the caveats (saturation, thin percentiles, lost
requests) from the summary's ``notes`` column before the figures that they concern. The same input
gives the same bytes.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.reporting.figure_layout import short_key, value_text
from experiments.reporting.plots import TITLES
from experiments.reporting.quantities import time_unit, with_interval
from sim.latencies import LATENCIES
from sim.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Column:
    """One metric in a table for people."""

    heading: str
    metric: str
    unit: str = ""
    """``time`` (from seconds), ``%`` (from shares), ``count`` (whole numbers), or as it is."""


RATES = (
    Column("requests", "request_throughput_per_s", "1/s"),
    Column("goodput", "goodput_per_s", "1/s"),
    Column("within the SLO", "slo_attainment", "%"),
    Column("output tokens", "output_tokens_per_s", "1/s"),
    Column("all tokens", "total_tokens_per_s", "1/s"),
    Column("price", "usd_per_hour", "USD/h"),
    Column("output tokens", "usd_per_million_output_tokens", "USD per million"),
)
LATENCY = tuple(
    Column(
        f"{name.upper() if name != 'queue' else 'queueing'} p{percent}",
        f"{name}_p{percent}_s",
        "time",
    )
    for name in LATENCIES
    for percent in (50, 95, 99)
)
USE = (
    Column("batch size", "mean_batch_size", "sequences"),
    Column("KV blocks, mean", "kv_use_mean", "%"),
    Column("KV blocks, most", "kv_use_max", "%"),
    Column("busy", "busy_share", "%"),
    Column("MFU", "mfu", "%"),
    Column("MBU", "mbu", "%"),
    Column("requests", "requests", "count"),
    Column("rejected", "rejected", "count"),
    Column("timed out", "timed_out", "count"),
    Column("unfinished", "unfinished", "count"),
    Column("preemptions", "preemptions", "count"),
)
TABLES = {"Throughput": RATES, "Latency": LATENCY, "Use of the hardware": USE}


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be written: texts only."""

    title: str
    headings: tuple[str, ...]
    keys: int
    """How many columns from the left are swept keys."""
    rows: tuple[tuple[str, ...], ...]
    saturated: tuple[bool, ...]


def write_report(
    path: Path,
    *,
    study_name: str,
    description: str,
    study_yaml: str,
    summary: "DataFrame",
    sweep_keys: Sequence[str],
    plots: Sequence[Path],
    settings_text: str,
    ledger_text: str,
    ceilings_text: str,
    notes: Sequence[str],
    pools: "Table | None" = None,
) -> None:
    """Write the page to ``path``; see the module's docstring for the arguments.

    Raises:
        ValueError: a swept key is no column of ``summary``.
    """
    import jinja2

    missing = [key for key in sweep_keys if key not in summary]
    if missing:
        raise ValueError(f"summary has no column {missing[0]!r}, expected every swept key")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        study_name=study_name,
        description=description,
        study_yaml=study_yaml,
        tables=[
            *(report_table(name, each, summary, sweep_keys) for name, each in TABLES.items()),
            *([] if pools is None else [pools]),
        ],
        caveats=_caveats(summary, sweep_keys),
        seeds=int(summary["seeds"].max()) if "seeds" in summary else 0,
        draws=int(summary["draws"].max()) if "draws" in summary else 0,
        pictures=[
            (TITLES.get(plot.stem, plot.stem), b64encode(plot.read_bytes()).decode("ascii"))
            for plot in plots
        ],
        settings_text=settings_text,
        ledger_text=ledger_text,
        ceilings_text=ceilings_text,
        notes=list(notes),
        definitions={name: meaning for name, meaning in METRICS.items() if name in summary},
    )
    path.write_text(page + "\n", encoding="utf-8", newline="\n")


def report_table(
    title: str, columns: Sequence[Column], summary: "DataFrame", sweep_keys: Sequence[str]
) -> Table:
    """Write the metrics that ``summary`` has in people's units, means with their intervals.

    Metrics that are undefined at every point are left out.
    """
    shown = [column for column in columns if _known(summary, column.metric)]
    texts = [[value_text(value) for value in summary[key]] for key in sweep_keys]
    headings = [short_key(key) for key in sweep_keys]
    saturated = np.zeros(len(summary), dtype=np.bool_)
    if "saturated" in summary:
        saturated = summary["saturated"].to_numpy(dtype=np.float64) > 0
    for column in shown:
        heading, cells = _cells(column, summary, saturated)
        headings.append(heading)
        texts.append(cells)
    rows = tuple(zip(*texts, strict=True)) if shown else ()
    return Table(title, tuple(headings), len(sweep_keys), rows, tuple(map(bool, saturated)))


def _known(summary: "DataFrame", metric: str) -> bool:
    return metric in summary and bool(summary[metric].notna().any())


def _cells(
    column: Column, summary: "DataFrame", saturated: npt.NDArray[np.bool_]
) -> tuple[str, list[str]]:
    """Heading with its unit, and one text per point."""
    values = summary[column.metric].to_numpy(dtype=np.float64)
    if column.unit == "count":
        return column.heading, [_count(value) for value in values.tolist()]
    units = {"time": _time_unit(column, summary, saturated), "%": ("%", 100.0)}
    unit, factor = units.get(column.unit, (column.unit, 1.0))
    low, high = (
        summary[name].to_numpy(dtype=np.float64)
        if name in summary
        else np.full(len(values), np.nan)
        for name in (f"{column.metric}_lo", f"{column.metric}_hi")
    )
    triples = zip(
        (values * factor).tolist(), (low * factor).tolist(), (high * factor).tolist(), strict=True
    )
    return f"{column.heading} ({unit})", [with_interval(*triple) for triple in triples]


def _time_unit(
    column: Column, summary: "DataFrame", saturated: npt.NDArray[np.bool_]
) -> tuple[str, float]:
    """One unit for all percentiles of a latency; it suits the points that have a steady state."""
    latency = column.metric.partition("_")[0]
    alike = [
        c.metric for c in LATENCY if c.metric.startswith(f"{latency}_") and c.metric in summary
    ]
    rows = np.full(len(saturated), True) if saturated.all() else ~saturated
    return time_unit(summary.loc[rows, alike].to_numpy(dtype=np.float64))


def _count(value: float) -> str:
    """Whole numbers whole; means over seeds with one decimal."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _caveats(summary: "DataFrame", sweep_keys: Sequence[str]) -> list[tuple[str, str]]:
    """Each caveat of the summary, and the points that it is about: ``max_num_seqs 1, 2, 4``."""
    points: dict[str, list[str]] = {}
    for row, text in enumerate(summary.get("notes", ())):
        values = [value_text(summary[key].iloc[row]) for key in sweep_keys]
        name = values[0] if len(values) == 1 else f"({', '.join(values)})"
        for caveat in text.split("; ") if text else ():
            points.setdefault(caveat, []).append(name)
    keys = ", ".join(map(short_key, sweep_keys))
    everywhere = "every point" if len(summary) > 1 else ""
    return [
        (everywhere if len(names) == len(summary) else f"{keys} {', '.join(names)}", caveat)
        for caveat, names in points.items()
    ]
