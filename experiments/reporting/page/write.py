"""Writes the report: one HTML file with its script, its style and its data, without network.

The same data give the same bytes. The page allows itself nothing but its own two scripts and its
own style (by their SHA-256), so that no name in a study can do more than be read.
"""

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.reporting.page.curves import Curves
from experiments.reporting.page.data import page_data
from experiments.reporting.quantities import MISSING, with_interval
from sim.metrics import METRICS
from sim.slo import Slo

if TYPE_CHECKING:
    import jinja2

    from experiments.reporting.pool_table import ReportTable

ASSETS = Path(__file__).with_name("assets")
TEMPLATES = Path(__file__).parents[1] / "templates"
SCRIPTS = ("charts.js", "report.js")


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
    pools: "ReportTable | None" = None
    """What each pool was sent and did, where pools have names."""


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
    data = page_data(page.name, keys, rows, curves, slo, clock=clock)
    style, *scripts = (asset(name) for name in ("page.css", *SCRIPTS))
    best = data["best"] - 1
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            name=page.name,
            description=page.description,
            basis=page.basis,
            verdict=data["verdict"],
            wanted=data["wanted"],
            cards=cards(rows[best], page.gpus[best]),
            has_price=any(column["id"].startswith("usd_per_million") for column in data["columns"]),
            has_axis=data["axis"] is not None,
            axis=data["axis"],
            notes=list(page.notes),
            pools=page.pools,
            texts=list(page.texts),
            definitions={name: text for name, text in METRICS.items() if name in rows[0]},
            data=embedded(data),
            style=style,
            style_sha=sha(style),
            scripts=scripts,
            script_shas=[sha(script) for script in scripts],
        )
    )
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def environment() -> "jinja2.Environment":
    """Return what fills in templates; every text is escaped."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def embedded(data: object) -> str:
    """Return JSON that can stand inside a script element: no text of it ends the element."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def asset(name: str) -> str:
    """Return a script or a style of a page."""
    return (ASSETS / name).read_text(encoding="utf-8")


def sha(text: str) -> str:
    """Return the digest by which a page allows itself a script."""
    return b64encode(sha256(text.encode()).digest()).decode("ascii")


def cards(row: Mapping[str, Any], gpus: int) -> list[dict[str, str]]:
    """The figures of the best point that a buyer looks at first."""

    def figure(metric: str, factor: float = 1.0) -> str:
        ends = (float(row.get(f"{metric}_{end}", math.nan)) * factor for end in ("lo", "hi"))
        return with_interval(float(row.get(metric, math.nan)) * factor, *ends)

    saturated = row.get("saturated", 0) > 0
    return [
        {"title": "USD per million output tokens",
         "value": figure("usd_per_million_output_tokens"), "note": "on a fully paid hour"},
        {"title": "GPUs", "value": f"{gpus:,}", "note": f"USD {figure('usd_per_hour')} per hour"},
        {"title": "within the limits, %", "value": figure("slo_attainment", 100),
         "note": f"{figure('request_throughput_per_s')} requests/s"},
        {"title": "TTFT p99, ms", "value": MISSING if saturated else figure("ttft_p99_s", 1e3),
         "note": "saturated" if saturated else f"median {figure('ttft_p50_s', 1e3)}"},
        {"title": "TPOT p99, ms", "value": figure("tpot_p99_s", 1e3),
         "note": f"median {figure('tpot_p50_s', 1e3)}"},
        {"title": "KV cache, most in use, %", "value": figure("kv_use_max", 100),
         "note": f"mean {figure('kv_use_mean', 100)}"},
    ]  # fmt: skip
