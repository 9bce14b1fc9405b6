"""Routers that see caches: formulas by hand, laws of what follows, and what is believed."""

from collections import Counter, OrderedDict
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.engine.sequence import Sequence
from sim.recording.result import FINISHED
from sim.routers.draws import shares
from sim.routers.hashing import Ring
from sim.routers.pickers import PICKERS
from sim.routers.prompts import Prompts
from sim.routers.registry import check_router, make_router
from sim.routers.router import CachesView, ReplicaFacts, Router
from sim.seen.active import ActiveBlocks
from sim.seen.guess import Guess
from sim.seen.loads import Loads
from sim.seen.texts import PRIVATE, stretches, with_rest
from sim.simulation import simulate
from tests.sim import small
from workloads.prefixes import prompt_prefixes

ENDLESS = 1 << 60


def facts(count: int, kv_tokens: int = 1024) -> tuple[ReplicaFacts, ...]:
    return (ReplicaFacts("", "t4", 1, 8, kv_tokens, 10_000, block_size=16),) * count


class Seen:
    """Replicas of which a test says what they have cached and how busy they are."""

    def __init__(self, cached: list[int], waiting: list[int], kv_use: list[float]) -> None:
        self.cached, self.running = cached, [0 for _ in cached]
        self.waiting, self.kv_use = waiting, kv_use

    def cached_tokens(self, text: object, tokens: int) -> list[int]:
        return list(self.cached)

    def tokens_on(self, number: int, text: object, tokens: int) -> int:
        return self.cached[number]

    def read(self, now_s: float) -> None:
        pass

    def age_s(self, now_s: float) -> float:
        return 0.0


def router(name: str, seen: Seen, **settings: Any) -> Router:
    made = make_router(name, facts(len(seen.cached)), np.random.default_rng(0), settings)
    assert isinstance(made.view, CachesView)
    made.view.caches = made.view.collected = seen
    return made


def request(row: int, prompt_tokens: int, at_s: float = 0.0) -> Sequence:
    return Sequence(row, at_s, prompt_tokens, 5, 0)


def send(made: Router, arrival: Sequence) -> int:
    number = made.choose(arrival)
    made.view.sent(number)
    made.sent(number)
    return number


def test_the_sum_of_llm_d_s_scores_by_hand() -> None:
    # queue (max - q) / (max - min): 0.75, 0, 1; cache 1 - use: 0.5, 0.9, 0.1; prefix of 96 tokens
    # in 6 full blocks: 2/6, 5/6, 0. With 2, 2, 3: 1 + 1.5 + 1 = 3.5; 1.8 + 2.5 = 4.3; 2.2.
    seen = Seen([32, 80, 0], [1, 4, 0], [0.5, 0.1, 0.9])
    weights = {"queue": 2, "kv_cache_utilization": 2, "precise_prefix_cache": 3}
    made = router("llm_d", seen, scorers=weights)
    assert made.choose(request(0, 96)) == 1
    assert made.claimed_tokens == 80
    assert made.metrics_age_s == 0.0
    # Without the prefix the queue decides: 2.5, 1.8, 2.2.
    assert (
        router("llm_d", seen, scorers={**weights, "precise_prefix_cache": 0}).choose(request(0, 96))
        == 0
    )


def test_dynamo_s_cost_by_hand() -> None:
    # 100 tokens, blocks of 16: 6.25 blocks of prefill, 6 in use. Replica 0 has 5 of them cached,
    # replica 1 none; what was sent to 0 makes it 6.25 + 1.25 - 5 + 12 = 14.5 against 6.25 + 6.
    seen = Seen([80, 0], [0, 0], [0.0, 0.0])
    made = router("dynamo", seen)
    assert send(made, request(0, 100)) == 0
    assert made.claimed_tokens == 80
    assert send(made, request(1, 100)) == 1
    # Who has a first token waits for no prefill: 6.25 - 5 + 12 against 6.25 + 6.25 + 12.
    first = request(2, 100)
    first.first_token_s = 1.0
    made = router("dynamo", seen)
    send(made, first)
    seen.cached = [0, 0]
    assert send(made, request(3, 100)) == 1
    seen.cached = [96, 0]
    assert send(made, request(4, 100)) == 0


