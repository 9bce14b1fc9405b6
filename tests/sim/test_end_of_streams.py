"""A request is with a replica, for routers, until its API has sent the last token."""

import numpy as np
import pytest

from sim.recording.result import FINISHED, TIMED_OUT
from sim.settings.cluster_config import ClientConfig
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.role_clusters import with_roles
from tests.sim.test_data_parallel import of_ranks

COUNTING: dict[str, dict[str, object]] = {
    "least_requests": {},
    "least_tokens": {},
    "cache_aware": {"cache_threshold": 1.0},
    "llm_d": {"scorers": {"active_request": 1.0}},
    "dynamo": {"decode_active_request_weight": 1.0},
}
SEED = 2
"""With which those who draw take replica 0 of equal ones first."""
TOKEN_LOAD = {"scorers": {"token_load": 1.0}}
WAYS_OUT = {
    "all at once": {"api_output_s": 1.0},
    "one stream after the other": {"api_loop_output_s": 0.1},
    "in the loop that reads": {
        "api_loop_output_s": 0.1, "api_shared_loop": True,
        "api_request_s": 1e-6, "api_loop_request_s": 1e-6,
    },
    "both": {"api_loop_output_s": 0.1, "api_output_s": 0.5},
}  # fmt: skip


def two(router: str, way: str, settings: dict[str, object] | None = None) -> Scenario:
    return small.scenario(
        replicas=2, router=router, router_settings=settings or {}, seed=SEED, **WAYS_OUT[way]
    )


def homes(setup: Scenario, arrival_s: list[float], output: int = 8) -> list[int]:
    rows = len(arrival_s)
    result = simulate(setup, small.requests(arrival_s, [20] * rows, [output] * rows))
    return result.requests["replica"].tolist()


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize(("router", "settings"), [*COUNTING.items(), ("llm_d", TOKEN_LOAD)])
def test_a_replica_is_free_when_its_api_is(
    router: str, settings: dict[str, object], way: str
) -> None:
    """Its engine is through after some ms; whoever comes before the client has the last token
    goes elsewhere, and whoever comes with it does not."""
    setup = two(router, way, settings)
    alone = simulate(setup, small.requests([0.0], [20], [8]))
    assert alone.requests["replica"][0] == 0
    seen_s, ended_s = float(alone.requests["finish_s"][0]), float(alone.step_end_s[-1])
    assert ended_s < 0.05 < 0.7 < seen_s
    latest_s = float(np.nextafter(seen_s, 0.0)) - setup.api.request_s
    for early_s in (ended_s + 0.01, latest_s):
        assert homes(setup, [0.0, early_s]) == [0, 1]
    if router not in ("llm_d", "dynamo"):
        assert homes(setup, [0.0, seen_s]) == [0, 0]


@pytest.mark.parametrize("router", ["least_requests", "least_tokens", "llm_d"])
def test_who_gives_up_an_answer_on_its_way_is_gone_at_that_moment(router: str) -> None:
    setup = small.scenario(
        replicas=2, router=router, router_settings=COUNTING[router], api_output_s=1.0,
        client=ClientConfig(timeout_s=0.5),
    )  # fmt: skip
    requests = small.requests([0.0, 0.1, 0.55], [20, 20, 20], [8, 8, 400])
    columns = simulate(setup, requests).requests
    assert columns["status"].tolist() == [TIMED_OUT] * 3
    first = int(columns["replica"][0])
    assert columns["replica"].tolist() == [first, 1 - first, first]


def test_a_user_who_has_her_answer_finds_a_replica_that_is_free() -> None:
    """What ends and what it sets off happen at one moment, the end first."""
    setup = small.scenario(replicas=3, router="least_requests", api_output_s=1.0)
    requests = small.requests([], [5] * 6, [2] * 6, users=2, think_s=[0.0] * 6)
    assert simulate(setup, requests).requests["replica"].tolist() == [0, 1] * 3


def test_many_at_once_leave_at_once() -> None:
    """Ends of one step are one event: nobody is sent between two of them."""
    setup = small.scenario(
        replicas=2, router="least_requests", api_output_s=1.0,
        client=ClientConfig(max_concurrency=4),
    )  # fmt: skip
    columns = simulate(setup, small.requests([0.0] * 8, [5] * 8, [2] * 8)).requests
    assert columns["replica"].tolist() == [0, 1] * 2 + [0, 0] + [1, 1]
    assert (columns["status"] == FINISHED).all()


@pytest.mark.parametrize("router", ["least_requests", "least_tokens"])
def test_engines_of_ranks_are_free_when_their_api_is(router: str) -> None:
    setup = of_ranks(dp=2, replicas=2, router=router, api_output_s=1.0)
    requests = small.requests([0.0, 0.5, 1.5], [8] * 3, [4, 200, 4])
    assert (simulate(setup, requests).requests["replica"] // 2).tolist() == [0, 1, 0]


def test_vllm_s_balancer_of_ranks_counts_what_engines_have() -> None:
    """It lives in the API server, and is told by the engines: nothing there waits for the API."""
    setup = of_ranks(dp=2, version="0.27", api_output_s=1.0)
    requests = small.requests([0.0, 0.5], [8, 8], [4, 4])
    assert simulate(setup, requests).requests["replica"].tolist() == [0, 0]


@pytest.mark.parametrize("router", ["least_requests", "least_tokens"])
def test_a_prompt_s_answer_passes_the_api_as_well(router: str) -> None:
    """The router of those that prefill sees a prompt end when its answer is back."""
    pools = [
        (role, small.scenario(replicas=2, router="round_robin", api_output_s=1.0))
        for role in ("prefill", "decode")
    ]
    setup = with_roles(*pools, prefill_router=router)
    requests = small.requests([0.0, 0.5, 1.2], [20] * 3, [2, 2, 2])
    assert simulate(setup, requests).requests["prefill_replica"].tolist() == [0, 1, 0]
