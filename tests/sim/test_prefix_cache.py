"""The prefix cache: hand-computed logs, what it holds block by block, and what it changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.caches import block_spans
from sim.engine.caches.held import held_runs
from sim.engine.caches.prefix_cache import PrefixCache
from sim.engine.caches.runs import Run
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.measuring.metrics import summarise
from sim.settings.engine_config import EngineConfig
from sim.settings.registry import ORDERS
from sim.simulation import simulate
from tests.sim import small
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.tries import tries
from workloads.prefixes import prompt_prefixes
from workloads.requests import Prefixes

Log = list[tuple[int, list[tuple[int, int, int]], list[int]]]


def same_prompt(*prompt_tokens: int) -> Prefixes:
    lengths = np.array(prompt_tokens)
    return prompt_prefixes(lengths, prompt_id=np.zeros(len(lengths), dtype=np.int64))


def caching(
    prefixes: Prefixes, num_blocks: int = 100, max_num_seqs: int = 4, order: str = "fcfs"
) -> ChunkedPrefill:
    pool = PrefixCache(num_blocks, 4, block_spans(prefixes, 4))
    return ChunkedPrefill(pool, ORDERS[order](), Settings(max_num_seqs, 16))


def cache_of(scheduler: ChunkedPrefill) -> PrefixCache:
    assert isinstance(scheduler.pool, PrefixCache)
    return scheduler.pool


def log(scheduler: ChunkedPrefill, *sequences: Sequence) -> Log:
    """Run to the end, one step at a time: (decodes, chunks with their past, rows that ended)."""
    for each in sequences:
        scheduler.admit(each)
    events: Log = []
    while (batch := scheduler.next_batch(0.0)) is not None:
        cache_of(scheduler).check_cache([*scheduler.running])
        ended = [each.request for each in scheduler.complete(batch)]
        chunks = [(s.request, *c) for s, c in zip(batch.prefills, batch.chunks, strict=True)]
        events.append((batch.decodes, chunks, ended))
    return events


def row(number: int, prompt: int, output: int, priority: int = 0) -> Sequence:
    return Sequence(number, float(number), prompt, output, priority)


def test_a_prompt_finds_what_stands_before_it_in_the_same_step() -> None:
    # Row 0 computes 8 + 2 tokens; row 1 has the same 10: two full blocks of four are found.
    first, second = row(0, 10, 2), row(1, 10, 1)
    assert log(caching(same_prompt(10, 10)), first, second) == [
        (0, [(0, 10, 0), (1, 2, 8)], [1]),
        (1, [], [0]),
    ]
    assert (first.cached_tokens, second.cached_tokens) == (0, 8)


def test_the_last_token_is_always_computed_and_its_whole_block() -> None:
    scheduler = caching(same_prompt(8, 8, 9))
    log(scheduler, row(0, 8, 1))
    assert log(scheduler, row(1, 8, 1)) == [(0, [(1, 4, 4)], [1])]
    assert log(scheduler, row(2, 9, 1)) == [(0, [(2, 1, 8)], [2])]


def test_shared_blocks_are_counted_once_and_leave_with_their_last_holder() -> None:
    scheduler = caching(same_prompt(10, 10))
    for each in (row(0, 10, 5), row(1, 10, 2)):
        scheduler.admit(each)
    held = []
    while (batch := scheduler.next_batch(0.0)) is not None:
        held.append(scheduler.pool.held)
        scheduler.complete(batch)
    # Two shared blocks and a partial one each; row 1 ends first and gives back only its own.
    assert held == [4, 4, 3, 4, 4]  # row 0's 13th token takes a fourth block
    assert scheduler.pool.held == 0


def test_of_one_request_the_last_block_is_taken_first() -> None:
    # 5 blocks: row 0 leaves 3 named ones in the cache and 2 that never had a name. Row 1 takes
    # those two, and of row 0's the last; row 2 finds the two that remain.
    names = Prefixes(np.array([0, 1, 1, 2]), np.array([0, 0]), np.array([12, 12]))
    scheduler = caching(names, num_blocks=5)
    log(scheduler, row(0, 12, 1))
    log(scheduler, row(1, 12, 1))
    assert log(scheduler, row(2, 12, 1)) == [(0, [(2, 4, 8)], [2])]


def test_a_preempted_request_finds_its_own_blocks() -> None:
    # 6 blocks of 4. After 5 tokens each both need a third block, then a fourth: row 1 is thrown
    # out with 12 tokens of 4 + 9 computed, and all of its three blocks are full. Row 0 needs two
    # of the free blocks until it ends; one of row 1's is left, its first.
    nothing = Prefixes(np.zeros(3, dtype=np.int64), np.array([], int), np.array([], int))
    scheduler = caching(nothing, num_blocks=6)
    first, second = row(0, 4, 16), row(1, 4, 16)
    events = log(scheduler, first, second)
    again = [chunk for _, chunks, _ in events for chunk in chunks][2:]
    assert again == [(1, 9, 4)]
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert second.cached_tokens == 0  # of the prompt, when it first came


def test_an_answer_is_found_while_it_is_generated() -> None:
    # Both are the same text. Row 0's third block is full when its sixth token of the answer, the
    # 12th in all, is in the step: the seventh step; row 1 comes then, and computes the last token.
    scheduler = caching(same_prompt(14, 14))
    scheduler.admit(row(0, 6, 8))
    for _ in range(6):
        batch = scheduler.next_batch(0.0)
        assert batch is not None
        scheduler.complete(batch)
    scheduler.admit(row(1, 13, 1))
    batch = scheduler.next_batch(0.0)
    assert batch is not None
    assert (batch.decodes, batch.chunks) == (1, [(1, 12)])


def test_an_answer_is_found_by_the_prompt_that_goes_on_from_it() -> None:
    # A stream beyond the prompt of 6 tells 10 tokens: 6 + 4 of the answer.
    names = prompt_prefixes(np.array([10, 13]), prompt_id=np.zeros(2, dtype=np.int64))
    scheduler = caching(names)
    log(scheduler, row(0, 6, 6))  # 11 tokens in the cache: two full blocks
    assert log(scheduler, row(1, 13, 1)) == [(0, [(1, 5, 8)], [1])]


def test_a_long_prompt_is_one_run_and_two_when_half_of_it_is_shared() -> None:
    names = prompt_prefixes(np.array([4000, 2001]), prompt_id=np.zeros(2, dtype=np.int64))
    scheduler = caching(names, num_blocks=3000)
    first, second = row(0, 4000, 1000), row(1, 2001, 1)
    scheduler.admit(first)
    for _ in range(250):  # 16 tokens each
        scheduler.complete(scheduler.next_batch(0.0) or Batch())
    assert [run.count for run in held_runs(first)] == [1000]
    scheduler.admit(second)
    scheduler.next_batch(0.0)
    assert second.cached_tokens == 2000
    assert [run.count for run in held_runs(first)] == [500, 500]
    assert [run.count for run in held_runs(second)] == [500]


def pool_of_three(unhashed_first: bool = False) -> PrefixCache:
    """Three blocks of four; the first of every text is the same."""
    return PrefixCache(3, 4, lambda _: [(7, 1)], unhashed_first)


def held(pool: PrefixCache, tokens: int) -> Sequence:
    """A request that finds nothing, for want of a full block before its last token, and starts."""
    each = row(0, min(tokens, 4), 9)
    pool.arrive(each)
    assert pool.find(each) == 0
    pool.start(each, tokens)
    each.kv_tokens = tokens
    return each


def found(pool: PrefixCache) -> list[Run]:
    probe = row(1, 5, 1)
    pool.arrive(probe)
    pool.find(probe)
    return [run for run, _, _ in pool.hits]


def test_the_oldest_of_equal_blocks_is_found_and_the_next_when_it_is_gone() -> None:
    pool = pool_of_three()
    rows = [held(pool, 4) for _ in range(3)]
    for each in rows:
        assert found(pool) == held_runs(each)
        pool.end([each], 0)
        pool.take(1)  # takes what has just become free
    assert found(pool) == []


def test_blocks_that_are_not_full_can_be_reused_first() -> None:
    for unhashed_first, left in ((False, 0), (True, 1)):
        pool = pool_of_three(unhashed_first)
        pool.end([held(pool, 4)], 0)  # free since long, and full
        pool.take(1)
        pool.end([held(pool, 3)], 0)  # takes the third; never full
        pool.take(1)
        assert len(found(pool)) == left


def test_the_cache_names_what_disagrees() -> None:
    pool = pool_of_three()
    each = held(pool, 4)
    wrong = "stream 7 from block 0 on counts 1 holders, 2 requests hold it"
    with pytest.raises(AssertionError, match=wrong):
        pool.check_cache([each, each])
    with pytest.raises(AssertionError, match="1 runs can be found, 0 free and 0 held ones"):
        pool.check_cache([])


@tries(100)
@given(st.integers(0, 2**16), st.integers(8, 30), st.sampled_from(["fcfs", "priority"]))
def test_blocks_add_up_with_sharing(seed: int, num_blocks: int, order: str) -> None:
    """Shared + own + free = all, after every step, whoever is thrown out."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, 30)
    names = prompt_prefixes(
        lengths, prompt_id=rng.integers(0, 5, 30), prefix_id=rng.integers(0, 2, 30),
        prefix_tokens=np.full(30, 9),
    )  # fmt: skip
    scheduler = caching(names, num_blocks=num_blocks, order=order, max_num_seqs=8)
    for number, prompt in enumerate(lengths.tolist()):
        each = row(number, prompt, int(rng.integers(1, 20)), int(rng.integers(0, 3)))
        if scheduler.fits(each.prompt_tokens, each.output_tokens):
            scheduler.admit(each)
        while len(scheduler.waiting) > 4:
            _step(scheduler)
    while scheduler.running or scheduler.waiting:
        _step(scheduler)
    assert scheduler.pool.held == 0


