"""What the page shows of a real decoder beside its simulation."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.reporting.page.columns import named, short_name
from experiments.reporting.page.curves import RANKS
from experiments.reporting.page.figures import Axis, Bar, Figure, Series
from experiments.reporting.page.sheet import Answer, Section, card
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import significant
from model.counts import count_of

Row = Mapping[str, Any]
Distributions = dict[tuple[str, float], dict[str, dict[str, list[float]]]]
"""Seconds at ``RANKS`` by scheduler and load, latency, and run (real, real again, simulated)."""
DRAWN = ("ttft", "tpot")


def answer(rows: Sequence[Row]) -> Answer:
    """Say how far the simulation is from the real engine, beside how far that is from itself."""
    known = [row for row in rows if math.isfinite(row["error"] + row["noise"])]
    if not known:
        return Answer("Nothing could be compared.")
    error, noise = (median(abs(row[name]) for row in known) for name in ("error", "noise"))
    worst = max(known, key=lambda row: abs(row["error"]))
    within = sum(abs(row["error"]) <= abs(row["noise"]) for row in known)
    return Answer(
        f"Half of the simulated figures are within {100 * error:.1f}% of the real engine, and half "
        f"of its own within {100 * noise:.1f}% when it runs again.",
        more=f"As near as the real engine is to itself: {within} of "
        f"{count_of(len(known), 'figure')}. "
        f"Furthest off: {_name(worst)} of {_setting(worst)}, {100 * worst['error']:+.1f}%.",
        about="Error: simulated against the mean of two real runs. Noise: the second real run "
        "against the first, which no simulation can beat.",
    )


def cards(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return how large errors of the figures are that studies are about, over all settings.

    Without their signs: too much at one load and too little at another are no small error.
    """
    found = []
    for metric in ("ttft_p95_s", "tpot_p95_s", "e2e_p50_s", "output_tokens_per_s"):
        errors = [row["error"] for row in rows if row["metric"] == metric]
        errors = [error for error in errors if math.isfinite(error)]
        if errors:
            worst = max(errors, key=abs)
            found.append(
                card(
                    short_name(metric),
                    f"{100 * median(map(abs, errors)):.1f}%",
                    f"median error; furthest off {100 * worst:+.1f}%",
                )
            )  # fmt: skip
    return found


def sections(rows: Sequence[Row], distributions: Distributions) -> list[Section]:
    """Return errors by setting, distributions, and the table."""
    settings = list(dict.fromkeys(_setting(row) for row in rows))
    most = max((abs(row["error"]) for row in rows if math.isfinite(row["error"])), default=0.0)
    reach = 104 * most or 1.0  # the same for all, so that bars can be compared
    return [
        Section(
            "How far the simulation is off",
            "Filled: further than the real engine is from itself when it runs again. Hollow: not.",
            figures=[_errors(setting, rows, reach) for setting in settings],
        ),
        *(
            Section(
                f"Distributions: {scheduler} at {load:.0%} load",
                figures=[_distribution(name, found[name]) for name in DRAWN if name in found],
            )
            for (scheduler, load), found in distributions.items()
        ),
        Section("Every figure", table=_table(rows)),
    ]


def _setting(row: Row) -> str:
    return f"{row['scheduler']} at {row['load']:.0%} load"


def _name(row: Row) -> str:
    return short_name(str(row["metric"]))


def _errors(setting: str, rows: Sequence[Row], reach: float) -> Figure:
    bars = [
        Bar(
            _name(row), 100 * row["error"], hollow=abs(row["error"]) <= abs(row["noise"]),
            text=f"{_name(row)}: error {100 * row['error']:+.1f}%, noise "
            f"{100 * row['noise']:+.1f}%",
        )
        for row in rows
        if _setting(row) == setting and math.isfinite(row["error"])
    ]  # fmt: skip
    axis = Axis(f"{setting}: error, %", unit="%", domain=(-reach, reach))
    return Figure("bars", setting, axis, bars, base=0.0)


def _distribution(latency: str, runs: Mapping[str, Sequence[float]]) -> Figure:
    rows = [
        Series(
            name,
            [(1e3 * value, 100 * rank) for value, rank in zip(values, RANKS, strict=True)],
            look=1 if name == "simulated" else 0, dash=place,
        )
        for place, (name, values) in enumerate(runs.items())
    ]  # fmt: skip
    return Figure(
        "lines", f"Distribution of {latency.upper()}", Axis(f"{latency.upper()}, ms", log=True),
        rows, Axis("% at or below", domain=(0, 100)),
    )  # fmt: skip


def _table(rows: Sequence[Row]) -> Table:
    headings = ("setting", "figure", "real", "real again", "simulated", "error, %", "noise, %")
    cells = []
    for row in rows:
        name, factor = named(str(row["metric"]))
        values = (significant(factor * row[key]) for key in ("real", "real_again", "simulated"))
        shares = (f"{100 * row[key]:+.1f}" for key in ("error", "noise"))
        cells.append((_setting(row), name, *values, *shares))
    return Table(headings, tuple(cells), keys=2)
