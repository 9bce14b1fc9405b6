"""What became of each candidate of a plan, and why it is not the answer."""

from experiments.planning.capacity.words import counted, limit_text, percent
from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.branching import ALIKE, State
from experiments.planning.plan.candidates import Candidate
from experiments.planning.plan.finding import Finalist, PlanFound
from experiments.planning.probes import SteadyProbe
from model.counts import count_of


def fate(found: PlanFound, candidate: Candidate) -> str:
    """Return in a word what became of a candidate."""
    if candidate.lost:
        return candidate.reason
    winner = found.winner
    if winner is not None and winner.candidate.number == candidate.number:
        return "answer"
    if any(one.candidate.number == candidate.number for one in found.finalists):
        return "runner-up"
    state = found.states[candidate.number]
    if _is_the_answer(found, candidate):
        return "same price"
    if state.replicas is None:
        return "unlikely" if _gave_up(state) else state.fate or "price bound"
    if winner is None:
        return "dearer"
    beaten = next((one for one in found.beaten if one.state is state), None)
    usd, least = state.usd_per_hour, winner.state.usd_per_hour  # before their risk made them grow
    if beaten is not None:
        usd, least = beaten.usd_per_hour, winner.usd_per_hour
    return "same price" if usd <= least * ALIKE else "dearer"


def why(found: PlanFound, candidate: Candidate) -> str:
    """Say in a sentence why a candidate is not the answer."""
    word = fate(found, candidate)
    if candidate.lost:
        return candidate.lost
    state = found.states[candidate.number]
    if word == "answer":
        return "the cheapest that keeps the SLO at this risk"
    if word == "price bound":
        usd = state.bound_usd
        return (
            f"its capacity asks for {candidate.told(state.least)} = {usd:,.2f} USD/h before any "
            "limit is looked at"
        )
    winner = found.winner
    if winner is not None and word == "same price" and _is_the_answer(found, candidate):
        return f"with {count_of(winner.replicas, 'replica')} it is the answer itself"
    if state.replicas is None:
        return _not_kept(found, state)
    assert winner is not None
    replicas, usd, missed = solved(found, candidate)
    text = f"{counted(replicas)} the SLO ({percent(missed)} miss{_may(found, candidate)})"
    if word == "same price" and usd < winner.usd_per_hour / ALIKE:
        fewer = counted(winner.state.replicas or 0, "keep")
        return (
            f"{text}; at that price {fewer} it of the answer, {percent(_own(winner))} miss, but "
            f"the risk asks for {winner.replicas}"
        )
    if word == "same price":
        return f"{text}, at the same price as the answer, which misses {percent(_own(winner))}"
    return f"{text}, for {usd:,.2f} USD/h, {100 * (usd / winner.usd_per_hour - 1):+.0f}%"


def _gave_up(state: State) -> bool:
    """Tell whether its last test ended undecided since more runs hardly could find it kept."""
    tried = state.not_kept
    return state.fate == "undecided" and tried is not None and state.probes[tried].gave_up


def _is_the_answer(found: PlanFound, candidate: Candidate) -> bool:
    """Tell whether a candidate, with as many replicas as were tried last, is the answer's hardware.

    Of pools in another ratio it may be, whatever its own runs could tell of it.
    """
    winner, state = found.winner, found.states[candidate.number]
    if winner is None or winner.candidate.number == candidate.number:
        return False
    tried = state.not_kept if state.replicas is None else solved(found, candidate)[0]
    return tried is not None and candidate.sized(tried) == winner.candidate.sized(winner.replicas)


def solved(found: PlanFound, candidate: Candidate) -> tuple[int, float, float]:
    """Return the replicas of a solved candidate, their price, and the share that misses.

    Of the answer and the runners-up they are as many as their risk asks for.
    """
    for one in (*found.finalists, *found.beaten):
        if one.candidate.number == candidate.number:
            return one.replicas, one.usd_per_hour, one.probe.missed
    state = found.states[candidate.number]
    assert state.replicas is not None
    return state.replicas, state.usd_per_hour, state.probes[state.replicas].missed


def _may(found: PlanFound, candidate: Candidate) -> str:
    """Say how many may, where a percentile is what most miss: 6.4% keep a p90."""
    state = found.states[candidate.number]
    probe = state.probes.get(state.replicas or 0)
    counts = getattr(probe, "counts", None)
    if counts is None or isinstance(probe, DayProbe) or not counts.worst.key:
        return ""
    limit = limit_text(counts.worst.key, found.problem.plan.study.slo)
    return f" {limit}, which {percent(counts.worst.allowed)} may"


def _own(winner: Finalist) -> float:
    return winner.state.probes[winner.state.replicas or 0].missed


def _not_kept(found: PlanFound, state: State) -> str:
    count = state.not_kept
    if count is None:
        most = found.problem.plan.study.most_replicas
        return f"more than {count_of(most, 'replica')} would be needed"
    probe = state.probes[count]
    what = "windows" if isinstance(probe, DayProbe) else "requests"
    counts = probe.shown if isinstance(probe, SteadyProbe) else getattr(probe, "counts", None)
    binds = ""
    if counts is not None and counts.binds:
        binds = f", most by {limit_text(counts.binds, found.problem.plan.study.slo)}"
    text = f"{counted(count, 'miss')} it in {percent(probe.missed)} of the {what}{binds}"
    if state.fate == "undecided":
        after = f"{probe.asked} runs" if probe.asked > 1 else "a short run"
        if not probe.gave_up or counts is None:
            return f"{text}: undecided after {after}, so not counted on"
        may = percent(counts.worst.allowed)
        return f"{text}, {may} may: after {after}, more hardly would find it kept"
    cheaper = "" if found.winner is None else ", and more would not be cheaper"
    return f"{text}{cheaper}"
