"""What a plan found, in sentences."""

import math
from collections.abc import Iterator

import numpy as np

from experiments.planning.capacity.words import counted, limit_text, percent, slo_text
from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.basis import basis_notes
from experiments.planning.plan.demand import needed
from experiments.planning.plan.fates import fate, why
from experiments.planning.plan.finding import Finalist, PlanFound
from experiments.planning.plan.holding import Change
from experiments.planning.plan.problem import Problem
from experiments.planning.plan.study import Contract, window_s_of
from experiments.planning.probes import Probe
from experiments.planning.sequential import Verdict
from experiments.planning.traffic import mean_rate_per_s
from experiments.reporting.quantities import significant
from model.counts import count_of
from workloads.arrivals import ClosedLoop

HOURS_A_MONTH = 730.5
CONTRACTS: dict[Contract, str] = {"on_demand": "on demand", "reserved": "reserved", "own": "owned"}
"""What a price is of, in words."""
MOST_NAMED = 6
"""Candidates of which is said why not, where there is no answer."""


def traffic_text(found: PlanFound, multiple: float) -> str:
    """Write so many times the traffic: requests per second, users, or the busiest windows."""
    plan = found.problem.plan
    arrivals = plan.study.workload.arrivals
    if isinstance(arrivals, ClosedLoop):
        return count_of(round(arrivals.users * multiple), "user")
    one = Problem(plan, 1.0)
    served = [each for each in found.candidates if not each.lost]
    if not served:
        if one.has_windows:
            return f"{multiple:.3g} x the traffic"
        return f"{significant(mean_rate_per_s(plan.studies[0]) * multiple)} requests/s"
    rate = one.steady_rate_per_s(served[0]) * multiple
    text = f"{significant(rate)} requests/s"
    return f"{text} in the busiest windows" if one.has_windows else text


def title(found: PlanFound) -> str:
    """Say what was asked."""
    study, demand = found.problem.plan.study, found.demand
    text = f"{study.name}: {traffic_text(found, 1.0)}"
    if study.growth != 1:
        text += f", x{study.growth:g} growth"
    if study.growth_cv:
        text += f" (cv {100 * study.growth_cv:g}%)"
    text += f"; {slo_text(study.slo)}"
    if found.problem.has_windows:
        text += f" in each window of {window_s_of(study.slo):g} s"
    text += f"; risk {percent(study.risk.share)}"
    if abs(demand.design / demand.growth - 1) > 1e-9:
        text += f"; planned for {traffic_text(found, demand.design)}"
    return text


def answer_lines(found: PlanFound) -> list[str]:
    """Return the answer, a line for each thing that a buyer asks."""
    winner = found.winner
    lines = [title(found)]
    if winner is None:
        lines.append("answer   nothing among the candidates keeps it")
        named = found.candidates[:MOST_NAMED]
        lines += [f"why not  {one.name}: {why(found, one)}" for one in named]
        return [*lines, *_others(found)]
    lines.append(f"answer   {deployment(found, winner)}. {misses(found, winner)}")
    lines += _held(found, winner)
    lines.append(f"one down {one_down(found, winner)}")
    lines += [f"next     {_next(found, winner, other)}" for other in found.finalists[1:]]
    lines += _others(found)
    changes = [
        f"{change_text(each)}{_needs(found, each)}"
        for each in found.changes
        if not math.isnan(each.ratio)
    ]
    if changes:
        lines.append(f"if wrong {'; '.join(changes)}")
    asked = found.problem.plan.study.calibration_draws
    if asked and not found.draws:
        lines.append(
            "prices   calibration_draws are not part of the risk: no limit ends what is held, its "
            "capacity does; model_error_cv can be"
        )
    if found.draws:
        spread = _spread(found)
        told = sum(not math.isnan(each.ratio) for each in found.draws)
        of = "" if told == len(found.draws) else f" of {len(found.draws)}"
        lines.append(f"prices   {told}{of} drawn calibrations: +-{percent(spread)} (1 sd)")
    bought = [one.candidate for one in found.finalists]
    return lines + [f"note     {text}" for text in basis_notes(bought)]


def deployment(found: PlanFound, one: Finalist) -> str:
    """Write ``4 x b200-sxm TP1: 4 GPUs, 25.00 USD/h on demand``, and the same by the month."""
    gpus = count_of(one.gpus, "GPU")
    month = one.usd_per_hour * HOURS_A_MONTH
    return (
        f"{one.candidate.told(one.replicas)}: {gpus}, {one.usd_per_hour:,.2f} USD/h "
        f"{CONTRACTS[found.problem.plan.study.contract]} ({month:,.0f} USD a month)"
    )


def shares(one: Finalist) -> str:
    """Write how many replicas there are, of each pool."""
    return " + ".join(map(str, one.candidate.sizes.parts(one.replicas)))


def misses(found: PlanFound, one: Finalist) -> str:
    """Say which share misses the SLO, and of a day in which window most requests do."""
    probe = one.probe
    if isinstance(probe, DayProbe):
        windows = probe.day.windows * len(probe.days)
        worst = worst_window(probe)
        text = f"{percent(probe.missed)} of {count_of(windows, 'window')} miss the SLO"
        return f"{text}; the worst begins at {worst}" if probe.missed else text
    counts = getattr(probe, "counts", None)
    if counts is None or not counts.worst.key:
        return f"{percent(probe.missed)} of the requests miss the SLO"
    limit = limit_text(counts.worst.key, found.problem.plan.study.slo)
    allowed = percent(counts.worst.allowed)
    return f"{percent(probe.missed)} of the requests miss {limit}, {allowed} may"


