"""Prefix caching where layers keep a state: where chunks end, what is kept and found, by hand."""

from dataclasses import replace

import pytest

from hardware.gpu import load_gpu
from hardware.memory.kept_states import kept_states
from model.mixers.delta import DeltaRule
from model.spec import load_spec
from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import DENSE, Table
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.state_cache import StateCache
from sim.engine.caches.state_groups import Ends, StateGroup, StateSettings
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.settings.registry import ORDERS

SIZE = 16


def ends(*, exports: bool = False, longest: int = 64, before_last: bool = True) -> Ends:
    group = StateGroup(1, SIZE, exports, at_ends=True)
    return Ends(group, StateSettings(longest, before_last, marks_again=False))


@pytest.mark.parametrize(
    ("past", "tokens", "prompt", "chunk"),
    [
        (0, 60, 100, 48),  # a chunk ends where a block does
        (48, 10, 100, 0),  # what is left of the budget is no block: it waits
        (48, 52, 100, 48),  # the last whole block of the prompt is kept
        (96, 4, 100, 4),
        (0, 20, 20, 16),
        (0, 12, 12, 12),
        (0, 48, 48, 32),  # the last token is computed again, so the end is one block before
    ],
)
def test_where_chunks_end(past: int, tokens: int, prompt: int, chunk: int) -> None:
    assert ends().cut(past, tokens, prompt, prompt, 0) == chunk


def test_until_0_32_a_prompt_of_whole_blocks_has_no_end_before_its_last() -> None:
    assert ends(before_last=False).cut(0, 48, 48, 48, 0) == 48


def test_blocks_larger_than_chunks_are_filled_by_several() -> None:
    assert ends(longest=7).cut(0, 7, 100, 100, 0) == 7
    assert ends(longest=7).cut(14, 7, 100, 100, 0) == 2


def test_a_chunk_stops_where_others_had_more_in_common() -> None:
    assert ends().cut(0, 64, 100, 100, 32) == 32
    assert ends().cut(32, 64, 100, 100, 32) == 64


def test_a_kernel_that_leaves_two_states_needs_no_cut() -> None:
    assert ends(exports=True).cut(48, 52, 100, 100, 0) == 52
    assert ends(exports=True).cut(0, 60, 100, 100, 0) == 48  # but only at the end


def test_a_table_of_states_has_holes() -> None:
    group, table = StateGroup(1, SIZE, exports=True, at_ends=True), Table(0, 0, [])
    group.take(table, 0, 64, 100)
    assert (table.count(99), table.there([(0, 9)])) == (96, [(3, 9)])  # the third, and what follows
    group.take(table, 64, 100, 100)
    assert table.there([(0, 7)]) == [(3, 4), (5, 7)]
    table.leave(group.behind(100))
    assert (table.apart, table.count(7)) == ([], 1)


def test_a_state_before_a_hole_was_held_to_the_end() -> None:
    group, table = StateGroup(1, SIZE, exports=False, at_ends=True, sticks=True), Table(0, 0, [])
    group.take(table, 0, 64, 200)  # leaves the fourth
    group.take(table, 64, 128, 200)  # the eighth
    assert group.stuck(table, 64, 128) == []
    group.take(table, 128, 192, 200)
    assert group.stuck(table, 128, 192) == [3]  # the chunk in progress began with the eighth
    assert group.stuck(table, 128, 128) == [3]  # so did the last one that took a block
    table = Table(0, 0, [])
    group.take(table, 0, 64, 120)
    group.take(table, 64, 120, 120)
    assert group.stuck(table, 120, 121) == []  # what the last chunk began with is given back
    table = Table(0, 0, [])
    for past in range(0, 64, SIZE):
        group.take(table, past, past + SIZE, 120)
    assert group.stuck(table, 48, 64) == []  # and what stands before no hole


def scheduler_of(blocks: int = 100, *, retention: int = 0, exports: bool = False) -> ChunkedPrefill:
    """A cache of full attention, and of states of two groups."""
    everything = BlockGroup(1, SIZE, None, 1 << 30)
    states = StateGroup(2, SIZE, exports, retention == 0)
    told = HybridSettings(lambda _: [(7, 1000)], True, True, False, retention, True)
    settings = StateSettings(64, ends_before_last=True, marks_again=False)
    pool = StateCache(blocks, [everything], states, False, told, settings)
    return ChunkedPrefill(pool, ORDERS["fcfs"](), Settings(4, 64))