def test_equal_scores_are_drawn_evenly_and_others_in_proportion() -> None:
    luck = shares(np.random.default_rng(1))
    ties = Counter(PICKERS["max_score"]([1.0, 2.0, 2.0, 0.5], luck) for _ in range(2000))
    assert set(ties) == {1, 2}
    assert abs(ties[1] - 1000) < 4 * (2000 / 4) ** 0.5
    odds = Counter(PICKERS["weighted_random"]([1.0, 0.0, 3.0], luck) for _ in range(2000))
    assert set(odds) == {0, 2}
    assert abs(odds[0] - 500) < 4 * (2000 * 3 / 16) ** 0.5
    assert set(Counter(PICKERS["weighted_random"]([0.0, 0.0], luck) for _ in range(50))) == {0, 1}


STREAMS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(0, 30), st.integers(1, 70)),
    max_size=30,
)


def prompt(shared: int, shared_tokens: int, own: int, tokens: int) -> list[tuple[int, int]]:
    """Streams of a prompt: a system prompt, then a text of its own, which others may have."""
    return [(shared, min(shared_tokens, tokens)), (100 + 50 * shared + own, tokens)][
        : 1 + (own > 0)
    ]


@given(STREAMS, st.sampled_from([1, 4, 7]), st.integers(1, 25), st.sampled_from([3, 256]))
def test_a_guess_is_a_list_of_blocks_last_used_first(
    sent: list[tuple[int, int, int, int]], size: int, capacity: int, most: int
) -> None:
    """As ``hashicorp/golang-lru`` keeps the hashes of blocks; several replicas, in turn."""
    lengths = {shared: tokens for shared, tokens, _, _ in sent}
    guess = Guess([capacity] * 3)
    plain: list[OrderedDict[object, None]] = [OrderedDict() for _ in range(3)]
    for row, (shared, _, own, tokens) in enumerate(sent):
        text = prompt(shared, lengths[shared], own, tokens)
        cut = with_rest(stretches(text, tokens, size, most), text, tokens, size, most)
        keys: list[object] = []
        for stream, first, end in cut:
            whose = row if stream == PRIVATE else None
            keys += [(stream, whose, block) for block in range(first, end)]
        found = [0, 0, 0]
        for key in keys:
            having = [number for number in range(3) if key in plain[number]]
            if not having:
                break
            for number in having:
                found[number] += 1
        assert guess.matches(cut) == found
        number = row % 3
        guess.add(number, cut, float(row))
        for key in keys:
            plain[number].pop(key, None)
            plain[number][key] = None
        while len(plain[number]) > capacity:
            plain[number].popitem(last=False)
        assert guess.blocks == [len(each) for each in plain]


@given(STREAMS)
def test_blocks_in_use_are_counted_once(sent: list[tuple[int, int, int, int]]) -> None:
    lengths = {shared: tokens for shared, tokens, _, _ in sent}
    active, here = ActiveBlocks(2), []
    for row, (shared, _, own, tokens) in enumerate(sent):
        text = prompt(shared, lengths[shared], own, tokens)
        cut = stretches(text, tokens, 4, ENDLESS)
        keys = [
            (stream, row if stream == PRIVATE else None, block)
            for stream, first, end in cut
            for block in range(first, end)
        ]
        in_use: list[set[object]] = [set(), set()]
        for number, _, others in here:
            in_use[number] |= set(others)
        assert active.count == [len(each) for each in in_use]
        depth = [next((i for i, key in enumerate(keys) if key not in each), len(keys))
                 for each in in_use]  # fmt: skip
        assert active.shared(cut) == depth
        active.add(row % 2, cut)
        here.append((row % 2, cut, keys))
        if tokens % 3 == 0:
            number, gone, _ = here.pop(tokens % len(here))
            active.remove(number, gone)
    for number, gone, _ in here:
        active.remove(number, gone)
    assert active.count == [0, 0]


def test_old_texts_are_forgotten_from_their_ends() -> None:
    """A tree of texts: a prompt of two stretches, then one that shares the first of them."""
    guess = Guess([ENDLESS])
    guess.add(0, [(0, 0, 10), (1, 10, 30)], 0.0)
    guess.add(0, [(0, 0, 10), (2, 10, 15)], 1.0)
    guess.trim(15)
    assert guess.blocks == [15]
    assert guess.deeper(0, [(0, 0, 10), (1, 10, 30)], 0) == 10
    guess.trim(14)
    assert guess.deeper(0, [(0, 0, 10), (2, 10, 15)], 0) == 10
    guess.forget_before(2.0)
    assert guess.blocks == [0]


