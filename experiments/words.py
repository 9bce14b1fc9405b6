"""A plan in words: its ceilings, its memory, and what its prices rest on."""

from collections.abc import Mapping, Sequence

from experiments.build import calibration_of
from experiments.plan import Plan
from hardware.calibration import DATASHEET


def ceiling_lines(plan: Plan) -> list[str]:
    """Say what the hardware allows at best: a line per model and GPU, ranges over the points."""
    setups: dict[str, list[Mapping[str, float]]] = {}
    for setup in plan.setups:
        setups.setdefault(setup.title, []).append(setup.ceilings)
    lines = [f"  {title}: {ceilings_text(ceilings)}" for title, ceilings in setups.items()]
    return ["Ceilings of one replica, each alone and without queueing:", *lines]


def ceilings_text(ceilings: Sequence[Mapping[str, float]]) -> str:
    """Write one or several ``StepCost.ceilings()`` in ms and tokens/s, as ranges."""
    words = []
    for name in ceilings[0]:
        values = [one[name] for one in ceilings]
        if name.endswith("_per_s"):
            what, _, noun = name.removesuffix("_per_s").rpartition("_")
            unit, factor, digits = f"{noun}/s", 1.0, 0
        else:
            what, unit, factor, digits = name.removesuffix("_s"), "ms", 1e3, 2
        low, high = (f"{end * factor:,.{digits}f}" for end in (min(values), max(values)))
        span = low if low == high else f"{low} to {high}"
        words.append(f"{what.replace('_', ' ')} {span} {unit}")
    return "; ".join(words)


def ledger_lines(plan: Plan) -> list[str]:
    """Write the memory ledger of every distinct setup, with the points that it is about."""
    ledgers: dict[tuple[str, str], list[int]] = {}
    for setup in plan.setups:
        ledgers.setdefault((setup.title, setup.ledger), []).extend(setup.points)
    lines = []
    for (title, ledger), points in ledgers.items():
        which = f" ({points_text(points)})" if len(ledgers) > 1 else ""
        lines.append(f"Memory of one GPU, {title}{which}:")
        lines += [f"  {line}" for line in ledger.splitlines()]
    return lines


def calibration_notes(plan: Plan) -> list[str]:
    """Say so when prices are the datasheet's: no real kernel is that fast."""
    bare = [
        point.number
        for point in plan.points
        if calibration_of(point.study.calibration).name == DATASHEET.name
    ]
    if not bare:
        return []
    which = "" if len(bare) == len(plan.points) else f" at {points_text(bare)}"
    return [
        f"calibration none{which}: kernels run at the datasheet's peaks, which real ones stay "
        "below, and host time is assumed (engine.step_overhead_s), so results are optimistic"
    ]


def points_text(points: Sequence[int]) -> str:
    """Write ``points 1 to 3, 5``."""
    spans: list[list[int]] = []
    for point in sorted(points):
        if spans and point == spans[-1][-1] + 1:
            spans[-1].append(point)
        else:
            spans.append([point])
    words = [
        f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans
    ]
    return f"point{'s' if len(points) > 1 else ''} {', '.join(words)}"
