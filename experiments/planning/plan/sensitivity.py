"""The tornado: how the highest traffic of a small deployment changes with each assumption.

Four replicas at most: what an assumption changes is nearly the same for any number, and the same
seeds on both sides leave hardly any noise.
"""

import math
from collections.abc import Sequence
from typing import Any

from experiments.planning.capacity.found import Highest
from experiments.planning.lengths import with_values
from experiments.planning.plan.holding import Change, held_by, ratio
from experiments.planning.promises import Promise
from experiments.planning.trials import Ask
from experiments.running.capacity import capacity_per_s
from experiments.study.document import Study
from experiments.study.errors import StudyError, show
from experiments.study.keys import key_path
from experiments.study.schema import value_at
from model.dataclass import dataclass

MOST_REPLICAS = 4
STEP = 0.10
"""Lengths that are this much longer or shorter."""
SEEDS = 6
RUNS_OF_AN_ENTRY = 16
"""About: a pair of values with each seed, and now and then another pair."""
LOOSE = 0.5
"""Half-width that no interval is made narrower for: the ratio is paired, its noise is small."""


LAWS = {
    "prompts": ("lengths.prompt", "sessions.added", "sessions.tools.result"),
    "outputs": ("lengths.output", "sessions.tools.output"),
    "turns": ("sessions.turns", "sessions.tools.calls"),
}
"""What is made longer and shorter, each by all of its laws that the workload has: what users and
tools say, what the model answers, how often they go on."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """Another value of one or several keys."""

    name: str
    values: dict[str, Any]


def assumptions(study: Study, given: dict[str, list[int | float]]) -> list[Assumption]:
    """Return the changes to look at: longer and shorter prompts, answers and sessions, then the
    study's.

    Lengths that come from a file have no key that stretches them.
    """
    found = []
    for name, laws in LAWS.items():
        for step in (STEP, -STEP):
            values: dict[str, Any] = {}
            for law in laws:
                values |= _longer(study, law, 1 + step)
            if values:
                found.append(Assumption(f"{name} {100 * step:+.0f}%", values))
    for key, others in given.items():
        now = value_at(study.resolved(), key_path(key))
        found += [
            Assumption(f"{key} {show(now)} -> {show(other)}", {key: other}) for other in others
        ]
    return found


def _longer(study: Study, law: str, factor: float) -> dict[str, Any]:
    base = f"workload.{law}"
    given = value_at(study.resolved(), key_path(base))
    if not isinstance(given, dict):
        return {}
    values: dict[str, Any] = {}
    for key, whole in (("mean", False), ("value", True), ("min", True), ("max", True)):
        value = given.get(key)
        if value is None or (key in ("min", "max") and given["distribution"] != "uniform"):
            continue
        other = max(1, round(value * factor)) if whole else value * factor
        if other != value:  # a tenth of three turns is none
            values[f"{base}.{key}"] = other
    return values


def tornado(
    study: Study, ask: Ask, *, promises: Sequence[Promise], fewest: int, capacity: float,
    given: dict[str, list[int | float]], draws: int,
) -> "tuple[Highest, list[Change], list[Change]]":  # fmt: skip
    """Return what the deployment holds, and what it holds with each change, and with each draw.

    Args:
        study: a small deployment, settled, under steady traffic.
        ask: gives what runs say.
        promises: of the SLO.
        fewest: requests of one run, at least.
        capacity: the multiple of the traffic beyond which every queue grows; NaN if not known.
        given: keys of the study to change as well.
        draws: how many drawn calibrations.
    """
    common: dict[str, Any] = {"promises": promises, "fewest": fewest, "target": LOOSE}
    common["seeds"] = SEEDS
    base = held_by(study, ask, capacity=capacity, label="base", **common)
    if base.root is None:
        sessions = study.workload.has_sessions  # of which no capacity is known
        return base, [] if sessions else _by_capacity(study, given), []

    whole = math.nan if math.isnan(capacity) else capacity_per_s(study)

    def again(name: str, other: Study, draw: int | None = None) -> Change:
        part = math.nan if math.isnan(whole) else capacity_per_s(other) / whole
        about = base.value if math.isnan(part) else base.value * part
        found = held_by(
            other, ask, capacity=capacity * part, label=name, around=about, draw=draw, **common
        )
        assert base.root is not None
        return ratio(name, base.root, found)

    changes = []
    for one in assumptions(study, given):
        try:
            changes.append(again(one.name, with_values(study, one.values)))
        except StudyError as error:
            said = error.problems[0].text
            changes.append(Change(one.name, math.nan, math.nan, math.nan, said))
    drawn = [again(f"calibration draw {draw}", study, draw) for draw in range(draws)]
    return base, changes, drawn


def _by_capacity(study: Study, given: dict[str, list[int | float]]) -> list[Change]:
    """Where no limit ends what is held, the capacity does: its ratio, without an interval."""
    whole = capacity_per_s(study)
    changes = []
    for one in assumptions(study, given):
        try:
            part = capacity_per_s(with_values(study, one.values)) / whole
            changes.append(Change(one.name, part, math.nan, math.nan, "of the capacity"))
        except StudyError as error:
            said = error.problems[0].text
            changes.append(Change(one.name, math.nan, math.nan, math.nan, said))
    return changes


def spread_of(drawn: list[Change]) -> float:
    """Return the standard deviation of the logarithm of what draws hold; 0 without any.

    It is about what the calibration itself holds, the middle of its draws: where they all hold
    less, that counts as well.
    """
    logs = [math.log(each.ratio) for each in drawn if not math.isnan(each.ratio)]
    return math.sqrt(math.fsum(each**2 for each in logs) / len(logs)) if logs else 0.0
