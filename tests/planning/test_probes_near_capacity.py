"""Tests of deployments near their capacity: what short runs keep has to be kept by long ones."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.planning import probes
from experiments.planning.lengths import LONGEST, WARMUP, load_that_waits, long_for_its_load
from experiments.planning.probes import SteadyProbe, settle
from experiments.planning.promises import promises_of
from experiments.planning.samples import Sample
from experiments.planning.sequential import Verdict
from experiments.planning.trials import Trial
from experiments.running.capacity import capacity_per_s
from experiments.study.build import settled
from experiments.study.document import Study

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "opt-125m",
    "cluster": {"gpu": "t4"},
    "engine": {"dtype": "float16", "max_num_seqs": 4},
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 1.0},
        "lengths": {
            "prompt": {"distribution": "constant", "value": 30},
            "output": {"distribution": "constant", "value": 10},
        },
        "num_requests": 2000,
    },
    "slo": {"ttft_s": 0.1, "attainment": 0.99},
}


def study(share: float, **changes: Any) -> Study:
    """Return it at a share of its capacity."""
    capacity = capacity_per_s(settled(Study.model_validate(SMALL)))
    arrivals = {"process": "poisson", "rate_per_s": share * capacity}
    workload = SMALL["workload"] | {"arrivals": arrivals}
    return settled(Study.model_validate(SMALL | {"workload": workload} | changes))


@pytest.mark.parametrize(
    ("share", "requests"),
    [
        (0.5, None),  # 88 would do
        (0.94, math.ceil(10 * 2.2 / 0.06**2 / (1 - WARMUP))),
        (1.01, LONGEST),
    ],
)
def test_runs_are_as_long_as_their_load_asks_for(share: float, requests: int | None) -> None:
    point = study(share)
    load = load_that_waits(point)
    assert load is not None
    longer = long_for_its_load(point, load)
    found = None if longer is None else longer.workload.num_requests
    assert found == (None if requests is None else pytest.approx(requests, abs=1))


def test_without_a_queue_or_a_rate_runs_stay_as_they_are() -> None:
    assert load_that_waits(study(0.94, slo={"tpot_s": 0.1, "attainment": 0.99})) is None
    users = {"process": "closed_loop", "users": 50}
    workload = SMALL["workload"] | {"arrivals": users}
    assert load_that_waits(study(0.94, workload=workload)) is None


@pytest.mark.parametrize(("late", "verdict"), [(0, Verdict.KEPT), (0.05, Verdict.MISSED)])
def test_what_short_runs_keep_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, late: float, verdict: Verdict
) -> None:
    """No request of short runs is late, and a share of those of long ones."""
    point = study(0.5)
    workload = point.workload.model_copy(update={"num_requests": 9000})
    longer = point.model_copy(update={"workload": workload})
    monkeypatch.setattr(probes, "long_for_its_load", lambda *_: longer)
    lengths: list[int | None] = []

    def ask(trials: Any) -> list[Sample]:
        def one(trial: Trial) -> Sample:
            count = trial.study.workload.num_requests
            lengths.append(count)
            share = late if count == 9000 else 0
            mask = np.random.default_rng(trial.seed).random(6000) < share
            return Sample(np.arange(6000.0), {"": mask}, {"ttft_s": mask})

        return [one(trial) for trial in trials]

    assert point.slo is not None
    probe = SteadyProbe(point, "", promises_of(point.slo), 0.95)
    settle([probe], ask)
    assert lengths[:4] == [500, 2000, 2000, 9000]
    assert probe.verdict is verdict
    assert probe.study == longer
    assert probe.asked == len(lengths) == 3 + probe.runs
    assert replace(probe.counts).measured == 6000 * probe.runs
