"""Who computes batches may be somebody else than prices; the loop is the same."""

from array import array
from math import inf

import numpy as np
import pytest

from sim.engine.machine import Machine, Priced
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small


class OneByOne(Machine):
    """Steps as they cost, but only one at a time."""

    def __init__(self, scenario: Scenario) -> None:
        self.priced, self.calls = Priced(scenario.pool.price.prices), 0

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        self.calls += 1
        many: array[float] = array("d")
        self.priced.compute(batch, start_s, inf, many)
        ends_s.append(many[0])
        return many[0]


@pytest.mark.parametrize("users", [None, 3])
def test_a_machine_that_takes_single_steps_gives_the_same_run(users: int | None) -> None:
    rows = 12
    scenario = small.scenario(max_num_seqs=4, num_gpu_blocks=24, block_size=4, max_model_len=90)
    requests = small.requests(
        [] if users else [0.01 * row for row in range(rows)],
        [5 + 3 * row for row in range(rows)], [20] * rows,
        users=users, think_s=[0.01] * rows if users else None,
    )  # fmt: skip
    made: list[OneByOne] = []

    def machine(_: Scheduler) -> OneByOne:
        made.append(OneByOne(scenario))
        return made[-1]

    expected, found = simulate(scenario, requests), simulate(scenario, requests, machine=machine)
    for name, column in expected.requests.items():
        assert np.array_equal(column, found.requests[name], equal_nan=column.dtype.kind == "f")
    assert np.array_equal(np.asarray(expected.step_end_s), np.asarray(found.step_end_s))
    assert made[0].calls == len(found.step_end_s)
