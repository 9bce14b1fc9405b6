"""Remarks on the points of a study: each once, and of what differs the worst."""

from pathlib import Path
from typing import Any

import pytest
from study_files import SMALL, write_study

from experiments.reporting.notes import SATURATED_NOTE, point_notes
from experiments.reporting.support import RESTS_ON, TOO_SHORT
from experiments.reporting.words import calibration_notes
from experiments.study.document import read_raw
from experiments.study.points import Plan, prepare
from sim.measuring.caveats import EXTRAPOLATED


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return prepare(read_raw(write_study(tmp_path)))


def notes(plan: Plan, *rows: dict[str, Any], marked: bool = False) -> list[str]:
    """What is told beyond what any points of this plan would be told of."""
    before = len(point_notes(plan, [], False))
    return point_notes(plan, rows, marked)[before:]


def test_what_all_points_have_in_common_names_none(plan: Plan) -> None:
    assert notes(plan, {"notes": "a; b"}, {"notes": "a"}) == ["a", "point 1: b"]
    saturated = {"notes": "saturated: the queue grows"}
    assert notes(plan, saturated, saturated, marked=True) == [SATURATED_NOTE]


SHORT, THIN = f"{TOO_SHORT}: of {{}}", f"TTFT p99 rests on {{}}{RESTS_ON}"
FAR = f"{EXTRAPOLATED} of {{}}"
WORST = {
    "too short": (
        SHORT,
        [{"measured_requests": n, "relaxation_requests": 100} for n in (900, 200)],
    ),
    "thin tails": (THIN, [{"measured_requests": 500, "design_effect": n} for n in (3.0, 9.0)]),
    "few requests": (THIN, [{"measured_requests": n, "design_effect": 3.0} for n in (500, 100)]),
    "beyond the calibration": (
        FAR,
        [
            {"share_steps_outside_calibration": n, "requests_outside_calibration": 0.0}
            for n in (0.1, 0.4)
        ],
    ),
}
"""A caveat, and what makes the second of two points the worse one."""


@pytest.mark.parametrize(("caveat", "rows"), WORST.values(), ids=WORST)
def test_the_worst_point_speaks_for_all(
    plan: Plan, caveat: str, rows: list[dict[str, float]]
) -> None:
    others = {
        "share_steps_outside_calibration": 0.0, "requests_outside_calibration": 0.0,
        "measured_requests": 500, "relaxation_requests": 100, "design_effect": 3.0,
    }  # fmt: skip
    first, second = (
        others | row | {"notes": caveat.format(place)} for place, row in enumerate(rows, start=1)
    )
    worst = caveat.format(2)
    assert notes(plan, first, second) == [f"point 2: {worst} (points 1, 2, this one most)"]
    assert notes(plan, second) == [worst]


@pytest.mark.parametrize(
    ("output", "told"), [("{distribution: uniform, min: 2040, max: 2045}", True), ("1900", False)]
)
def test_requests_that_are_all_too_long_are_told_before_anything_runs(
    tmp_path: Path, output: str, told: bool
) -> None:
    text = SMALL.replace("output: {distribution: uniform, min: 2, max: 30}", f"output: {output}")
    assert text != SMALL
    plan = prepare(read_raw(write_study(tmp_path, text)))
    found = [note for note in calibration_notes(plan) if "every request is rejected" in note]
    assert [note.partition(": ")[2] for note in found] == [
        "it has at least 2,050 tokens, prompt and answer together, expected at most "
        "max_model_len = 2,048"
    ] * told
