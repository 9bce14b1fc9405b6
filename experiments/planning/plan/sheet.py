"""The page of a plan: what to buy and at which risk, why not the others, and what may be wrong."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from experiments.planning.capacity.words import limit_text, percent
from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.candidates import Candidate
from experiments.planning.plan.fates import fate, why
from experiments.planning.plan.finding import Finalist, PlanFound
from experiments.planning.plan.priced import least_usd, price_ends
from experiments.planning.plan.words import (
    CONTRACTS,
    HOURS_A_MONTH,
    deployment,
    misses,
    one_down,
    others_of,
    replicas_after,
    shares,
    title,
    traffic_text,
)
from experiments.planning.sequential import Verdict
from experiments.reporting.page.figures import Axis, Band, Bar, Figure, Series
from experiments.reporting.page.sheet import BAD, GOOD, Answer, Section, Sheet, card
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import DASH

MOST_BARS = 24
MUCH_MORE, MOST_GROWN = 2.0, 4
"""So many times the traffic planned for is looked at, with so many times the replicas at most."""
KEPT, MISSED, EMPTY = range(3)
FATE_WORDS = {
    "price bound": "too dear by its capacity alone", "needs more": "needs more than is worth it",
    "ceiling": "cannot keep a limit at any load", "dearer": "keeps it, costs more",
    "same price": "keeps it at the same price", "undecided": "undecided, so not counted on",
    "unlikely": "hardly keeps it, so not counted on",
}  # fmt: skip
"""Words of candidates.csv for people."""
BEST_FATES = ("answer", "runner-up", "same price", "dearer", "undecided", "unlikely")
FATES = ("kept:keeps the SLO", "missed:misses it", "empty:without requests")


def sheet(found: PlanFound, notes: Sequence[str], texts: Sequence[tuple[str, str]]) -> Sheet:
    """Return the page of what was found."""
    study = found.problem.plan.study
    winner = found.winner
    return Sheet(
        name=study.name,
        description=study.description,
        answer=_answer(found),
        cards=[] if winner is None else _cards(found, winner),
        sections=[
            Section(
                "What each candidate costs",
                "Filled: the smallest number of replicas that keeps the SLO; lines are what tests, "
                "and how much it holds, leave open (95%). Hollow: what it costs at least, by its "
                "capacity and the tests that it failed.",
                figures=[_prices(found)],
            ),
            Section(
                "The answer and the runners-up",
                "N+1: one replica fewer still keeps the SLO at the forecast.",
                table=_ranked(found),
            ),
            Section("Windows of the day", _told_of_windows(found), figures=_windows(found)),
            Section(
                "If traffic grows",
                "Each mark is one replica more, or one round more of pools in a ratio: the traffic "
                "that is held then, and its price.",
                figures=_growth(found),
            ),
            Section(
                "If an assumption is wrong",
                "How much more or less traffic the answer holds, the same seeds on both sides; "
                "lines are 95% intervals.",
                figures=[_tornado(found)],
                table=_changes(found),
            ),
            Section("Every candidate, and why it lost", table=_candidates(found)),
        ],
        notes=notes,
        texts=texts,
    )


def _answer(found: PlanFound) -> Answer:
    winner = found.winner
    if winner is None:
        others = ", ".join(others_of(found))
        text = f"Nothing among the candidates keeps it: {others or 'there are none'}."
        return Answer(text, BAD, about=f"Asked: {title(found)}.")
    return Answer(
        f"Cheapest that keeps the SLO: {deployment(found, winner)}.", GOOD,
        f"{misses(found, winner)}. {one_down(found, winner)}.", f"Asked: {title(found)}.",
    )  # fmt: skip


def _cards(found: PlanFound, winner: Finalist) -> list[dict[str, str]]:
    kept = winner.one_down is not None and winner.one_down.verdict is Verdict.KEPT
    contract = CONTRACTS[found.problem.plan.study.contract]
    month = f"{contract}, {winner.usd_per_hour * HOURS_A_MONTH:,.0f} a month"
    of = "windows" if isinstance(winner.probe, DayProbe) else "requests"
    told = [
        card("USD per hour", _usd(winner.usd_per_hour, price_ends(found, winner)), month),
        card("GPUs", f"{winner.gpus:,}", winner.candidate.told(winner.replicas)),
        card("risk", percent(winner.risk), _risk(found, winner)),
        card(f"{of} that miss", percent(winner.probe.missed), _binds(found, winner)),
        card("one replica down", "kept" if kept else "not kept", "N+1, at the forecast"),
    ]
    if winner.holds is not None:
        least = "" if winner.holds.outcome == "found" else " at least"
        held = traffic_text(found, winner.holds.value)
        told.insert(2, card(f"holds{least}", held, _held(found, winner)))
    return told


def _held(found: PlanFound, winner: Finalist) -> str:
    """The interval of what it holds, and what is to be held."""
    assert winner.holds is not None
    ends = (winner.holds.low, winner.holds.high)
    low, high = (traffic_text(found, end) for end in ends) if not math.isnan(ends[0]) else ("", "")
    known = f"{low.split()[0]} to {high.split()[0]} (95%); " if low else ""
    return f"{known}{traffic_text(found, found.demand.growth)} forecast"


def _risk(found: PlanFound, winner: Finalist) -> str:
    low, high = (percent(end) for end in winner.risk_ends)
    ends = "" if low == high else f"{low} to {high}; "
    return f"{ends}{percent(found.demand.share)} may be taken"


def _binds(found: PlanFound, winner: Finalist) -> str:
    counts = getattr(winner.probe, "counts", None)
    if counts is None or not counts.binds:
        return ""
    return f"most by {limit_text(counts.binds, found.problem.plan.study.slo)}"


def _prices(found: PlanFound) -> Figure:
    """The price of each solved candidate; of the others what they cost at least."""
    own = {one.candidate.number: one for one in found.finalists}
    first = None if found.winner is None else found.winner.candidate.number
    bars = []
    for one in found.candidates:
        state = found.states.get(one.number)
        if state is None:
            continue
        solved = state.replicas is not None
        usd = state.usd_per_hour if solved else least_usd(state)
        ends = (min(least_usd(state), usd), usd)
        if one.number in own:
            usd, ends = own[one.number].usd_per_hour, price_ends(found, own[one.number])
        told = f"{'' if solved else 'at least '}{_usd(usd, ends)} USD/h"
        low, high = ends if ends[0] < ends[1] else (math.nan, math.nan)
        bars.append(
            Bar(
                one.name, usd, low, high, state="good" if one.number == first else "plain",
                hollow=not solved, strong=one.number == first,
                text=f"{one.name}: {told}; {why(found, one)}",
            )
        )  # fmt: skip
    bars.sort(key=lambda bar: (not bar.strong, bar.hollow, bar.value))
    return Figure(
        "bars", "Price of each candidate", Axis("USD per hour", zero=True), bars[:MOST_BARS],
        base=0.0,
    )  # fmt: skip


def _usd(usd: float, ends: tuple[float, float]) -> str:
    low, high = (f"{end:,.2f}" for end in ends)
    return f"{usd:,.2f}" if low == high else f"{usd:,.2f} ({low}{DASH}{high})"


def _ranked(found: PlanFound) -> Table:
    headings = ("deployment", "replicas", "GPUs", "USD/h", "missed", "N+1", "risk")
    rows = [
        (
            one.candidate.name, shares(one), str(one.gpus),
            _usd(one.usd_per_hour, price_ends(found, one)),
            percent(one.probe.missed),
            "yes" if one.one_down is not None and one.one_down.verdict is Verdict.KEPT else "no",
            DASH if math.isnan(one.risk) else percent(one.risk),
        )
        for one in found.finalists
    ]  # fmt: skip
    return Table(headings, tuple(rows))


def _told_of_windows(found: PlanFound) -> str:
    winner = found.winner
    if winner is None or not isinstance(winner.probe, DayProbe):
        return ""
    size = winner.probe.day.window_s
    return (
        f"Windows of {size / 60:g} min of the answer, a row for each day that was simulated. "
        f"{misses(found, winner)}."
    )


def _windows(found: PlanFound) -> list[Figure]:
    winner = found.winner
    if winner is None or not isinstance(winner.probe, DayProbe):
        return []
    probe = winner.probe
    hours = probe.day.window_s / 3600
    rows = []
    for run in probe.days:
        lost = run.lost(found.problem.promises)
        fates = [
            EMPTY if not run.measured[at] else MISSED if lost[at] else KEPT
            for at in range(probe.day.windows)
        ]
        rows.append(Band(f"seed {run.seed}", tuple(_stretches(fates, hours))))
    return [Figure("bands", "Windows of each day", Axis("h"), rows, names=FATES)]


def _stretches(fates: Sequence[int], width: float) -> Iterator[tuple[float, float, int]]:
    """Windows of the same fate that follow each other, as one."""
    place = 0
    for kind, group in groupby(fates):
        count = len(list(group))
        yield place * width, (place + count) * width, kind
        place += count


def _growth(found: PlanFound) -> list[Figure]:
    """Price over the traffic that is held, by one replica after the other."""
    rows = []
    for place, one in enumerate(found.finalists):
        if one.curve is None:
            continue
        counts = _counts(one, found.demand.design)
        usd = one.candidate.sizes.usd_per_hour
        points = [(one.curve.holds(count), usd(count)) for count in counts]
        rows.append(Series(one.candidate.name, points, look=place))
    if not rows:
        return []
    rows[0] = Series(
        rows[0].name, rows[0].points, rows[0].look, span=(found.demand.growth, math.nan, math.nan,
        "forecast"),
    )  # fmt: skip
    return [
        Figure(
            "lines", "Price over the traffic that is held", Axis("traffic, times today's"), rows,
            Axis("USD per hour", zero=True),
        )
    ]  # fmt: skip


def _counts(one: Finalist, design: float) -> list[int]:
    """Numbers of replicas around the answer, until they hold twice what was planned for."""
    assert one.curve is not None
    sizes = one.candidate.sizes
    step = sizes.round
    last = one.replicas + 3 * step
    while one.curve.holds(last) < MUCH_MORE * design and last < MOST_GROWN * one.replicas:
        last += 1
    first = sizes.rounds_from(one.replicas, max(sizes.fewest, one.replicas - 2 * step))
    every = step * -(-(last - first) // (step * MOST_BARS))
    return list(range(first, last + 1, every))


def _tornado(found: PlanFound) -> Figure:
    changes = [each for each in found.changes if not math.isnan(each.ratio)]
    ordered = sorted(changes, key=lambda each: -abs(each.ratio - 1))
    bars = [
        Bar(
            each.name, 100 * (each.ratio - 1), 100 * (each.low - 1), 100 * (each.high - 1),
            state="good" if each.ratio > 1 else "bad",
            hollow=each.low <= 1 <= each.high,
        )
        for each in ordered
    ]  # fmt: skip
    axis = Axis("traffic held, % more or less", unit="%")
    return Figure("bars", "Change of the traffic that is held", axis, bars, base=0.0)


def _changes(found: PlanFound) -> Table:
    headings = ("change", "traffic held", "95% interval", "replicas", "remark")
    rows = []
    for each in found.changes:
        if math.isnan(each.ratio):
            rows.append((each.name, DASH, DASH, DASH, each.said))
            continue
        value, low, high = (f"{100 * (end - 1):+.1f}%" for end in (each.ratio, each.low, each.high))
        interval = DASH if math.isnan(each.low) else f"{low} to {high}"
        count = replicas_after(found, each)
        rows.append((each.name, value, interval, str(count or DASH), each.said))
    return Table(headings, tuple(rows))


def _candidates(found: PlanFound) -> Table:
    """Every candidate: those that keep the SLO first, then by what they cost at least."""

    def merit(one: Candidate) -> tuple[int, float]:
        own, state = fate(found, one), found.states.get(one.number)
        least = math.inf if state is None else state.bound_usd
        return BEST_FATES.index(own) if own in BEST_FATES else len(BEST_FATES), least

    rows = [
        (one.name, FATE_WORDS.get(fate(found, one), fate(found, one)), why(found, one))
        for one in sorted(found.candidates, key=merit)
    ]
    return Table(("candidate", "what became of it", "why"), tuple(rows), keys=3)
