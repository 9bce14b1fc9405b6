"""Drafts where one pool computes prompts and another one answers. That the steps of both are vLLM's
is in ``test_against_vllm``."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.machines import priced_machine
from sim.recording.result import FINISHED
from sim.settings.kv_transfer import KvTransferConfig, check_transfers, link_of
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from tests.sim.random_clusters import sessions
from tests.sim.role_clusters import with_roles
from tests.sim.test_drafts_against_reference import drafting
from tests.tries import tries
from workloads.requests import Requests

LINK = KvTransferConfig(latency_s=2.0**-8, per_descriptor_us=0).model_copy(
    update={"bandwidth_gb_s": inf}
)
SURE = {
    "method": "eagle", "num_speculative_tokens": 3, "synthetic_acceptance_rates": [1.0, 1.0, 1.0],
}  # fmt: skip


def pair(speculative: dict[str, object] | None = None, **engine: object) -> Scenario:
    made = small.scenario(windows=(None,), block_size=4, speculative=speculative or SURE, **engine)
    return with_roles(("prefill", made), ("decode", made), kv_transfer=LINK)


def test_a_request_alone() -> None:
    """Its last token is computed again, with rows as if there were drafts; then four at a time."""
    scenario = pair()
    source, sink = (priced_machine(pool) for pool in scenario.pools)
    found = simulate(scenario, small.requests([0.0], [10], [9])).requests
    prompt_s = source.step_s(0, 0, 0, [0], [(10, 0)])
    assert found["prefilled_s"][0] == prompt_s
    # The source drafts nothing, but its drafter has passed over the prompt once.
    assert prompt_s < sink.step_s(0, 0, 0, [0], [(10, 0)])
    assert found["kept_blocks"][0] == 4  # ten tokens, and three slots of lookahead
    assert found["transferred_tokens"][0] == 10
    first_s = prompt_s + 2.0**-8 + sink.step_s(0, 0, 0, [0], [(4, 9)])
    assert found["first_token_s"][0] == first_s
    steps_s = [sink.step_s(1, 4, 4, [past + 4], []) for past in (10, 14)]
    assert found["finish_s"][0] == first_s + steps_s[0] + steps_s[1]


def test_windows_hand_over_what_they_see_and_slots_of_drafts_stay() -> None:
    made = small.scenario(windows=(None, 5), block_size=4, speculative=SURE)
    scenario = with_roles(("prefill", made), ("decode", made), kv_transfer=LINK)
    found = simulate(scenario, small.requests([0.0], [10], [9])).requests
    assert [group.window for group in made.pool.ledger.layout.groups].count(
        None
    ) == 2  # a drafter's
    # Ten tokens and three slots of lookahead; the window has left the first of its blocks behind.
    assert found["kept_blocks"][0] == 4 + 4 + 3
    block_bytes = scenario.pools[1].ledger.block_bytes
    assert found["transferred_bytes"][0] == (3 + 3 + 2) * block_bytes
    assert found["status"][0] == FINISHED


def test_of_a_state_one_is_handed_over_with_the_inputs_of_drafts() -> None:
    ngrams = {"method": "ngram", "num_speculative_tokens": 3, "synthetic_acceptance_length": 1.5}
    plain, drafted = (
        small.scenario(windows=(None, small.STATE), block_size=4, speculative=told)
        for told in (None, ngrams)
    )
    links = [
        link_of(LINK, *with_roles(("prefill", each), ("decode", each)).pools)
        for each in (plain, drafted)
    ]
    assert links[0].states is not None
    assert links[1].states is not None
    assert 1 < links[1].states.bytes / links[0].states.bytes < 4


GROUPS: list[small.Windows] = [
    (None,), (None,), (None, 5), (7, None), (None, 3, 9), (None, small.STATE),
]  # fmt: skip


@st.composite
def handed_over(draw: st.DrawFn) -> Scenario:
    made = draw(drafting(draw(st.sampled_from(GROUPS)), "0.33"))
    blocks = draw(st.integers(8, 80))
    ledger = replace(made.pool.ledger, num_gpu_blocks=blocks)
    other = replace(made, pools=(replace(made.pool, ledger=ledger),))
    return with_roles(("prefill", made), ("decode", other), kv_transfer=LINK)


@tries(150)
@given(handed_over(), sessions())
def test_answers_are_as_long_as_asked(scenario: Scenario, requests: Requests) -> None:
    result = simulate(scenario, requests)
    columns = result.requests
    done = columns["status"] == FINISHED
    handed = done & (columns["prefill_replica"] >= 0)
    assert (columns["transferred_tokens"][handed] <= columns["prompt_tokens"][handed]).all()
    assert (columns["first_token_s"][handed] > columns["loaded_s"][handed]).all()
    assert not np.isnan(columns["finish_s"][done]).any()
    if done.all():  # else blocks of who gave up between the two stay until their lease ends
        assert result.replicas["blocks_held"].tolist() == [0] * len(result.replicas["blocks_held"])
    steps = result.steps()
    answers = steps["replica"] >= scenario.pools[0].replicas
    assert not steps["drafted"][~answers].any()
    alone = not columns["preemptions"].any() and done.all()
    if alone:  # each has its first token by a chunk, and the others by decoding
        tokens = columns["output_tokens"][done]
        assert int(steps["gained"][answers].sum()) == int(tokens.sum()) - len(tokens)


def test_what_does_not_go_together_is_refused() -> None:
    source = with_roles(("prefill", small.scenario(windows=(None,), block_size=4)))
    pools = (source.pool, pair().pools[1])
    with pytest.raises(ValueError, match=r"pool p0: engine\.speculative makes no drafts with what"):
        check_transfers(pools, LINK)
    ngrams = {"method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 1.5}
    check_transfers((source.pool, pair(ngrams).pools[1]), LINK)
    with pytest.raises(ValueError, match=r"role: decode and version 0\.31, expected 0\.32"):
        check_transfers((source.pool, pair(ngrams, version="0.31").pools[1]), LINK)