def served(scheduler: ChunkedPrefill, *prompts: int, output: int = 1) -> list[list[int]]:
    """Serve requests of one text together; return what each found, and the chunks of every step."""
    pool = scheduler.pool
    assert isinstance(pool, StateCache)
    sequences = [Sequence(row, 0.0, prompt, output, 0) for row, prompt in enumerate(prompts)]
    for sequence in sequences:
        scheduler.admit(sequence)
    steps = []
    while (batch := scheduler.next_batch(0.0)) is not None:
        pool.check_cache([*scheduler.running])
        steps.append([tokens for tokens, _ in batch.chunks])
        scheduler.complete(batch)
    assert pool.held == 0
    return [[sequence.cached_tokens for sequence in sequences], *steps]


def test_a_hit_ends_where_another_prompt_did() -> None:
    scheduler = scheduler_of()
    assert served(scheduler, 40) == [[0], [32], [8]]
    assert served(scheduler, 100)[0] == [32]
    assert served(scheduler, 60)[0] == [32]  # attention has 96 of it, but no state is there
    assert served(scheduler, 60)[0] == [48]


def test_dense_keeps_a_state_of_every_step() -> None:
    scheduler = scheduler_of(retention=DENSE)
    served(scheduler, 40, output=40)
    assert served(scheduler, 70)[0] == [64]  # of the answer


def test_who_would_begin_with_a_state_of_this_step_waits() -> None:
    found, *steps = served(scheduler_of(), 20, 36)
    # Both compute their first block; the second one asks in the step in which the first writes it.
    assert found == [0, 16]
    assert steps == [[16], [4, 16], [4]]


def test_a_request_holds_two_states_of_each_group() -> None:
    # 4 blocks of attention and 2 x 2 states of 60 tokens, whose chunks end at 48.
    scheduler = scheduler_of(8)
    assert served(scheduler, 60)[1:] == [[48], [12]]
    assert scheduler.fits(60, 1)
    assert not scheduler.fits(90, 1)


def test_a_third_state_is_held_where_a_kernel_leaves_it() -> None:
    assert served(scheduler_of(exports=True), 60)[1:] == [[60]]
    scheduler = scheduler_of(exports=True)
    served(scheduler, 60)
    assert served(scheduler, 60)[0] == [48]


@pytest.mark.parametrize(
    ("model", "gpu", "version", "blocks", "multiple"),
    [
        ("qwen3-next-80b-a3b", "h100-sxm", "0.33", 3, 64),
        ("qwen3-next-80b-a3b", "h100-sxm", "0.32", 2, 1),
        ("qwen3-next-80b-a3b", "a100-80gb-sxm", "0.33", 2, 1),
        ("nemotron-3-nano-30b-a3b", "a100-80gb-sxm", "0.32", 3, 1),
        ("nemotron-3-nano-30b-a3b", "h100-sxm", "0.31", 2, 1),
        ("kimi-linear-48b-a3b", "h100-sxm", "0.33", 2, 128),
        ("kimi-linear-48b-a3b", "h100-sxm", "0.26", 2, 16),
        ("kimi-k3", "b200", "0.32", 3, 128),
        ("llama-3-8b", "h100-sxm", "0.33", 1, 1),
    ],
)
def test_which_kernels_leave_two_states(
    model: str, gpu: str, version: str, blocks: int, multiple: int
) -> None:
    kept = kept_states(load_spec(model), load_gpu(gpu), version, cached=True)
    assert (kept.blocks, kept.block_multiple) == (blocks, multiple)
    assert kept_states(load_spec(model), load_gpu(gpu), version, cached=False).blocks == 1


def test_flashinfer_wants_128_wide_keys_on_blackwell() -> None:
    spec = load_spec("qwen3-next-80b-a3b")
    narrow = tuple(
        replace(layers, mixer=replace(layers.mixer, key_dim=64))
        if isinstance(layers.mixer, DeltaRule) else layers
        for layers in spec.layers
    )  # fmt: skip
    narrow_spec = replace(spec, layers=narrow)
    for gpu, one, blocks in (
        ("b200", spec, 3), ("b200", narrow_spec, 2), ("h100-sxm", narrow_spec, 3)
    ):  # fmt: skip
        assert kept_states(one, load_gpu(gpu), "0.33", cached=True).blocks == blocks
