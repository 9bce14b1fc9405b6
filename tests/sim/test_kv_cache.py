"""Blocks held are those of the sequences, under any sequence of operations, preemption included."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.settings.registry import ORDERS
from tests.tries import tries


class KvCacheMachine(RuleBasedStateMachine):
    """Admits requests and computes steps in any order, counting blocks sequence by sequence."""

    scheduler: Scheduler

    @initialize(
        kind=st.sampled_from(
            [
                (ChunkedPrefill, False),
                (ChunkedPrefill, True),
                (PrefillFirst, False),
                (Static, False),
            ]
        ),
        num_blocks=st.integers(4, 30),
        block_size=st.sampled_from([1, 3, 16]),
        order=st.sampled_from(["fcfs", "shortest_prompt", "priority"]),
        windows=st.sampled_from([(None,), (7,), (None, 7)]),
        groups=st.sampled_from([None, False, True]),
    )
    def start(
        self,
        kind: tuple[type[Scheduler], bool],
        num_blocks: int,
        block_size: int,
        order: str,
        windows: tuple[int | None, ...],
        groups: bool | None,
    ) -> None:
        policy, ahead = kind
        pool = BlockPool(num_blocks, block_size)
        if groups is not None and policy is ChunkedPrefill:
            kept = [BlockGroup(2, 2 * block_size, None, 99), BlockGroup(1, block_size, 7, 99)]
            pool = GroupedPool(2 * num_blocks, kept, states=1, lag=ahead and groups)
        self.scheduler = policy(
            pool, ORDERS[order](),
            Settings(max_num_seqs=6, token_budget=24, windows=windows, ahead=ahead),
        )  # fmt: skip
        self.admitted = self.finished = self.preempted = 0

    @rule(prompt=st.integers(1, 60), output=st.integers(1, 60), priority=st.integers(0, 2))
    def arrive(self, prompt: int, output: int, priority: int) -> None:
        if self.scheduler.fits(prompt, output):
            row = Sequence(self.admitted, float(self.admitted), prompt, output, priority)
            self.scheduler.admit(row)
            self.admitted += 1

    @precondition(lambda self: self.admitted > self.finished)
    @rule(share=st.integers(0, 1000))  # not drawn between two calls: hypothesis may stop there
    def compute(self, share: int) -> None:
        batch = self.scheduler.next_batch(1e9)
        assert batch is not None, "requests wait, and nothing can be computed"
        self.preempted += len(batch.preempted)
        steps = 1 + share % batch.steps
        self.finished += len(self.scheduler.complete(batch, steps))

    @precondition(lambda self: self.admitted > self.finished)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        some = sorted(self.scheduler.unfinished(), key=lambda each: each.request)
        assert self.scheduler.abort(victim := data.draw(st.sampled_from(some)))
        assert not self.scheduler.abort(victim), "it is here no longer"
        self.finished += 1

    @invariant()
    def blocks_add_up(self) -> None:
        scheduler, pool, held = self.scheduler, self.scheduler.pool, 0
        for row in scheduler.running:
            tokens = row.kv_tokens
            if row.finish_step >= 0:
                tokens += scheduler.decoding.step - row.joined_step
                scheduler.decoding.note(row)
            grouped = isinstance(pool, GroupedPool)
            held += pool.held_by(row, tokens) if grouped else pool.blocks(tokens)
        pool.check_integrity(held)
        assert len(scheduler.running) <= scheduler.max_num_seqs

    @invariant()
    def tokens_add_up(self) -> None:
        scheduler, tokens = self.scheduler, 0
        for row in scheduler.unfinished():
            tokens += row.prompt_tokens + row.generated_tokens
            if row.finish_step >= 0:
                tokens += scheduler.decoding.step - row.joined_step
        assert scheduler.outstanding_tokens() == tokens

    def teardown(self) -> None:
        # Static: padding leaves with its batch. Planning ahead, who was given up is computed again.
        while (batch := self.scheduler.next_batch(1e9)) is not None:
            self.finished += len(self.scheduler.complete(batch, batch.steps))
        assert self.finished == self.admitted
        assert self.scheduler.pool.held == 0
        assert self.scheduler.outstanding_tokens() == 0


KvCacheMachine.TestCase.settings = settings(tries(100), stateful_step_count=40)
TestKvCache = KvCacheMachine.TestCase


def test_the_pool_refuses_what_it_does_not_have() -> None:
    pool = BlockPool(4, 16)
    pool.take(3)
    with pytest.raises(ValueError, match="cannot take 2 blocks, 1 of 4 free"):
        pool.take(2)
    with pytest.raises(ValueError, match="cannot give back 4 blocks, 3 are held"):
        pool.give(4)
    with pytest.raises(AssertionError, match="3 blocks are held, sequences hold 2: expected equal"):
        pool.check_integrity(2)
    with pytest.raises(ValueError, match="num_blocks = 0"):
        BlockPool(0, 16)
    with pytest.raises(ValueError, match="block_size = 0"):
        BlockPool(1, 0)


def test_blocks_are_whole() -> None:
    pool = BlockPool(10, 16)
    assert [pool.blocks(tokens) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]


def test_a_window_holds_what_it_attends() -> None:
    """window 6, blocks of 4: of 11 tokens the first block is left behind when 9 are computed."""
    group = BlockGroup(1, 4, 6, most=99)
    assert [group.behind(computed) for computed in (5, 6, 8, 9, 12, 13)] == [0, 0, 0, 1, 1, 2]
    pool = GroupedPool(10, [group, BlockGroup(2, 8, None, most=99)], states=1)
    assert [pool.blocks(tokens) for tokens in (0, 1, 8, 9)] == [0, 4, 5, 8]
    sequence = Sequence(0, 0.0, 11, 5, 0)
    pool.start(sequence, 9)
    assert pool.free == 2
    assert pool.grow(sequence, 9, 2) == 0
    assert pool.free == 3
    assert pool.held_by(sequence, 11) == 7
    late = GroupedPool(10, [group], lag=True)
    late.start(sequence, 9)
    assert (late.grow(sequence, 9, 2), late.free) == (0, 7)  # the first 9 are not done yet
    assert (late.grow(sequence, 11, 1), late.free) == (0, 8)


def test_the_longest_request_is_bounded_by_its_windows() -> None:
    pool = GroupedPool(20, [BlockGroup(1, 4, None, 99), BlockGroup(2, 4, 8, most=3)])
    assert pool.longest_tokens(20) == 4 * (20 - 2 * 3)
    assert pool.lacks(56) == 20
    assert GroupedPool(20, [BlockGroup(2, 4, 8, most=3)]).longest_tokens(20) > 10**9
