"""What routers that look at caches make of conversations."""

from typing import Any

import numpy as np
import pytest

from sim.recording.result import FINISHED
from sim.simulation import simulate
from tests.sim import small
from workloads.generate import generate
from workloads.prefixes import prompt_prefixes
from workloads.requests import Prefixes
from workloads.workload import Workload


def conversations(**changes: object) -> Any:
    config: dict[str, Any] = {
        "arrivals": {"process": "poisson", "rate_per_s": 40.0},
        "sessions": {
            "turns": {"distribution": "constant", "value": 4},
            "added": {"distribution": "constant", "value": 9},
            "think_s": 0.2,
        },
        "lengths": {
            "prompt": {"distribution": "uniform", "min": 20, "max": 60},
            "output": {"distribution": "uniform", "min": 5, "max": 30},
        },
        "num_requests": 1600,
    }
    return generate(Workload.model_validate(config | changes), seed=3)


CACHED = {"enable_prefix_caching": True, "block_size": 4, "num_gpu_blocks": 60_000}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("session_affinity", {}),
        ("consistent_hashing", {}),
        ("llm_d", {"scorers": {"session_affinity": 3, "active_request": 1}}),
        ("llm_d", {"scorers": {"precise_prefix_cache": 3, "active_request": 1}}),
        ("llm_d", {"scorers": {"prefix_cache": 9, "active_request": 1}}),
    ],
)
def test_who_keeps_sessions_together_finds_what_one_replica_would_find(
    name: str, settings: dict[str, object]
) -> None:
    """With endless caches, and sessions that have nothing in common."""
    requests = conversations()
    alone = simulate(small.scenario(**CACHED), requests)
    spread = simulate(
        small.scenario(replicas=4, router=name, router_settings=settings, **CACHED), requests
    )
    np.testing.assert_array_equal(spread.requests["cached_tokens"], alone.requests["cached_tokens"])
    assert len(set(spread.requests["replica"].tolist())) == 4
    if name == "llm_d" and "precise_prefix_cache" in settings["scorers"]:
        found, asked = spread.requests["cached_tokens"], spread.requests["prompt_tokens"]
        claimed = spread.requests["claimed_tokens"]
        # The engine computes the last token of a prompt, and with it its block, in any case.
        assert np.all((claimed == found) | ((claimed == asked) & (found == asked - 4)))


def test_routed_blindly_a_turn_finds_the_one_before_it_once_in_as_many_replicas() -> None:
    """Sessions of two turns: the second finds the first with a probability of 1 / replicas."""
    two = {"turns": {"distribution": "constant", "value": 2}, "think_s": 0.2}
    requests = conversations(sessions=two)
    result = simulate(small.scenario(replicas=4, router="random", **CACHED), requests)
    second = requests.turn == 1
    found = result.requests["cached_tokens"][second] > 0
    assert np.all(result.requests["status"] == FINISHED)
    assert abs(found.mean() - 0.25) < 4 * (0.25 * 0.75 / second.sum()) ** 0.5


def test_the_older_the_metrics_the_more_follow_each_other() -> None:
    """Whoever looks at queues as they were sends everybody to the one that was shortest then."""
    arrivals = np.arange(240) * 2e-3
    requests = small.requests(arrivals.tolist(), [300] * 240, [8] * 240)

    def longest_row(interval_s: float) -> int:
        scenario = small.scenario(
            replicas=3, router="llm_d", step_overhead_s=0.02, max_num_seqs=2,
            router_settings={
                "scorers": {"queue": 1, "kv_cache_utilization": 1},
                "refresh_metrics_interval_s": interval_s,
            },
        )  # fmt: skip
        result = simulate(scenario, requests)
        assert np.nanmax(result.requests["metrics_age_s"]) <= interval_s
        sent = result.requests["replica"]
        changes = np.flatnonzero(np.diff(sent)) + 1
        return int(np.diff(np.concatenate(([0], changes, [len(sent)]))).max())

    assert longest_row(0.2) >= 60
    assert longest_row(0.0) < longest_row(0.2) / 2


def test_an_approximate_index_believes_what_a_precise_one_sees_gone() -> None:
    """Ten prompts in turn on caches that hold three of them: all are evicted before they return."""
    prompts = np.full(60, 64)
    prefixes = prompt_prefixes(prompts, prompt_id=np.arange(60) % 10)
    requests = small.requests(
        (np.arange(60) * 0.2).tolist(), prompts.tolist(), [1] * 60, prefixes=prefixes
    )
    engine = {"enable_prefix_caching": True, "block_size": 16, "num_gpu_blocks": 12}

    def claimed(**scorers: object) -> tuple[int, int]:
        believes = {"auto_tune": False, "lru_capacity_per_server": 1000}
        scenario = small.scenario(
            replicas=2, router="llm_d", max_model_len=128,
            router_settings={"scorers": scorers, "prefix_cache": believes}, **engine,
        )  # fmt: skip
        columns = simulate(scenario, requests).requests
        return int(columns["claimed_tokens"].sum()), int(columns["cached_tokens"].sum())

    believed, found = claimed(prefix_cache=1)
    assert believed == 50 * 64
    assert found == 0
    seen, found = claimed(precise_prefix_cache=1)
    assert seen // 64 * 48 == found  # the block of a prompt's last token is computed anew
    assert seen < believed / 10


@pytest.mark.parametrize("ahead", [False, True])
def test_blocks_that_an_answer_fills_are_seen_while_it_is_generated(ahead: bool) -> None:
    """One token of prompt, and an answer of 60 that a prompt says again before it is complete."""
    prefixes = Prefixes(np.array([0, 1, 2]), np.array([0, 0]), np.array([61, 40]))
    scenario = small.scenario(
        replicas=2, router="llm_d", enable_prefix_caching=True, block_size=4,
        router_settings={"scorers": {"precise_prefix_cache": 1}}, async_scheduling=ahead,
    )  # fmt: skip
    alone = simulate(scenario, small.requests([0.0], [1], [60], prefixes=None))
    steps_s = float(alone.requests["finish_s"][0]) / 60
    requests = small.requests([0.0, 25.5 * steps_s], [1, 40], [60, 4], prefixes=prefixes)
    columns = simulate(scenario, requests).requests
    assert columns["replica"][0] == columns["replica"][1]
    assert columns["claimed_tokens"][1] in (20, 24, 28)
    assert columns["cached_tokens"][1] >= columns["claimed_tokens"][1]
