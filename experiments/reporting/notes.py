"""What a reader must know of the points of a study: each remark once, with its points."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.support import RESTS_ON, TOO_SHORT, relaxations
from experiments.reporting.words import calibration_notes, points_text
from experiments.study.points import Plan
from sim.measuring.caveats import EXTRAPOLATED

SATURATED_NOTE = (
    "saturated: the queue grows for as long as requests come, so TTFT and E2E only tell how long "
    "the run was; they are not shown here, summary.csv has them"
)


def point_notes(plan: Plan, rows: Sequence[Mapping[str, Any]], marked: bool) -> list[str]:
    """The plan's notes, then each caveat once with the points that it is about.

    Of what no two points say alike (how far outside their calibration they are, what their
    percentiles rest on) the worst speaks for all.
    """
    caveats: dict[str, list[int]] = {}
    worst: dict[str, dict[int, str]] = {}
    for number, row in enumerate(rows, start=1):
        for caveat in filter(None, str(row["notes"]).split("; ")):
            if caveat.startswith(EXTRAPOLATED):
                worst.setdefault(EXTRAPOLATED, {})[number] = caveat
            elif caveat.startswith(TOO_SHORT):
                worst.setdefault(TOO_SHORT, {})[number] = caveat
            elif RESTS_ON in caveat:
                worst.setdefault(caveat.split()[0], {})[number] = caveat
            elif not caveat.startswith("saturated"):
                caveats.setdefault(caveat, []).append(number)
    notes = [SATURATED_NOTE] if marked else []
    for caveat, points in caveats.items():
        everywhere = len(points) == len(rows)
        notes.append(caveat if everywhere else f"{points_text(points)}: {caveat}")
    for kind, found in worst.items():
        badness = {EXTRAPOLATED: _extrapolated, TOO_SHORT: _shortness}.get(kind, _thinness)
        number = max(found, key=lambda number: badness(rows[number - 1]))
        which = f"{points_text([number])}: " if len(rows) > 1 else ""
        more = f" ({points_text(list(found))}, this one most)" if len(found) > 1 else ""
        notes.append(f"{which}{found[number]}{more}")
    return [*plan.notes, *calibration_notes(plan), *notes]


def _extrapolated(row: Mapping[str, Any]) -> tuple[float, float]:
    """How much of a point lies outside its calibration."""
    return row["share_steps_outside_calibration"], row["requests_outside_calibration"]


def _shortness(row: Mapping[str, Any]) -> tuple[float, float]:
    """How few relaxation times a run lasts."""
    return -relaxations(row), 0.0


def _thinness(row: Mapping[str, Any]) -> tuple[float, float]:
    """How little of a tail is independent."""
    return row["design_effect"] / row["measured_requests"], 0.0
