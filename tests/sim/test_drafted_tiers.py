"""Drafts with KV in the host's memory: the fast path equals the reference, to the bit, where steps
are not planned ahead; that those are vLLM's as well is in ``test_against_vllm``."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.recording.result import FINISHED
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import sessions, workloads
from tests.sim.test_drafts_against_reference import speculative
from tests.sim.test_tiers_against_reference import behind, caching_engines, checked
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

SURE = {
    "method": "eagle", "num_speculative_tokens": 3, "synthetic_acceptance_rates": [1.0, 1.0, 1.0],
}  # fmt: skip


@st.composite
def drafting(draw: st.DrawFn, ahead: bool) -> Scenario:
    engine, drafts = draw(caching_engines()), draw(speculative())
    ahead = ahead and drafts["method"] != "ngram"
    budget = engine["max_num_batched_tokens"] + 7
    threshold = draw(st.sampled_from([0, 0, 7]))
    scenario = small.scenario(
        replicas=draw(st.sampled_from([1, 1, 2])), version="0.33", windows=(None,),
        **(engine | {"async_scheduling": ahead, "max_num_batched_tokens": budget}
           | {"long_prefill_token_threshold": threshold}),
        speculative=drafts, kv_offloading_size=1.0,
        kv_connector_extra_config={
            "blocks_per_chunk": draw(st.sampled_from([1, 1, 2, 3])),
            "eviction_policy": draw(st.sampled_from(["lru", "arc"])),
            "store_threshold": draw(st.sampled_from([0, 0, 2])),
            "offload_prompt_only": draw(st.booleans()),
        },
    )  # fmt: skip
    block_s = draw(st.sampled_from([1e-6, 1e-4, 1e-3]))
    return behind(scenario, draw(st.integers(1, 120)), block_s, draw(st.sampled_from([0.0, 1e-3])))


@tries(200)
@given(drafting(False), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_random_scenarios(scenario: Scenario, requests: Requests, stop_s: float) -> None:
    checked(scenario, requests, stop_s)


@tries(80)
@given(drafting(False), sessions())
def test_random_sessions(scenario: Scenario, requests: Requests) -> None:
    checked(scenario, requests)


@tries(80)
@given(drafting(True), sessions())
def test_answers_are_as_long_as_asked(scenario: Scenario, requests: Requests) -> None:
    result = simulate(scenario, requests)
    columns, steps = result.requests, result.steps()
    done = columns["status"] == FINISHED
    found = columns["cached_tokens"] + columns["brought_tokens"]
    assert (found[done] < columns["prompt_tokens"][done]).all()
    assert not np.isnan(columns["finish_s"][done]).any()
    replicas = result.replicas
    kept = replicas["host_chunks_stored"] - replicas["host_chunks_evicted"]
    assert kept.tolist() == replicas["host_chunks_kept"].tolist()
    if done.all() and not columns["preemptions"].any():
        tokens = columns["output_tokens"]
        assert int(steps["gained"].sum()) == int(tokens.sum()) - len(tokens)


def turns(method: str, **told: object) -> list[int]:
    """What is found of a prompt that says another one of 9 tokens and its answer of 6 again, on a
    GPU that has forgotten some of both."""
    made = small.scenario(
        windows=(None,), version="0.33", enable_prefix_caching=True, block_size=2,
        num_gpu_blocks=19, kv_offloading_size=1.0, async_scheduling=False, max_model_len=60,
        kv_connector_extra_config={"offload_prompt_only": False}, max_num_seqs=1,
        speculative=SURE | {"method": method} | told,
    )  # fmt: skip
    texts = np.array([0, 1, 0])
    prompts = np.array([15, 26, 16])
    requests = small.requests(
        [0.0, 1.0, 2.0], [9, 26, 16], [6, 1, 1],
        prefixes=prompt_prefixes(prompts, prompt_id=texts),
    )  # fmt: skip
    columns = simulate(behind(made, 50, 1e-6), requests).requests
    assert columns["brought_tokens"].tolist()[:2] == [0, 0]
    assert columns["brought_tokens"][2] > 0
    return (columns["cached_tokens"] + columns["brought_tokens"]).tolist()


@pytest.mark.parametrize(
    ("method", "told", "tokens"),
    [
        ("draft_model", {"model": str(small.draft_config())}, 14),
        ("eagle", {"disable_eagle_block_drop": True}, 14),
        ("eagle", {}, 12),
    ],
)
def test_the_last_chunk_is_computed_again(
    method: str, told: dict[str, object], tokens: int
) -> None:
    """Of 15 tokens 14 are known when the answer has ended: seven chunks of two, of which EAGLE
    computes the last one again."""
    assert turns(method, **told) == [0, 0, tokens]


def test_versions_before_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"engine.kv_offloading_size: .*version 0.32, expected 0.33"
    ):
        small.scenario(
            windows=(None,), version="0.32", enable_prefix_caching=True, kv_offloading_size=1.0,
            speculative=SURE,
        )  # fmt: skip