def _step(scheduler: ChunkedPrefill) -> None:
    batch = scheduler.next_batch(0.0)
    assert batch is not None
    scheduler.complete(batch, batch.steps)
    step = scheduler.decoding.step
    pool, held = cache_of(scheduler), 0
    shared: set[Run] = set()
    for each in scheduler.running:
        decoded = step - each.joined_step if each.finish_step >= 0 else 0
        held += pool.blocks(each.kv_tokens + decoded) - each.named_blocks
        shared.update(held_runs(each))
    pool.check_integrity(held + sum(run.count for run in shared))
    pool.check_cache([*scheduler.running])


def test_much_preemption_and_sharing_equals_the_reference() -> None:
    """A frozen case, so that the random scenarios cannot pass for want of the hard part."""
    setup = small.scenario(
        enable_prefix_caching=True, max_num_seqs=12, num_gpu_blocks=40, block_size=4,
        max_num_batched_tokens=64, max_model_len=200,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    prompts = rng.integers(1, 60, 80)
    requests = small.requests(
        [0.0] * 80, prompts.tolist(), rng.integers(1, 90, 80).tolist(),
        prefixes=prompt_prefixes(prompts, prompt_id=rng.integers(0, 6, 80)),
    )  # fmt: skip
    result = assert_equal_to_reference(setup, requests)
    assert result.requests["preemptions"].sum() > 10
    assert (result.requests["cached_tokens"] > 0).sum() > 20
    rate = summarise(result, setup)["prefix_cache_hit_rate"]
    assert rate == result.requests["cached_tokens"].sum() / prompts.sum()


def test_repeated_prompts_cost_one_block_and_arrive_sooner() -> None:
    lengths = [100] * 40
    prefixes = same_prompt(*lengths)
    base = {"block_size": 16, "num_gpu_blocks": 1000}
    requests = small.requests([0.1 * i for i in range(40)], lengths, [3] * 40, prefixes=prefixes)
    cold = simulate(small.scenario(**base), requests)
    warm = simulate(small.scenario(**base, enable_prefix_caching=True), requests)
    assert warm.requests["cached_tokens"].tolist() == [0] + [96] * 39
    assert warm.total("computed_prefill_tokens") == 100 + 39 * 4
    assert cold.total("computed_prefill_tokens") == 40 * 100
    sooner = warm.requests["first_token_s"] < cold.requests["first_token_s"]
    assert sooner.tolist() == [False] + [True] * 39


def test_only_vllm_v1_caches_prefixes() -> None:
    with pytest.raises(ValueError, match="scheduler: static, expected chunked_prefill"):
        EngineConfig(scheduler="static", enable_prefix_caching=True)
