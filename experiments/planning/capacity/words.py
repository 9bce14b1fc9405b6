"""What a capacity search found, in sentences."""

import math
from collections.abc import Sequence

from experiments.planning.capacity.answers import Answer
from experiments.planning.capacity.direction import are_alike
from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.study import CapacityPlan
from experiments.planning.promises import promises_of
from experiments.planning.sequential import Verdict
from experiments.planning.smallest import Smallest
from experiments.reporting.quantities import significant
from experiments.study.grid import Setting
from model.counts import count_of
from sim.measuring.slo import Slo


def sentences(plan: CapacityPlan, answers: Sequence[Answer]) -> list[str]:
    """Return one line per point."""
    return [_named(one, sentence(plan, one)) for one in answers]


def limit_text(name: str, slo: Slo) -> str:
    """Write ``TTFT <= 500 ms``, or ``TTFT p99 <= 500 ms``."""
    latency, *percent = name.removesuffix("_s").split("_")
    return f"{' '.join((latency.upper(), *percent))} <= {getattr(slo, name) * 1e3:g} ms"


def slo_text(slo: Slo) -> str:
    """Write all limits and the share that has to keep them."""
    texts = []
    for promise in promises_of(slo):
        limits = " and ".join(limit_text(name, slo) for name in promise.limits)
        share = f" for {100 * slo.attainment:g}% of the requests"
        texts.append(limits if promise.key else limits + share)
    return "; ".join(texts)


def percent(share: float) -> str:
    """Write a share of misses: two digits, so that 0.6% and 1.2% differ."""
    return f"{significant(100 * share, 2)}%"


def counted(replicas: int, verb: str = "keep") -> str:
    """Write ``1 replica keeps``, ``2 replicas keep``."""
    if replicas == 1:
        return f"1 replica {verb}{'es' if verb.endswith('s') else 's'}"
    return f"{replicas} replicas {verb}"


def _named(one: Answer, text: str) -> str:
    label = Setting(one.point.values, {}).label()
    return f"{label}: {text}" if label else text


def sentence(plan: CapacityPlan, one: Answer) -> str:
    """Say what was found at a point."""
    slo = plan.study.slo
    if isinstance(one.found, Smallest):
        return _replicas(plan, one.found)
    found, key = one.found, plan.key
    unit = "/s" if plan.is_rate else ""
    if found.outcome == "found":
        return _found(plan, one, found, unit)
    counted_in_ones = not plan.is_rate and found.value >= 1 and found.value.is_integer()
    value = f"{found.value:,.0f}" if counted_in_ones else f"{significant(found.value)}{unit}"
    missed = dict(found.tried).get(found.value, math.nan)
    why = f", most of them by {limit_text(found.binds, slo)}" if found.binds else ""
    texts = {
        "never": f"no {key} keeps the SLO: at {value} {percent(missed)} still miss it{why}",
        "capacity": f"at least {value}, {100 * found.value / one.capacity:.0f}% of capacity: "
        "the SLO is kept up to there, where every queue begins to grow",
        "unbounded": f"at least {value}: the SLO is kept at all that was tried"
        f"{f', and no more is allowed: {found.refused}' if found.refused else ''}",
        "undecided": f"about {value}: the missed share does not grow with {key} there, so no "
        "highest value can be told",
        "not harder": _not_harder(key, found),
    }
    return f"{texts[found.outcome]}{_other_way(plan, found)}"


def _not_harder(key: str, found: Highest) -> str:
    """Say what was seen, and what to ask instead."""
    strains = dict(found.strains)
    seen = "; ".join(
        f"at {value:,.6g} {percent(missed)} miss, the mean request takes {strains[value]:.3g} of "
        "its limit"
        for value, missed in found.tried
    )
    why = "changes nothing there" if are_alike(strains) else "does not make it harder"
    return (
        f"more of {key} {why} ({seen}), so it has no highest value that keeps the SLO: expected a "
        f"key of which more is harder, such as rates, users or lengths; sweep: {{{key}: [...]}} of "
        "headroom run tells what this one does"
    )


def _other_way(plan: CapacityPlan, found: Highest) -> str:
    """Say what a search without an end takes for granted, of keys of which not everybody knows."""
    if found.outcome not in ("never", "unbounded") or plan.key.endswith((".users", "rate_scale")):
        return ""
    return "" if plan.is_rate else f"; it takes it that more of {plan.key} makes it harder"


def _found(plan: CapacityPlan, one: Answer, found: Highest, unit: str) -> str:
    value, low, high = (_value(plan, each) for each in (found.value, found.low, found.high))
    known = found.low < found.high  # with luck, and enough of it to tell
    ends = "" if not known else f"{low} to {high}, {100 * plan.study.confidence:g}%"
    whole = not plan.is_rate and all(float(at).is_integer() for at, _ in found.pair)
    if whole:
        text = f"highest {plan.key} {math.floor(found.value):,}: the limit is reached at {value}"
    else:
        text = f"highest {plan.key} {value}{unit}"
    text += f" ({ends})" if ends else ""
    if not math.isnan(one.capacity):
        text += f", {100 * found.value / one.capacity:.0f}% of capacity"
    if found.binds:
        text += f"; {limit_text(found.binds, plan.study.slo)} binds"
    misses = [
        f"{percent(miss)} miss at {f'{at:,.0f}' if whole else _value(plan, at)}{unit}"
        for at, miss in found.pair
    ]
    return f"{text}; {', '.join(misses)}"


def _value(plan: CapacityPlan, value: float) -> str:
    """Four digits, so that an interval of 2% does not look like a point."""
    return significant(value, 4 if value >= 1 else 3)


def _replicas(plan: CapacityPlan, found: Smallest) -> str:
    if found.replicas is None:
        return f"more than {count_of(plan.study.most, 'replica')} would be needed (most)"
    missed = found.probes[found.replicas].missed
    text = f"{counted(found.replicas)} the SLO: {percent(missed)} of the requests miss it"
    fewer = found.probes.get(found.replicas - 1)
    if fewer is None:
        least = "fewer cannot serve the traffic at all" if found.replicas > 1 else ""
        return f"{text}; {least}" if least else text
    if fewer.verdict is Verdict.UNDECIDED:
        word = "hardly kept" if fewer.gave_up else "undecided"
        return f"{text}; with {found.replicas - 1} {percent(fewer.missed)}, {word}"
    return f"{text}; with {found.replicas - 1} {percent(fewer.missed)}"
