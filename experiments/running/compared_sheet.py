"""The page of a comparison: what got better and worse beyond noise."""

import math
from collections.abc import Sequence

from experiments.reporting.page.columns import good_way, label_of, named, short_name
from experiments.reporting.page.figures import Axis, Bar, Figure
from experiments.reporting.page.sheet import BAD, GOOD, NONE, Answer, Section, Sheet, card
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import DASH, signed, significant
from experiments.reporting.significance import Difference
from experiments.running.compared import Comparison, Line, Side, swept_keys

MOST_PAIRS = 24
"""Pairs of points whose figures are drawn; the table has all."""
MOST_ABOVE = 12
"""Settings that differ and stand above the figures; more of them stand below."""
FIRST = ("usd_per_million_output_tokens", "ttft_p99_s", "tpot_p99_s", "slo_attainment")
"""What a buyer looks at first."""
ROUNDING = 1e-12
"""Of a figure."""
NO_INTERVAL = "no interval is known of it, with so few seeds or where a queue grows"
PAIRINGS = {
    "the same requests": "the same requests on both sides, so luck cancels",
    "the same lengths": "the same lengths and seeds on both sides at other times of arrival",
    "not paired": "different requests on both sides: intervals hold the luck of both",
}


def sheet(comparisons: Sequence[Comparison]) -> Sheet:
    """Return the page of one comparison or of several pairs of points."""
    first = comparisons[0]
    before, after = (side.name.rpartition("/")[2] for side in (first.before, first.after))
    told = [PAIRINGS[one.pairing] for one in comparisons]
    table = _settings(comparisons)
    settings, many = Section("What was set differently", table=table), len(table.rows) > MOST_ABOVE
    return Sheet(
        name=f"{after} against {before}" if len(comparisons) == 1 else "Two results compared",
        description=f"Before: {first.before.name}. After: {first.after.name}."
        if len(comparisons) == 1
        else f"Before: {_folder(first.before)}. After: {_folder(first.after)}. "
        f"{len(comparisons)} pairs of points with the same swept values.",
        basis=f"{_sentence('; '.join(dict.fromkeys(told)))} {_alike(comparisons)}".rstrip(),
        answer=_answer(comparisons),
        cards=_cards(first) if len(comparisons) == 1 else [],
        sections=[
            *([] if many else [settings]),
            *(
                Section(
                    "What changed" if len(comparisons) == 1 else _pair(one),
                    "Filled: more than noise, all these differences together (Holm, 5%). Hollow: "
                    "not beyond noise. Lines are 95% intervals.",
                    figures=[_changes(one)],
                )
                for one in comparisons[:MOST_PAIRS]
            ),
            Section("Every figure", table=_table(comparisons)),
            Section(
                "Request by request",
                "Counts, no test: requests of one busy period share their luck.",
                table=_spreads(comparisons),
            ),
            *([settings] if many else []),
        ],
    )


def _settings(comparisons: Sequence[Comparison]) -> Table:
    """Each setting once, with the values that it has in any pair."""
    rows = dict.fromkeys(row for one in comparisons for row in one.settings)
    return Table(("setting", "before", "after"), tuple(rows))


def _alike(comparisons: Sequence[Comparison]) -> str:
    return "" if any(one.settings for one in comparisons) else "No setting differs."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _folder(side: Side) -> str:
    return side.name.removesuffix(f":{side.point}")


def verdict_of(line: Line) -> str:
    """Return better, worse or changed where a difference is beyond noise, else nothing."""
    if not line.starred:
        return ""
    way = good_way(line.metric) * line.difference.value
    return "changed" if not way else "better" if way > 0 else "worse"


def _shown(one: Comparison) -> list[Line]:
    return [
        line
        for line in one.lines
        if line.metric in one.shown and not math.isnan(line.before + line.after)
    ]


def _answer(comparisons: Sequence[Comparison]) -> Answer:
    words: dict[str, list[str]] = {"better": [], "worse": []}
    total, known = 0, 0
    for one in comparisons:
        for line in _shown(one):
            total += 1
            known += not math.isnan(line.difference.low)
            word = verdict_of(line)
            if word in words:
                share = "" if math.isnan(line.relative) else f" {100 * line.relative:+.3g}%"
                words[word].append(f"{short_name(line.metric)}{share}")
    better, worse = len(words["better"]), len(words["worse"])
    if not known:
        text, state = "What is more than noise cannot be told: there are too few seeds.", NONE
    elif not better and not worse:
        text, state = f"Nothing differs beyond noise, of {total} figures.", NONE
    else:
        text = f"{better} of {total} figures got better beyond noise, {worse} worse."
        state = GOOD if not worse else BAD if not better else NONE
    more = ". ".join(
        f"{word.capitalize()}: {', '.join(names[:6])}" for word, names in words.items() if names
    )
    return Answer(
        text, state, f"{more}." if more and len(comparisons) == 1 else _counted(comparisons)
    )


