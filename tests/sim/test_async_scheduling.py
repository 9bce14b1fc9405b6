"""Planning a step ahead: who arrives during a step is in the next but one."""

import numpy as np
import pytest

from sim.simulation import simulate
from tests.sim import small


def test_an_arrival_waits_for_the_step_that_is_already_planned() -> None:
    plain = simulate(small.scenario(), small.requests([0.0], [4], [20]))
    ends = plain.step_end_s
    middle = float(ends[4] + ends[5]) / 2  # during the step that ends at ends[5]
    both = small.requests([0.0, middle], [4, 4], [20, 2])
    for ahead, joins in ((False, ends[5]), (True, ends[6])):
        result = simulate(small.scenario(async_scheduling=ahead), both)
        assert result.requests["first_scheduled_s"].tolist() == [0.0, float(joins)]
        np.testing.assert_array_equal(result.step_end_s[:6], ends[:6])


def test_an_engine_without_a_plan_looks_at_once() -> None:
    alone = simulate(small.scenario(), small.requests([0.0], [4], [3])).step_end_s
    late = float(alone[1] + alone[2]) / 2  # while the last step runs
    result = simulate(
        small.scenario(async_scheduling=True), small.requests([0.0, late], [4, 4], [3, 1])
    )
    assert result.requests["first_scheduled_s"].tolist() == [0.0, float(alone[2])]


@pytest.mark.parametrize("ahead", [False, True])
def test_the_first_step_after_idling_starts_late(ahead: bool) -> None:
    requests = small.requests([0.0, 1.0], [4, 4], [3, 3])
    prompt = simulate(small.scenario(async_scheduling=ahead), requests)
    late = simulate(small.scenario(async_scheduling=ahead, idle_start_s=0.25), requests)
    np.testing.assert_allclose(late.step_end_s, prompt.step_end_s + 0.25, rtol=1e-12)
    assert late.requests["first_scheduled_s"].tolist() == [0.0, 1.0]
