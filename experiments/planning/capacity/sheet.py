"""The page of a capacity study: the highest value with its interval, and what ends it."""

import math
from collections.abc import Sequence

from experiments.planning.capacity.answers import Answer as Found
from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.study import CapacityPlan
from experiments.planning.capacity.words import (
    limit_text,
    percent,
    sentence,
    sentences,
    slo_text,
)
from experiments.planning.promises import promises_of
from experiments.planning.smallest import Smallest
from experiments.reporting.page.columns import key_names, label_of
from experiments.reporting.page.figures import Axis, Bar, Figure, Limit, Series
from experiments.reporting.page.sheet import BAD, GOOD, OPEN, Answer, Section, Sheet, card
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import DASH, significant, with_interval
from experiments.study.errors import show

MOST_CURVES = 8
WIDE = 4.0
"""Values that are further apart are shown on a logarithmic axis."""
LEAST_SHOWN = 0.001
"""Per cent of misses at the lower end of the chart: none is drawn there."""


def sheet(plan: CapacityPlan, found: Sequence[Found], notes: Sequence[str], study: str) -> Sheet:
    """Return the page of what was found."""
    what = "highest" if _is_highest(found) else "smallest number of"
    return Sheet(
        name=plan.study.name,
        description=plan.study.description,
        answer=_answer(plan, found),
        cards=_cards(plan, found) if len(found) == 1 else [],
        sections=[
            Section(
                f"The {what} {_key(plan)}",
                "Lines are intervals. What binds: the limit that most of the missed requests miss.",
                figures=[_values(plan, found)] if len(found) > 1 else [],
                table=_table(plan, found) if len(found) > 1 else None,
            ),
            Section(
                "Missed requests",
                "Each mark is a value that was simulated. Shaded: the answer with its "
                f"{100 * plan.study.confidence:g}% interval. Beyond the dashed line more requests "
                "miss the SLO than may."
                + (f" The first {MOST_CURVES} points." if len(found) > MOST_CURVES else ""),
                figures=[_missed(plan, found[:MOST_CURVES])],
            ),
        ],
        notes=notes,
        texts=[("In words", "\n".join(sentences(plan, found))), ("Study", study)],
    )


def _is_highest(found: Sequence[Found]) -> bool:
    return all(isinstance(one.found, Highest) for one in found)


def _answer(plan: CapacityPlan, found: Sequence[Found]) -> Answer:
    best = found[_best(found)]
    label = _label(plan, best)
    text = sentence(plan, best).replace(plan.key, _key(plan))
    text = f"{label}: {text}" if label else f"{text[:1].upper()}{text[1:]}"
    about = f"SLO: {slo_text(plan.study.slo)}."
    if len(found) > 1:
        about += f" Of {len(found)} points the one with the most."
    return Answer(f"{text}.", _state(best), about=about)


def _key(plan: CapacityPlan) -> str:
    return plan.key.rsplit(".", 1)[-1]


def _label(plan: CapacityPlan, one: Found) -> str:
    return label_of(list(plan.plan.keys), one.point.values)


def _best(found: Sequence[Found]) -> int:
    """The point that holds most; of replicas the one that needs fewest."""

    def worth(one: Found) -> float:
        """Return what more is better of; -inf where nothing keeps the SLO."""
        if isinstance(one.found, Smallest):
            return -math.inf if one.found.replicas is None else -one.found.replicas
        lost = one.found.outcome in ("never", "not harder")
        return -math.inf if lost else one.found.value

    return max(range(len(found)), key=lambda place: worth(found[place]))


def _state(one: Found) -> str:
    if isinstance(one.found, Smallest):
        return BAD if one.found.replicas is None else GOOD
    return {"never": BAD, "undecided": OPEN, "not harder": OPEN}.get(one.found.outcome, GOOD)


def _value(one: Found) -> str:
    if isinstance(one.found, Smallest):
        return "more" if one.found.replicas is None else str(one.found.replicas)
    value = with_interval(one.found.value, one.found.low, one.found.high)
    words = {"found": value, "never": "none", "undecided": f"~{value}", "not harder": DASH}
    return words.get(one.found.outcome, f"≥ {value}")


