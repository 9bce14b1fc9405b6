"""The pictures and the page of a study, from its tables and the pieces of its runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import words
from experiments.reporting.settings_text import setting_lines
from experiments.running.curves import curves_of
from experiments.running.pieces import read_piece
from experiments.running.sweep import Run
from experiments.running.tables import Tables
from experiments.running.workers import shared_by
from experiments.study.points import Plan


def draw(plan: Plan, runs: Sequence[Run], tables: Tables, folder: Path, jobs: int) -> None:
    """Draw the figures; timelines are those of each point's first seed."""
    from experiments.reporting.plots import draw_plots
    from experiments.reporting.pools import draw_pools

    timelines = []
    for point in plan.points:
        first = next(run for run in runs if run.point == point.number)
        timelines.append(read_piece(first.path).timeline)
    name, keys = plan.study.name, plan.keys
    share = shared_by(jobs)
    draw_plots(name, keys, tables.runs, tables.summary, timelines, folder, share, plan.study.slo)
    if tables.pools is not None:
        draw_pools(name, keys, tables.pools, folder)


def report(plan: Plan, runs: Sequence[Run], tables: Tables, folder: Path) -> None:
    """Write the page that answers first."""
    from experiments.reporting.notes import point_notes
    from experiments.reporting.page.data import drawn_points
    from experiments.reporting.page.write import Page, write_page

    study, points = plan.study, [point.study for point in plan.points]
    rows = tables.summary.rows()
    page = Page(
        name=study.name,
        description=study.description,
        basis=words.basis_text(plan),
        notes=point_notes(plan, rows, any(row.get("saturated", 0) > 0 for row in rows)),
        texts=(
            ("Memory of a GPU", "\n".join(words.ledger_lines(plan))),
            ("What no schedule can exceed", "\n".join(words.ceiling_lines(plan))),
            ("What the engine does by default", "\n".join(setting_lines(plan))),
            ("The study, to run again", (folder / "study.yaml").read_text(encoding="utf-8")),
        ),
        gpus=[each.cluster.gpus for each in points],
        pools=() if tables.pools is None else tables.pools.rows(),
        replicas=tables.replicas.rows(),
        differences=tables.differences.rows(),
    )
    drawn = drawn_points(plan.keys, rows, study.slo)
    parts: dict[int, list[dict[str, Any]]] = {plan.points[place].number: [] for place in drawn}
    told = tables.parts["point"] if len(tables.parts) else ()
    for row in tables.parts.at([at for at, number in enumerate(told) if number in parts]).rows():
        parts[row["point"]].append(row)
    curves = list(curves_of(runs, parts, drawn))
    clock = any(each.workload.has_clock for each in points)
    write_page(folder / "report.html", page, plan.keys, rows, curves, study.slo, clock=clock)