def _counted(comparisons: Sequence[Comparison]) -> str:
    """Say of the figures that a buyer looks at first at how many pairs each got better or worse."""
    told = []
    for metric in FIRST:
        lines = [line for one in comparisons for line in _shown(one) if line.metric == metric]
        words = [verdict_of(line) for line in lines]
        if any(words):
            counts = f"better at {words.count('better')}, worse at {words.count('worse')}"
            told.append(f"{short_name(metric)}: {counts} of {len(lines)}")
    return f"{'. '.join(told)} pairs." if told else ""


def _cards(one: Comparison) -> list[dict[str, str]]:
    found = []
    for line in _shown(one):
        if line.metric in FIRST:
            name, factor = named(line.metric)
            values = [significant(factor * value) for value in (line.before, line.after)]
            found.append(
                card(name, f"{values[0]} → {values[1]}", verdict_of(line) or _unseen(line))
            )
    return found


def _unseen(line: Line) -> str:
    return "no change seen" if not math.isnan(line.difference.low) else "no interval is known"


def _changes(one: Comparison) -> Figure:
    bars = []
    for line in _shown(one):
        found, unit = line.difference, abs(line.before) / 100
        if not unit or math.isnan(found.low):
            continue
        word = verdict_of(line)
        name, factor = named(line.metric)
        bars.append(
            Bar(
                short_name(line.metric), found.value / unit, found.low / unit,
                found.high / unit, state="bad" if word == "worse" else "good" if word == "better"
                else "plain", hollow=not line.starred,
                text=f"{name}: {significant(factor * line.before)} before, "
                f"{significant(factor * line.after)} after, {100 * line.relative:+.3g}%"
                f"{f', {word}' if word else ', not beyond noise'}",
            )
        )  # fmt: skip
    return Figure("bars", f"Changes, {_pair(one)}", Axis("change, %", unit="%"), bars, base=0.0)


def _pair(one: Comparison) -> str:
    """What both points are called where they are called alike, else their folders."""
    told = [label_of(swept_keys(side), side.summary) for side in (one.before, one.after)]
    if told[0] and told[0] == told[1]:
        return told[0]
    return f"{one.after.name} against {one.before.name}"


def _table(comparisons: Sequence[Comparison]) -> Table:
    several = len(comparisons) > 1
    headings = ("figure", "before", "after", "difference", "95% interval", "%", "verdict")
    rows = []
    for one in comparisons:
        for line in one.lines:
            if math.isnan(line.before + line.after):
                continue
            name, factor = named(line.metric)
            found = _without_rounding(line)
            cells = [name, *(significant(factor * value) for value in (line.before, line.after))]
            cells.append(signed(factor * found.value))
            ends = [signed(factor * end) for end in (found.low, found.high)]
            cells.append(DASH if math.isnan(found.low) else f"{ends[0]} to {ends[1]}")
            cells.append(DASH if math.isnan(line.relative) else f"{100 * line.relative:+z.1f}")
            rows.append((*([_pair(one)] if several else []), *cells, verdict_of(line)))
    keys = 2 if several else 1
    return Table((*(["points"] if several else []), *headings), tuple(rows), keys=keys)


def _without_rounding(line: Line) -> Difference:
    """A difference that is no more than the rounding of its figures is none."""
    found, size = line.difference, max(abs(line.before), abs(line.after))
    same = all(math.isnan(end) or abs(end) < ROUNDING * size for end in (found.low, found.high))
    return Difference(0.0, 0.0, 0.0) if same and abs(found.value) < ROUNDING * size else found


def _spreads(comparisons: Sequence[Comparison]) -> Table:
    several = len(comparisons) > 1
    headings = (
        "latency", "requests", "faster by > 10%", "slower by > 10%", "p10 of the change, ms",
        "p50, ms", "p90, ms",
    )  # fmt: skip
    rows = [
        (
            *([_pair(one)] if several else []),
            spread.latency.upper(), f"{spread.requests:,}", f"{spread.better:,}",
            f"{spread.worse:,}",
            *(signed(1e3 * each) for each in (spread.p10_s, spread.p50_s, spread.p90_s)),
        )
        for one in comparisons
        for spread in one.spreads
    ]  # fmt: skip
    return Table((*(["points"] if several else []), *headings), tuple(rows), keys=1 + several)
