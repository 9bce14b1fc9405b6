"""The first step of a server that nobody has warmed up."""

import pytest

from sim.simulation import simulate
from tests.sim import small


def test_the_first_step_alone_takes_longer() -> None:
    requests = small.requests([0.0, 0.0, 9.0], [8, 300, 8], [4, 4, 4])
    warm, cold = (
        simulate(small.scenario(first_request_s=first_s), requests) for first_s in (0.0, 1.5)
    )
    later = cold.requests["finish_s"] - warm.requests["finish_s"]
    assert later == pytest.approx([1.5, 1.5, 0.0])
    assert cold.step_end_s[0] - warm.step_end_s[0] == pytest.approx(1.5)


def test_each_replica_is_cold_and_arrivals_meanwhile_wait() -> None:
    requests = small.requests([0.0, 0.1, 0.2, 0.3], [8] * 4, [4] * 4)
    warm, cold = (
        simulate(small.scenario(replicas=2, first_request_s=first_s), requests).requests
        for first_s in (0.0, 1.0)
    )
    assert cold["first_token_s"][:2] - warm["first_token_s"][:2] == pytest.approx([1.0, 1.0])
    assert (cold["first_scheduled_s"][2:] >= cold["first_token_s"][:2]).all()
