"""The data of the page: plain values of few digits, alike for the same study.

Values stand in the order of the columns, parts and resources that the page names once: so a page
of 64 points stays below a quarter of a megabyte.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

from experiments.reporting.differences import SHOWN
from experiments.reporting.figure_layout import said, value_text
from experiments.reporting.limits import limits_of, limits_text, tails_of, with_limited
from experiments.reporting.page.columns import (
    VERDICT,
    VIEWS,
    Column,
    columns_of,
    good_way,
    key_names,
    label_of,
    named,
    plain_name,
    setting_text,
    telling_keys,
)
from experiments.reporting.page.curves import EMPTY, RANKS, Curves
from experiments.reporting.page.layout import axis_of, grouping_of
from experiments.reporting.page.verdict import by_merit, state_of, verdict
from experiments.reporting.support import FIRM, THIN, effective
from experiments.reporting.why import BOUND_BY, WORDS
from sim.measuring.percentiles import PERCENTS
from sim.measuring.slo import Slo

Row = Mapping[str, Any]
MOST_CURVES = 64
"""Points whose curves are shown; of more, the best and every so-manieth of the others."""
MOST_CHOSEN = 8
MOST_WINDOWS = 480
"""Windows that are told apart; of more, several are shown as one: the worst of them."""
DAYS_S = 3 * 3600
"""A run that is longer is told in hours."""
STEADY = ("ttft_", "e2e_", "queue_")
"""Latencies that a saturated point does not have."""
SPANS = {"ttft": "TTFT", "e2e": "E2E"}


def page_data(
    name: str,
    keys: Sequence[str],
    rows: Sequence[Row],
    curves: Sequence[Curves | None],
    slo: Slo | None,
    *,
    clock: bool,
    differences: Sequence[Row] = (),
) -> dict[str, Any]:
    """Return all that the script of the page draws.

    Args:
        name: of the study.
        keys: that are swept; each is in every row.
        rows: of summary.csv, in their order.
        curves: of each point; None where it is not among ``drawn_points``.
        slo: limits of the study; None for none.
        clock: whether times of the day mean something.
        differences: rows of differences.csv.
    """
    states = [state_of(row, slo) for row in rows]
    told, names = telling_keys(keys, rows), key_names(keys)
    labels = [label_of(told, row) for row in rows]
    columns = columns_of(rows, slo is not None, tails_of(slo))
    order = by_merit(rows, states, slo)
    axis, of_curves = axis_of(told, rows)
    groups, lines = _groups(keys, rows), [_called(of_curves, names, row) for row in rows]
    of_group, of_line = _places(groups), _places(lines)
    parts = {span: _union(each.parts.get(span, {}) for each in curves if each) for span in SPANS}
    bound = _union(each.bound for each in curves if each)
    points = [
        _point(row, keys, columns, states[place])
        | {"n": place + 1, "label": labels[place], "group": of_group[place]}
        | {"line": of_line[place]}
        | _curves(curves[place], parts, bound)
        for place, row in enumerate(rows)
    ]
    return {
        "name": name, "keys": list(keys),
        "axis": None if axis is None else names[axis],
        "axis_place": None if axis is None else list(keys).index(axis),
        "groups": list(dict.fromkeys(groups)), "lines": list(dict.fromkeys(lines)),
        "thin": THIN,
        "points": points,
        "order": [place + 1 for place in order],
        "chosen": _chosen(groups, order),
        "columns": _headings(keys, columns, slo),
        "views": [{"id": view, "name": title} for view, title in VIEWS.items()],
        "limits": limits_of(slo), "tails": tails_of(slo),
        "verdict": verdict(rows, states, labels, slo, curves),
        "wanted": limits_text(slo),
        "ranks": list(RANKS), "percents": list(PERCENTS),
        "spans": _spans(parts),
        "bound": [BOUND_BY.get(name) or plain_name(name) for name in bound],
        "differences": _differences(differences, rows),
        "days": clock or max((each.end_s for each in curves if each), default=0.0) > DAYS_S,
        "best": order[0] + 1,
    }  # fmt: skip


def _spans(parts: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Latencies that are told by their parts, under the names of those."""
    return [
        {"id": span, "name": name,
         "parts": [WORDS.get(part) or plain_name(part) for part in parts[span]]}
        for span, name in SPANS.items() if parts[span]
    ]  # fmt: skip


