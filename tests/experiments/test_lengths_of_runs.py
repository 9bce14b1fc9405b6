"""The floor of a point's length and its pilot, from its load, by hand."""

from typing import Any

import pytest

from experiments.reporting.support import Load
from experiments.running.lengths import _Aim
from experiments.study.document import Study
from experiments.study.precision import PILOT, Precision

STUDY: dict[str, Any] = {
    "name": "near",
    "model": "opt-125m",
    "cluster": {"gpu": "t4"},
    "engine": {"dtype": "float16"},
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 95},
        "lengths": {"prompt": 20, "output": 5},
    },
    "seeds": 10,
}
NEAR = Load(rate_per_s=95, capacity_per_s=100, dispersion=1.0, replicas=1)
"""At 95% a queue forgets its start after 2.2 / 0.05^2 = 880 requests."""


def aim(metric: str, load: Load | None = NEAR, **more: object) -> _Aim:
    precision = Precision.model_validate({"target": 0.1, "metrics": [metric], **more})
    study = Study.model_validate(STUDY | {"precision": precision.model_dump()})
    return _Aim.of(study, precision, load)


@pytest.mark.parametrize(
    ("metric", "floor"),
    [
        ("ttft_p99_s", 30 * 880 * 100),  # 30 of a hundredth, each worth 880 requests
        ("ttft_p50_s", 10 * 10 * 880),  # ten seeds of ten times what a queue forgets
        ("tpot_p99_s", 30 * 4 * 100),
        ("request_throughput_per_s", 0),
    ],
)
def test_the_floor_is_what_percentiles_and_queues_ask_for(metric: str, floor: int) -> None:
    assert aim(metric).floor == pytest.approx(floor / 0.9, abs=1)  # a tenth warms up


def test_a_pilot_is_a_twentieth_of_a_long_floor() -> None:
    long = aim("ttft_p99_s", max_requests=10**7)
    assert long.pilot_each == pytest.approx(long.floor / 20 / 10, abs=1)
    assert aim("ttft_p99_s", max_requests=10_000).pilot_each == 1000
    assert aim("tpot_p99_s").pilot_each == PILOT


def test_too_near_to_capacity_nothing_that_waits_is_aimed_at() -> None:
    full = Load(rate_per_s=98, capacity_per_s=100, dispersion=1.0, replicas=1)
    assert (aim("ttft_p99_s", full).metrics, aim("ttft_p99_s", full).floor) == ((), 0)
    assert aim("tpot_p99_s", full).metrics == ("tpot_p99_s",)
