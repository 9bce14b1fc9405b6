"""Why a latency is what it is: what the requests about a percentile waited for, and what binds.

The parts of a percentile are the means over the requests about it: those between p98.5 and p99.5
for p99. They add up to the mean latency of these requests, and their shares to 1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.quantities import significant
from experiments.reporting.records import Records
from sim.measuring.decomposition import SPANS, client_wait_s, decomposition, parts_of_span, whole_s

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Means = Callable[[Ints], dict[str, float]]
"""Gives the mean of each part over some requests."""

PERCENTS = (50, 90, 95, 99)
WORDS = {
    "api": "API", "queue": "queue", "prefill": "prefill", "chunk_wait": "between chunks",
    "preempted": "preempted", "decode": "decode", "paused": "paused",
    "kv_wait": "wait for KV blocks", "transfer": "KV transfer", "first_step": "first decode step",
}  # fmt: skip
BOUND_BY = {
    "kv_blocks": "KV blocks", "seats": "seats", "token_budget": "token budget",
    "arithmetic": "arithmetic", "bandwidth": "bandwidth", "host": "host", "idle": "nothing: idle",
}  # fmt: skip
"""What limits an engine at a moment, and its name for people."""
ROWS = 1 << 16
"""Requests that are taken apart at a time."""
SMALL = 0.01
"""Shares below are not told."""
BOUND = "bound_by"
"""The ``span`` of rows that say what limits the engine."""


def parts_of(columns: Mapping[str, Floats], output_s: float) -> list[dict[str, Any]]:
    """Return rows ``span``, ``percentile``, ``part``, ``seconds``, ``share``, ``requests``.

    Percentile 0 stands for the mean over all requests.

    Args:
        columns: of all measured requests of a point.
        output_s: the API server's time of a token on its way out.
    """
    rows = []
    for span in SPANS:
        total = whole_s(columns, span)
        there = np.flatnonzero(~np.isnan(total))
        if not len(there):
            continue
        order = there[np.argsort(total[there], kind="stable")]
        means_of = _means_of(columns, span, output_s)
        for percent in (0, *PERCENTS):
            near = order if not percent else _about(order, percent)
            means = means_of(near)
            whole = sum(means.values())
            rows += [
                {
                    "span": span, "percentile": percent, "part": name, "seconds": seconds,
                    "share": seconds / whole if whole else float("nan"), "requests": len(near),
                }
                for name, seconds in means.items()
            ]  # fmt: skip
    wait_s = client_wait_s(columns)
    wait_s = wait_s[~np.isnan(wait_s)]
    if len(wait_s):
        rows.append(
            {
                "span": "client", "percentile": 0, "part": "client_wait",
                "seconds": float(wait_s.mean()), "share": 1.0, "requests": len(wait_s),
            }
        )  # fmt: skip
    return rows


def bound_rows(shares: Mapping[str, float], moments: int) -> list[dict[str, Any]]:
    """Return rows like those of ``parts_of`` that say how often each resource was what limits."""
    return [
        {
            "span": BOUND, "percentile": 0, "part": name, "seconds": float("nan"),
            "share": share, "requests": moments,
        }
        for name, share in shares.items()
    ]  # fmt: skip


def _means_of(columns: Mapping[str, Floats], span: str, output_s: float) -> Means:
    """Return what gives the mean of each part over some of the requests.

    All of a few requests are taken apart once; of many, few are held in parts at a time.
    """
    names = parts_of_span(columns, span)
    if len(columns["status"]) <= ROWS:
        whole = np.array([*decomposition(columns, span, output_s).values()])

        def means_of_few(rows: Ints) -> dict[str, float]:
            sums = whole.take(rows, axis=1).sum(axis=1)
            return dict(zip(names, (sums / len(rows)).tolist(), strict=True))

        return means_of_few

    def means(rows: Ints) -> dict[str, float]:
        sums = dict.fromkeys(names, 0.0)
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            parts = decomposition(
                {name: column[some] for name, column in columns.items()}, span, output_s
            )
            for name, part in parts.items():
                sums[name] += float(part.sum())
        return {name: total / len(rows) for name, total in sums.items()}

    return means


def _about(order: Ints, percent: int) -> Ints:
    """Rows about a percentile, of rows in order of latency: half of what is beyond on each side."""
    half = min(2.5, (100 - percent) / 2)
    first = int(len(order) * (percent - half) / 100)
    last = max(first + 1, round(len(order) * (percent + half) / 100))
    return order[first : min(last, len(order))]


def why_lines(table: Records, summary: Records, percent: int = 99) -> list[str]:
    """Say per point what TTFT and E2E at a percentile are made of, and what binds the engine."""
    lines = []
    for number in summary["point"]:
        of_point = table.where("point", number).rows()
        words = []
        for span, name in (("ttft", "TTFT"), ("e2e", "E2E")):
            at = [row for row in of_point if row["span"] == span and row["percentile"] == percent]
            if at:
                words.append(f"{name} p{percent} {_shares(at)}")
        bound = _bound(of_point)
        lines.append(f"point {number}: {'; '.join([*words, *bound])}")
    return lines


def _shares(rows: Sequence[Mapping[str, Any]]) -> str:
    whole = sum(float(row["seconds"]) for row in rows)
    shown = sorted((row for row in rows if row["share"] >= SMALL), key=lambda row: -row["share"])
    parts = ", ".join(f"{WORDS[row['part']]} {100 * row['share']:.0f}%" for row in shown)
    return f"{significant(1e3 * whole)} ms: {parts}"


def _bound(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shares = {row["part"]: row["share"] for row in rows if row["span"] == BOUND}
    shown = sorted((n for n in BOUND_BY if shares.get(n, 0.0) >= SMALL), key=lambda n: -shares[n])
    if not shown:
        return []
    return ["bound by " + ", ".join(f"{BOUND_BY[n]} {100 * shares[n]:.0f}%" for n in shown)]