def _point(row: Row, keys: Sequence[str], columns: Sequence[Column], state: str) -> dict[str, Any]:
    rests = [effective(row, each.metric) if each.views else math.inf for each in columns]
    few = [[place, digits(count, 1)] for place, count in enumerate(rests) if count < FIRM]
    said_values = {place: said(row[key]) for place, key in enumerate(keys)
                   if str(row[key]).startswith("{")}  # fmt: skip
    return {
        "values": [_plain(row[key]) for key in keys],
        **({"said": said_values} if said_values else {}),
        "state": state,
        "m": [_figure(row, column, state) for column in columns],
        **({"few": list(chain.from_iterable(few))} if few else {}),
    }


def _called(keys: Sequence[str], names: Mapping[str, str], row: Row) -> str:
    """What all points with these values are called together."""
    return ", ".join(setting_text(names[key], row[key]) for key in keys)


def _places(names: Sequence[str]) -> list[int]:
    """The place of each name among those that differ."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return [places[name] for name in names]


def _union(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of all tables, in the order in which they come."""
    return list(dict.fromkeys(chain.from_iterable(tables)))


def _headings(
    keys: Sequence[str], columns: Sequence[Column], slo: Slo | None
) -> list[dict[str, Any]]:
    """Columns of the table: the swept keys, the verdict, metrics."""
    names = key_names(keys)
    found: list[dict[str, Any]] = [
        {"id": f"key:{place}", "name": names[key]} for place, key in enumerate(keys)
    ]
    if slo:
        found.append({"id": "state", "name": "verdict", "views": [VERDICT]})
    for place, column in enumerate(columns):
        told = {"id": column.metric, "name": column.name, "m": place}
        if column.views:
            told["views"] = list(column.views)
        if column.scale != 1:
            told["scale"] = column.scale
        found.append(told)
    return found


def _plain(value: Any) -> Any:
    """A swept value as JSON has it."""
    value = getattr(value, "item", lambda: value)()
    if isinstance(value, float) and math.isnan(value):
        return value_text(value)
    return value if isinstance(value, int | float | str | bool) else value_text(value)


def digits(value: float, count: int = 4) -> float | int | None:
    """A number of so many significant digits; None for what is none."""
    if not math.isfinite(value):
        return None
    found = float(f"{value:.{count - 1}e}")
    return int(found) if found == int(found) and abs(found) < 1e15 else found


def _ms(values: Iterable[float]) -> list[float | int | None]:
    """Seconds as milliseconds of three digits: what a chart can show."""
    return [digits(1e3 * value, 3) for value in values]


def _shares(values: Iterable[float]) -> list[int]:
    """Whole per cent; nothing where all are 0."""
    found = [round(100 * value) for value in values]
    return found if any(found) else []


def _per_cent(values: Iterable[float]) -> list[float | int | None]:
    return [digits(round(100 * value, 1)) for value in values]


def _figure(row: Row, column: Column, state: str) -> Any:
    """A figure, with its interval where one is shown."""
    metric = column.metric
    if state == "saturated" and metric.startswith(STEADY):
        return None
    value = digits(float(row.get(metric, math.nan)))
    ends = [digits(float(row.get(f"{metric}_{end}", math.nan))) for end in ("lo", "hi")]
    return [value, *ends] if column.ends and ends[0] is not None else value


