"""Whether points keep the limits, and what the whole study says of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.limits import limits_of, limits_text
from experiments.reporting.page.curves import Curves
from experiments.reporting.quantities import significant
from model.counts import count_of
from sim.measuring.slo import Slo

Row = Mapping[str, Any]
NOBODY = "No request that is measured had an answer"
KEPT, MISSED, UNDECIDED, SATURATED, NONE = "kept", "missed", "undecided", "saturated", "none"


def state_of(row: Row, slo: Slo | None) -> str:
    """Return what is known of a point: an interval that holds the wanted share decides nothing."""
    if row.get("saturated", 0) > 0:
        return SATURATED
    if slo is None:
        return NONE
    if row.get("slo_verdict") in (KEPT, MISSED, UNDECIDED):
        return str(row["slo_verdict"])
    share = row["slo_attainment"]
    low, high = (row.get(f"slo_attainment_{end}", math.nan) for end in ("lo", "hi"))
    if math.isnan(low) or math.isnan(high):
        low = high = share
    if low >= slo.attainment:
        return KEPT
    return MISSED if high < slo.attainment else UNDECIDED


def by_merit(rows: Sequence[Row], states: Sequence[str], slo: Slo | None) -> list[int]:
    """Return the places of points, the best first.

    Those that keep the limits by price, then by price those that may keep them, then all others by
    how near they come. Without limits it is by price, saturated ones last.
    """

    def merit(place: int) -> tuple[int, float, int]:
        row, state = rows[place], states[place]
        usd = float(row.get("usd_per_million_output_tokens", math.nan))
        price = math.inf if math.isnan(usd) else usd
        share = row["slo_attainment"]
        if state in (KEPT, NONE):
            return 0, price, place
        if state == UNDECIDED and share >= limits_of(slo).get("slo_attainment", math.inf):
            return 1, price, place
        return (UNDECIDED, MISSED, SATURATED).index(state) + 2, -share, place

    return sorted(range(len(rows)), key=merit)


def verdict(
    rows: Sequence[Row],
    states: Sequence[str],
    labels: Sequence[str],
    slo: Slo | None,
    curves: Sequence[Curves | None],
) -> dict[str, str]:
    """Return the state that the page begins with, and its sentences."""
    best = by_merit(rows, states, slo)[0]
    state, label = states[best], labels[best] or "the study"
    price = _at(rows[best])
    nobody = f"{NOBODY}: see what to know below."
    if slo is None:
        alone = f"No limits are given. The study runs{price.removeprefix(',')}."
        free = f"No limits are given. Cheapest without saturation: {label}{price}."
        saturated = "No limits are given, and every point is saturated."
        return {
            "state": NONE,
            "text": nobody
            if unanswered(rows)
            else saturated
            if state != NONE
            else alone
            if len(rows) == 1
            else free,
            "counts": "Set slo to have points judged.",
            "worst": "",
        }
    share = rows[best]["slo_attainment"]
    whose = "its" if len(rows) > 1 else "the"
    told = answer(rows, states, labels, best)
    return {
        "state": MISSED if state == SATURATED else state,
        "text": nobody
        if unanswered(rows)
        else f"{told} {100 * share:.4g}% of {whose} requests are within them.",
        "counts": f"Limits: {limits_text(slo)}. {counts_text(states)}",
        "worst": _worst_hour(rows[best], curves[best]),
    }


def unanswered(rows: Sequence[Row]) -> bool:
    """Whether no request that is measured had an answer at any point."""
    return all(math.isnan(row.get("ttft_p50_s", 0.0)) for row in rows)


def price_text(row: Row) -> str:
    """Return ``USD 0.327 per million output tokens``; nothing where no price is known."""
    usd = row.get("usd_per_million_output_tokens", math.nan)
    return "" if math.isnan(usd) else f"USD {significant(usd)} per million output tokens"


def _at(row: Row) -> str:
    price = price_text(row)
    return f", at {price}" if price else ""


def answer(rows: Sequence[Row], states: Sequence[str], labels: Sequence[str], best: int) -> str:
    """Say whether any point keeps the limits: ``best`` is the place of the first ``by_merit``."""
    state, label = states[best], labels[best] or "the study"
    texts = {
        KEPT: f"Cheapest point that keeps the limits: {label}{_at(rows[best])}.",
        UNDECIDED: f"No point surely keeps the limits; not certain with these seeds: {label}.",
        MISSED: f"No point keeps the limits. The nearest is {label}.",
        SATURATED: f"No point keeps the limits. The nearest, saturated: {label}.",
    }
    if len(rows) == 1:
        texts = {
            KEPT: "The limits are kept.",
            UNDECIDED: "Not certain with these seeds whether the limits are kept.",
            MISSED: "The limits are missed.",
            SATURATED: "The limits are missed: the queue grows without bound.",
        }
    return texts[state]


def counts_text(states: Sequence[str]) -> str:
    """Return ``Of 3 points 2 keep them, 1 misses them.``; nothing of a single point."""
    if len(states) == 1:
        return ""
    told = {
        KEPT: ("keeps them", "keep them"), UNDECIDED: ("is not certain", "are not certain"),
        MISSED: ("misses them", "miss them"), SATURATED: ("is saturated", "are saturated"),
    }  # fmt: skip
    counts = {name: states.count(name) for name in told if name in states}
    parts = [f"{count} {told[name][count > 1]}" for name, count in counts.items()]
    return f"Of {len(states)} points {', '.join(parts)}."


def _worst_hour(row: Row, curve: Curves | None) -> str:
    """Say how many windows kept the limits, and name the hour in which most requests missed."""
    kept, windows = (float(row.get(name, math.nan)) for name in ("slo_windows_kept", "slo_windows"))
    found = []
    if curve is not None and curve.windows and not math.isnan(kept):
        size = f"{curve.window_s / 60:g} min" if curve.window_s >= 60 else f"{curve.window_s:g} s"
        found.append(
            f"{100 * kept:.3g}% of {count_of(int(windows), 'window')} of {size} keep the limits"
        )
    if curve is not None and curve.worst_hour is not None:
        hour, missed = curve.worst_hour
        when = f"{hour}:00 to {hour + 1}:00 of the run"
        found.append(
            f"worst hour: {when}, when {100 * missed:.2g}% of the requests miss a limit"
            if missed
            else "no request misses a limit in any hour"
        )
    text = "; ".join(found)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
