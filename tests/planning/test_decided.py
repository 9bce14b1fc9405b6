"""What a search decides itself is refused where it was meant, and told where it was not."""

from pathlib import Path

import pytest
from test_capacity import SMALL, study

from experiments.planning.capacity.study import prepare_capacity
from experiments.study.document import read_raw
from experiments.study.errors import StudyError
from experiments.study.keys import key_path
from experiments.study.overrides import parse_overrides
from experiments.study.schema import value_at


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("seeds", "5", "half_width"),
        ("precision", "10%", "half_width"),
        ("workload.num_requests", "3000", "run_requests"),
        ("workload.duration_s", "60", "run_requests"),
        ("warmup_s", "10", "run_requests"),
        ("warmup_fraction", "0.3", "run_requests"),
        ("calibration_draws", "8", "0; kind: plan"),
        ("baseline", "1", "none"),
    ],
)
def test_what_a_search_decides_itself_is_refused_or_told(
    tmp_path: Path, key: str, value: str, nearest: str
) -> None:
    """In the file of a search, or as an option, it is a mistake; in that of a serving study not."""
    text = f"{key}: {value}\n"
    at = "half_width"
    if key.startswith("workload."):
        text, at = f"  {key.removeprefix('workload.')}: {value}\n", "slo"
    own_file = SMALL.replace(f"{at}: ", f"{text}{at}: ", 1)
    with pytest.raises(StudyError, match=rf"small.yaml:\d+: {key} = .*, expected {nearest}"):
        prepare_capacity(read_raw(study(tmp_path, own_file)))
    with pytest.raises(StudyError, match=rf"--set: {key} = .*, expected {nearest}"):
        prepare_capacity(read_raw(study(tmp_path), parse_overrides([f"{key}={value}"])))
    serving = own_file
    for own in ("kind: capacity", "half_width: 0.1", "run_requests: 2000"):
        serving = serving.replace(f"{own}\n", "")
    plan = prepare_capacity(read_raw(study(tmp_path, serving)))
    assert any(note.startswith(f"{key} does not matter: a search ") for note in plan.plan.notes)
    assert str(value_at(plan.study.resolved(), key_path(key))) != value
    again = plan.study.resolved()  # as the results folder has it
    assert prepare_capacity(read_raw(again)).study == plan.study


def test_a_clock_says_itself_how_long_a_run_is(tmp_path: Path) -> None:
    text = SMALL.replace(
        "{process: poisson, rate_per_s: 1}",
        "{process: diurnal, mean_rate_per_s: 1, peak_to_trough: 2}",
    ).replace("slo:", "  duration_s: 600\nwarmup_s: 10\nslo:")
    plan = prepare_capacity(read_raw(study(tmp_path, text)))
    assert plan.points[0].study.workload.duration_s == 600
    assert plan.points[0].study.warmup_s == 10