def _curves(
    curve: Curves | None, parts: Mapping[str, Sequence[str]], bound: Sequence[str]
) -> dict[str, Any]:
    if curve is None:
        return {"q": {}, "parts": {}, "time": None}
    found: dict[str, Any] = {
        "q": {name: _ms(values) for name, values in curve.quantiles.items()},
        "parts": {
            span: [_ms(curve.parts[span].get(name, [0.0] * len(PERCENTS))) for name in names]
            for span, names in parts.items()
            if span in curve.parts
        },
        "time": {
            "end": digits(curve.end_s), "rate": [digits(each, 3) for each in curve.rate],
            "ttft": _ms(curve.ttft_tail_s), "within": _per_cent(curve.within),
            "bound": [_shares(curve.bound.get(name, ())) for name in bound],
        },
    }  # fmt: skip
    if curve.windows:
        found["windows"] = {"size": curve.window_s, "runs": _run_lengths(curve.windows)}
        found["windows"]["each"] = -(-len(curve.windows) // MOST_WINDOWS)
    return found


def _run_lengths(windows: Sequence[int]) -> list[list[int]]:
    """What became of windows, as pairs of a state and how many in a row."""
    each = -(-len(windows) // MOST_WINDOWS)
    shown = [
        max((one for one in windows[at : at + each] if one != EMPTY), default=EMPTY)
        for at in range(0, len(windows), each)
    ]
    return [[state, len(list(group))] for state, group in groupby(shown)]


def _differences(differences: Sequence[Row], rows: Sequence[Row]) -> dict[str, Any] | None:
    """What each point changes against its baseline, by metric; None where nothing is known."""
    shown = with_limited(SHOWN, rows[0])
    known = [
        row for row in differences
        if row["metric"] in shown and not math.isnan(row["difference_lo"])
    ]  # fmt: skip
    if not any(row["difference"] for row in known):
        return None
    by_metric: dict[str, list[Row]] = {}
    for row in known:
        by_metric.setdefault(row["metric"], []).append(row)
    found = []
    for metric, each in by_metric.items():
        name, scale = named(metric)
        lines = [
            [
                row["point"], row["baseline"],
                *(
                    digits(scale * float(row[end]), 3)
                    for end in ("baseline_value", "difference", "difference_lo", "difference_hi")
                ),
                int(row["starred"]),
            ]
            for row in each
        ]  # fmt: skip
        found.append({"metric": metric, "name": name, "way": good_way(metric), "rows": lines})
    return {"metrics": found, "first": _first_metric(found)}


def _first_metric(found: Sequence[Mapping[str, Any]]) -> str:
    """The metric that is looked at first: the price where it differs, else TTFT, else any."""
    names = [one["metric"] for one in found if any(row[3] for row in one["rows"])]
    wanted = ("usd_per_million_output_tokens", "ttft_p99_s", "tpot_p99_s")
    return next((name for name in (*wanted, *names) if name in names), str(found[0]["metric"]))


def _chosen(groups: Sequence[str], order: Sequence[int]) -> list[int]:
    """Of each colour its best point."""
    best: dict[object, int] = {}
    for place in order:
        best.setdefault(groups[place], place)
    return sorted(place + 1 for place in list(best.values())[:MOST_CHOSEN])


def drawn_points(keys: Sequence[str], rows: Sequence[Row], slo: Slo | None) -> set[int]:
    """Return the places of the points whose curves are shown: all, or of many the telling ones.

    These are the ones that are shown at first, the best, and some of all others.
    """
    if len(rows) <= MOST_CURVES:
        return set(range(len(rows)))
    order = by_merit(rows, [state_of(row, slo) for row in rows], slo)
    first = [number - 1 for number in _chosen(_groups(keys, rows), order)]
    spread = range(0, len(rows), 1 + len(rows) // MOST_CURVES)
    return set(list(dict.fromkeys([*first, *order[: MOST_CURVES // 2], *spread]))[:MOST_CURVES])


def _groups(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """What each point has its colour for."""
    told, names = telling_keys(keys, rows), key_names(keys)
    _, of_curves = axis_of(told, rows)
    grouping = grouping_of(of_curves or told, rows)
    return [_called(grouping, names, row) for row in rows]