def _value_note(plan: CapacityPlan, one: Found) -> str:
    """What stands below a value: that it has an interval, or why it has none."""
    if isinstance(one.found, Smallest):
        return f"of at most {plan.study.most}"
    if one.found.outcome == "found":
        known = not math.isnan(one.found.low)
        return f"{100 * plan.study.confidence:g}% interval" if known else "no interval is known"
    return {
        "never": f"{significant(one.found.value)} is too much already",
        "capacity": "kept until queues begin to grow",
        "unbounded": "kept at all that was tried",
        "undecided": "the misses do not grow with it there",
        "not harder": "more of it is not harder",
    }[one.found.outcome]


def _usd(one: Found) -> str:
    return DASH if math.isnan(one.usd_per_hour) else f"{one.usd_per_hour:,.2f}"


def _binds(plan: CapacityPlan, found: Highest) -> str:
    return limit_text(found.binds, plan.study.slo) if found.binds else DASH


def _cards(plan: CapacityPlan, found: Sequence[Found]) -> list[dict[str, str]]:
    one = found[0]
    told = [card(_key(plan), _value(one), _value_note(plan, one))]
    if isinstance(one.found, Highest):
        share = one.found.value / one.capacity
        if not math.isnan(share):
            told.append(card("of its capacity", percent(share), "where every queue begins to grow"))
        told.append(card("what binds", _binds(plan, one.found), "most of the misses"))
    elif one.found.replicas is not None:
        probe = one.found.probes[one.found.replicas]
        told.append(card("requests that miss", percent(probe.missed), "with so many replicas"))
    if not math.isnan(one.usd_per_hour):
        told.append(card("USD per hour", _usd(one), "of all GPUs"))
    return told


def _values(plan: CapacityPlan, found: Sequence[Found]) -> Figure:
    """The value of each point with its interval."""
    bars = []
    for one in found:
        name = _label(plan, one)
        if isinstance(one.found, Highest):
            binds = f"; {_binds(plan, one.found)} binds" if one.found.binds else ""
            bars.append(
                Bar(
                    name, one.found.value, one.found.low, one.found.high,
                    hollow=one.found.outcome != "found", text=f"{name}: {_value(one)}{binds}",
                )
            )  # fmt: skip
        elif one.found.replicas is not None:
            bars.append(Bar(name, float(one.found.replicas)))
    return Figure(
        "bars", f"{_key(plan)} of each point", Axis(_key(plan), zero=True), bars, base=0.0
    )


def _table(plan: CapacityPlan, found: Sequence[Found]) -> Table:
    keys = list(plan.plan.keys)
    highest = _is_highest(found)
    figures = ("% of capacity", "binds", "USD/h") if highest else ("% missed", "USD/h")
    rows = []
    for one in found:
        cells = [*(show(one.point.values[key]) for key in keys), _value(one)]
        if isinstance(one.found, Highest):
            share = one.found.value / one.capacity
            cells += [DASH if math.isnan(share) else significant(100 * share)]
            cells.append(_binds(plan, one.found))
        else:
            count = one.found.replicas
            missed = math.nan if count is None else one.found.probes[count].missed
            cells.append(DASH if math.isnan(missed) else significant(100 * missed, 2))
        rows.append((*cells, _usd(one)))
    headings = (*key_names(keys).values(), _key(plan), *figures)
    return Table(headings, tuple(rows), keys=max(1, len(keys)))


def _missed(plan: CapacityPlan, found: Sequence[Found]) -> Figure:
    """The missed share over the value, a line for each point, and what is allowed."""
    rows = []
    for place, one in enumerate(found):
        name = _label(plan, one)
        span = None
        if isinstance(one.found, Highest):
            points = sorted({**dict(one.found.tried), **dict(one.found.pair)}.items())
            if one.found.outcome == "found":
                span = (one.found.value, one.found.low, one.found.high,
                        significant(one.found.value, 4))  # fmt: skip
        else:
            points = sorted((float(n), probe.missed) for n, probe in one.found.probes.items())
        shown = [(at, max(100 * missed, LEAST_SHOWN)) for at, missed in points]
        rows.append(Series(name, shown, look=place, dash=place // 4, span=span))
    values = [at for row in rows for at, *_ in row.points if at > 0]
    wide = bool(values) and max(values) > WIDE * min(values)
    shares = sorted({100 * promise.allowed for promise in promises_of(plan.study.slo)})
    return Figure(
        "lines", "Share of the requests that miss the SLO", Axis(_key(plan), log=wide), rows,
        Axis("% of the requests that miss the SLO", log=True),
        limits=[Limit(share, f"allowed: {share:.3g}%") for share in shares if share > 0],
    )  # fmt: skip