def worst_window(probe: DayProbe) -> str:
    """Return when the window begins that misses most, over all days, as hours of the traffic."""
    key = probe.counts.worst.key
    total = np.sum([run.missed[key] for run in probe.days], axis=0)
    begin_s = int(total.argmax()) * probe.day.window_s
    return f"{begin_s / 3600:.2f} h"


def _held(found: PlanFound, one: Finalist) -> Iterator[str]:
    slo = found.problem.plan.study.slo
    if one.holds is not None:
        ends = [
            traffic_text(found, value).split(" ")[0] for value in (one.holds.low, one.holds.high)
        ]
        text = f"holds    {traffic_text(found, one.holds.value)}"
        if one.holds.outcome == "capacity":
            text = f"holds    at least {traffic_text(found, one.holds.value)}, its capacity"
        elif one.holds.outcome == "undecided":
            text = f"holds    at least {traffic_text(found, one.holds.value)}, which was tested"
        elif not math.isnan(one.holds.low):
            text += f" ({ends[0]} to {ends[1]})"
        yield f"{text}; risk {risk_text(one)}"
    else:
        yield f"risk     {risk_text(one)}"
    counts = getattr(one.probe, "counts", None)
    if counts is not None and counts.binds:
        share = counts.by_limit[counts.binds] / counts.missed
        yield f"binds    {limit_text(counts.binds, slo)} in {percent(share)} of the misses"


def risk_text(one: Finalist) -> str:
    """Write the risk with its ends, where there are some."""
    low, high = one.risk_ends
    if math.isnan(low):
        return percent(one.risk)
    return f"{percent(one.risk)} ({percent(low)} to {percent(high)})"


def one_down(found: PlanFound, one: Finalist) -> str:
    """Say whether one replica may be away."""
    if one.one_down is None:
        if one.replicas == 1:
            return "N+1 not kept: it is a single replica"
        return "N+1 not kept: one of its pools is a single replica, and nothing goes without it"
    kept = one.one_down.verdict is Verdict.KEPT
    where = " of the busiest stretch" if found.problem.has_windows else ""
    fewer = counted(one.replicas - 1, "miss")
    if one.one_down_of:
        fewer = f"without one of {one.one_down_of} they miss"
    text = f"{fewer} {percent(one.one_down.missed)} at the forecast{where}"
    return f"N+1 {'kept' if kept else 'not kept'}: {text}{doubt(one.one_down)}"


def doubt(probe: Probe) -> str:
    """Return what is to be said of a test that did not decide: the end of a sentence."""
    if probe.verdict is not Verdict.UNDECIDED:
        return ""
    return ", more runs hardly would keep it" if probe.gave_up else ", undecided"


def _next(found: PlanFound, winner: Finalist, other: Finalist) -> str:
    more = other.usd_per_hour / winner.usd_per_hour - 1
    risk = "" if other.proven else ", and its risk is too high all the same"
    fewer = other.state.probes.get(other.replicas - 1)
    if fewer is not None and fewer.verdict is Verdict.UNDECIDED:
        word = "hardly keeps it" if fewer.gave_up else "is undecided"
        risk += f", one replica fewer {word}"
    return f"{deployment(found, other)}, {100 * more:+.0f}%{risk}"


def _others(found: PlanFound) -> list[str]:
    told = others_of(found)
    return [f"others   {', '.join(told)}"] if told else []


def others_of(found: PlanFound) -> list[str]:
    """Return how many of the others are out for what: ``2 do not fit``."""
    kinds: dict[str, int] = {}
    for candidate in found.candidates:
        word = fate(found, candidate)
        kinds[word] = kinds.get(word, 0) + 1
    told = {
        "does not fit": ("does not fit", "do not fit"),
        "cannot be served": ("cannot be served", "cannot be served"),
        "ceiling": ("cannot keep a limit at any load", "cannot keep a limit at any load"),
        "price bound": ("costs more by capacity alone", "cost more by capacity alone"),
        "needs more": (
            "needs more than what would be cheaper", "need more than what would be cheaper",
        ),
        "undecided": ("undecided", "undecided"),
        "unlikely": ("hardly keeps it", "hardly keep it"),
        "dearer": ("keeps it and costs more", "keep it and cost more"),
        "same price": ("keeps it at the same price", "keep it at the same price"),
    }  # fmt: skip
    return [
        f"{kinds[word]} {one if kinds[word] == 1 else many}"
        for word, (one, many) in told.items()
        if word in kinds
    ]


def change_text(change: Change) -> str:
    """Write ``prompts +10%: -10.5% (-10.9 to -10.1)``."""
    ends = [100 * (each - 1) for each in (change.ratio, change.low, change.high)]
    if math.isnan(change.low):
        return f"{change.name}: {ends[0]:+.1f}%"
    return f"{change.name}: {ends[0]:+.1f}% ({ends[1]:+.1f} to {ends[2]:+.1f})"


def replicas_after(found: PlanFound, change: Change) -> int | None:
    """Return the replicas that the answer would need if an assumption changed; None if unknown."""
    winner = found.winner
    if winner is None or winner.holds is None or math.isnan(change.ratio):
        return None
    study = found.problem.plan.study
    held = winner.holds.value * change.ratio
    count: int | None = max(1, math.ceil(winner.replicas * found.demand.design / held - 1e-9))
    if study.failures is not None and winner.curve is not None:
        available = study.failures.availability
        count = needed(found.demand, winner.curve, change.ratio, available, study.most_replicas)
    return None if count is None else winner.candidate.sizes.rounds_from(winner.replicas, count)


def _needs(found: PlanFound, change: Change) -> str:
    count = replicas_after(found, change)
    winner = found.winner
    if count is None or winner is None or count <= winner.replicas:
        return ""
    return f", {count_of(count, 'replica')}"


def _spread(found: PlanFound) -> float:
    from experiments.planning.plan.sensitivity import spread_of

    return spread_of(found.draws)
