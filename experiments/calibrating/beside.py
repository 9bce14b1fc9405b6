"""Measured beside predicted: figures of two real runs of one setting, and of their simulation.

``error`` is simulated over the mean of both real runs, minus one; ``noise`` is the second real run
over the first, minus one, which no prediction can beat.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

RATES = ("request_throughput_per_s", "output_tokens_per_s")
COUNTS = ("mean_batch_size", "mean_running", "mean_waiting", "preemptions")
SHARES = ("hit_rate",)

Row = dict[str, Any]


def beside(
    setting: Mapping[str, object],
    first: Mapping[str, float],
    second: Mapping[str, float],
    simulated: Mapping[str, float],
    metrics: Sequence[str],
) -> list[Row]:
    """Return a row for each metric of one setting. Times in seconds."""
    return [
        {
            **setting,
            "metric": name,
            "real": first[name],
            "real_again": second[name],
            "simulated": simulated[name],
            "error": _over(simulated[name], (first[name] + second[name]) / 2),
            "noise": _over(second[name], first[name]),
        }
        for name in metrics
    ]


def _over(value: float, base: float) -> float:
    """Relative difference; NaN against nothing, and 0 of nothing against nothing."""
    if base:
        return value / base - 1.0
    return float("nan") if value else 0.0


def lines(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Write them for people: times in ms, errors and noise in percent."""
    head = " ".join(_cell(key, key) for key in keys)
    found = [f"{head} {'metric':<18} {'real':>10} {'simulated':>10} {'error':>7} {'noise':>7}"]
    for row in rows:
        label, factor = named(row["metric"])
        real = factor * (row["real"] + row["real_again"]) / 2
        told = " ".join(_cell(key, row[key]) for key in keys)
        found.append(
            f"{told} {label:<18.18} {real:>10.2f} {factor * row['simulated']:>10.2f} "
            f"{row['error']:>+7.1%} {row['noise']:>+7.1%}"
        )
    found.append(
        "error: simulated against the mean of two real runs; noise: second real run against"
    )
    found.append("the first, which no simulation can beat.")
    return found


def markdown(rows: Sequence[Row], keys: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return a table of a page: two lines for each setting, error and noise of some metrics."""
    heads = (*keys, "", *(named(metric)[0].removesuffix(" ms") for metric in metrics))
    found = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    settings = dict.fromkeys(tuple(row[key] for key in keys) for row in rows)
    for setting in settings:
        of_it = {row["metric"]: row for row in rows if tuple(row[key] for key in keys) == setting}
        for key, name in (("error", "predicted against measured"), ("noise", "measured again")):
            cells = [*map(_said, setting), name]
            cells += [_share(of_it[metric][key]) for metric in metrics]
            found.append(f"| {' | '.join(cells)} |")
    return found


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.1%}"


def named(metric: str) -> tuple[str, float]:
    """Return how people read a metric, and what it is multiplied with."""
    if metric in COUNTS:
        return metric.replace("_", " "), 1.0
    if metric in SHARES:
        return metric.replace("_", " ") + " %", 100.0
    if metric in RATES:
        return metric.removesuffix("_per_s") + "/s", 1.0
    return metric.removesuffix("_s") + " ms", 1e3


def _cell(key: str, value: object) -> str:
    return f"{_said(value):>5}" if key == "load" else f"{_said(value):<16}"


def _said(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, float) else str(value)