def test_with_one_more_replica_a_ring_moves_sessions_to_it_alone() -> None:
    keys = [f"session {number}" for number in range(4000)]
    before, after = (list(map(Ring(count).first, keys)) for count in (4, 5))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {4}
    assert 0.14 < len(moved) / len(keys) < 0.26
    assert all(0.15 < share / len(keys) < 0.35 for share in Counter(before).values())


def test_a_bounded_ring_keeps_everybody_near_the_mean() -> None:
    made = make_router("bounded_consistent_hashing", facts(5), np.random.default_rng(0), {})
    made.view.prompts = Prompts(session=np.zeros(200, dtype=np.int64))  # all of one session
    counts: Counter[int] = Counter()
    for row in range(200):
        number = send(made, request(row, 10))
        assert counts[number] <= 1.5 * row / 5
        counts[number] += 1
    assert max(counts.values()) <= 1.5 * 200 / 5 + 1


def test_settings_of_a_router_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown key scorer of llm_d: did you mean scorers"):
        check_router("llm_d", {"scorer": {}})
    with pytest.raises(ValidationError, match="did you mean queue"):
        check_router("llm_d", {"scorers": {"queu": 1}})
    with pytest.raises(ValidationError, match="expected at least one scorer"):
        check_router("llm_d", {"scorers": {}})
    with pytest.raises(ValueError, match="least_requests has no settings, expected none, or"):
        check_router("least_requests", {"scorers": {}})
    check_router("dynamo", {"router_temperature": 0.5})


def test_roles_have_routers_that_see_caches() -> None:
    """A prompt that is computed for another replica goes to the one that has most of it."""
    prefill, decode = (
        small.scenario(
            replicas=2, router="llm_d", enable_prefix_caching=True, block_size=4,
            router_settings={"scorers": {"precise_prefix_cache": 1}},
        )
        for _ in range(2)
    )  # fmt: skip
    scenario = small.pooled(prefill, decode)
    roles = ("prefill", "decode")
    pools = tuple(replace(p, role=role) for p, role in zip(scenario.pools, roles, strict=True))
    prompts = np.full(40, 48)
    requests = small.requests(
        (np.arange(40) * 0.1).tolist(), prompts.tolist(), [4] * 40,
        prefixes=prompt_prefixes(prompts, prompt_id=np.arange(40) % 4),
    )  # fmt: skip
    result = simulate(replace(scenario, pools=pools), requests)
    sources = result.requests["prefill_replica"]
    assert np.all(result.requests["status"] == FINISHED)
    assert all(len(set(sources[row::4].tolist())) == 1 for row in range(4))
    assert np.all(result.requests["cached_tokens"][4:] == 44)
    assert inf > result.end_s


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_the_fewest_and_the_most_requests(changes: list[tuple[int, int]]) -> None:
    """Some are sent (0), or so many leave, as far as there are any."""
    loads = Loads(4)
    for number, leave in changes:
        if leave:
            loads.left(number, min(leave, loads.counts[number]))
        else:
            loads.sent(number)
        counts = loads.counts
        assert (loads.low, loads.high) == (min(counts), max(counts))
        assert loads.fewest() == counts.index(min(counts))


@given(STREAMS, st.integers(1, 12))
def test_a_prompt_goes_where_most_of_it_was_sent_and_last(
    sent: list[tuple[int, int, int, int]], kept: int
) -> None:
    """Beside token by token: which replica was last sent each of them when."""
    lengths = {shared: tokens for shared, tokens, _, _ in sent}
    guess = Guess([ENDLESS] * 3)
    plain: list[dict[object, int]] = [{} for _ in range(3)]
    for row, (shared, _, own, tokens) in enumerate(sent):
        text = stretches(prompt(shared, lengths[shared], own, tokens), tokens, 1, ENDLESS)
        keys = [
            (stream, row if stream == PRIVATE else None, token)
            for stream, first, end in text
            for token in range(first, end)
        ]
        found = []
        for number, rows in enumerate(plain):
            have = next((place for place, key in enumerate(keys) if key not in rows), len(keys))
            assert guess.deeper(number, text, 0) == have
            found.append((have, rows[keys[have - 1]] if have else -1, number))
        have, _, number = max(found)
        assert guess.deepest(text) == ((have, number) if have else (0, -1))
        guess.add(tokens % 3, text, float(row))
        plain[tokens % 3].update(dict.fromkeys(keys, row))
        guess.forget_before(float(row - kept))
        plain = [{key: when for key, when in rows.items() if when >= row - kept} for rows in plain]
        assert guess.blocks == [len(each) for each in plain]
