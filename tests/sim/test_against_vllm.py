"""What vLLM's own scheduler made of scenarios, release by release, kept: ours makes the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.witness.comparison import differences
from experiments.witness.goldens import Golden, read
from experiments.witness.ours import simulated

FILES = sorted(Path(__file__).with_name("goldens").glob("*.jsonl"))
GOLDENS = [(path.stem, golden) for path in FILES for golden in read(path)]

VERSIONS = {"0.10.2", "0.13.0", "0.23.0", "0.29.0", "0.32.0", "0.33.0"}


@pytest.mark.parametrize(
    ("version", "golden"),
    [pytest.param(*each, id=f"{each[0]} {each[1].feature} {each[1].number}") for each in GOLDENS],
)
def test_every_request_is_served_as_vllm_serves_it(version: str, golden: Golden) -> None:
    assert differences(simulated(golden.scenario, version), golden.outcome) == []


def test_the_scenarios_hold_the_hard_parts() -> None:
    outcomes = [golden.outcome for _, golden in GOLDENS]
    assert {version for version, _ in GOLDENS} == VERSIONS
    assert sum(any(outcome.preemptions) for outcome in outcomes) > 40
    assert sum(any(outcome.hits) for outcome in outcomes) > 20
    assert sum(None in outcome.finish for outcome in outcomes) > 10  # given up
    grouped = [golden for _, golden in GOLDENS if len(golden.scenario.windows) > 1]
    assert sum(any(golden.outcome.preemptions) for golden in grouped) >= 8
    assert any(golden.scenario.states for golden in grouped)
    hybrid = [golden for _, golden in GOLDENS if golden.scenario.hybrid is not None]
    assert sum(any(golden.outcome.hits) for golden in hybrid) > 20
    assert sum(any(golden.outcome.preemptions) for golden in hybrid) >= 8
    assert sum(len({*golden.scenario.hybrid.times}) > 1 for golden in hybrid) >= 8
    chunks = [golden for golden in grouped if golden.scenario.chunked]
    assert sum(any(golden.outcome.preemptions) for golden in chunks) >= 4
    assert sum(any(golden.outcome.hits) for golden in chunks) >= 4
    states = [golden for golden in hybrid if golden.scenario.states]
    assert sum(any(golden.outcome.hits) for golden in states) >= 8
    assert sum(any(golden.outcome.preemptions) for golden in states) >= 8
    assert {golden.scenario.hybrid.exports for golden in states} == {False, True}
    drafts = [golden for _, golden in GOLDENS if golden.scenario.drafts is not None]
    assert sum(any(golden.outcome.preemptions) for golden in drafts) >= 8
    assert {golden.scenario.drafts.method for golden in drafts} >= {"eagle", "draft_model", "ngram"}
    hosts = [golden for _, golden in GOLDENS if golden.scenario.host is not None]
    assert len(hosts) > 15
    stored = {version for version, golden in GOLDENS if golden.scenario.store is not None}
    assert stored == {"0.32.0", "0.33.0"}  # their managers of tiers differ
    staged = [golden for _, golden in GOLDENS if golden.scenario.stages]
    assert sum(any(golden.outcome.preemptions) for golden in staged) >= 8
    assert {len(golden.scenario.stages) for golden in staged} == {2, 3, 4}
    pairs = [golden for _, golden in GOLDENS if golden.scenario.handover is not None]
    assert len(pairs) > 20
    assert sum(any(golden.outcome.preemptions) for golden in pairs) > 5
    assert sum(any(golden.outcome.hits) for golden in pairs) > 5
    assert sum(golden.scenario.timeout is not None for golden in pairs) >= 2


def test_blocks_that_the_second_engine_has_are_not_read_again() -> None:
    pairs = [golden for _, golden in GOLDENS if golden.scenario.handover is not None]
    short = 0
    for golden in pairs:
        size = golden.scenario.block_size
        whole = [-(-row.prompt // size) for row in golden.scenario.requests]
        short += golden.outcome.brought != whole
        if not golden.scenario.caching and len(golden.scenario.windows) == 1:
            assert golden.outcome.brought == whole
    assert short > 5


def test_hosts_bring_something_in_most_scenarios_of_theirs() -> None:
    hosts = [
        (v, golden)
        for v, golden in GOLDENS
        if golden.scenario.host is not None and golden.scenario.store is None
    ]
    brings = [
        bool(differences(simulated(replace(golden.scenario, host=None), version), golden.outcome))
        for version, golden in hosts
    ]
    assert sum(brings) >= 20


def test_stores_below_hosts_decide_something_in_most_scenarios_of_theirs() -> None:
    """Without what others wrote there nothing would come from it: the host holds all."""
    stores = [(v, golden) for v, golden in GOLDENS if golden.scenario.store is not None]
    assert len(stores) >= 12
    reads = 0
    for version, golden in stores:
        assert golden.scenario.store is not None
        empty = replace(golden.scenario, store=golden.scenario.store._replace(rows=[]))
        reads += bool(differences(simulated(empty, version), golden.outcome))
    assert reads >= 8


def test_states_before_a_hole_are_held_before_0_30_alone() -> None:
    before = [golden for version, golden in GOLDENS if version == "0.29.0"]
    assert len(before) == 4
    for golden in before:
        assert differences(simulated(golden.scenario, "0.30.0"), golden.outcome)


def test_versions_differ_where_vllm_changed() -> None:
    of_newest = {(g.feature, g.number): g for version, g in GOLDENS if version == "0.32.0"}
    changed = {
        feature
        for (feature, _), golden in of_newest.items()
        if golden.scenario.host is golden.scenario.drafts is None  # refused before 0.31 and 0.30
        and "retention" not in feature  # and a retention interval before 0.29
        and "states" not in feature  # and states that are found before 0.27
        and differences(simulated(golden.scenario, "0.23.0"), golden.outcome)
    }
    assert "long_prefill_token_threshold" in changed  # a request alone is not limited any more
    assert "plain" not in changed
    assert "async" not in changed
    assert "groups" not in changed
    assert "groups, prefix cache" in changed  # windows kept everything
