"""What each scheduler puts into its steps, as whole event logs."""

from math import inf
from typing import Any

import pytest

from sim.engine.agenda import Agenda
from sim.engine.arrivals import Coming
from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.journal import Journal
from sim.engine.loop import Loop
from sim.engine.machine import Priced
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence
from sim.engine.settings import Settings
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.recording.result import FINISHED, REJECTED
from sim.settings.registry import ORDERS
from sim.simulation import simulate
from tests.sim import small


def settings(**changes: Any) -> dict[str, Any]:
    """Of a scheduler with 100 blocks of 4 tokens, or as many as ``num_blocks`` says."""
    numbers = {"max_num_seqs": 4, "token_budget": 16} | changes
    pool = BlockPool(numbers.pop("num_blocks", 100), numbers.pop("block_size", 4))
    queue = ORDERS[numbers.pop("order", "fcfs")]()
    return {"pool": pool, "waiting": queue, "settings": Settings(**numbers)}


def sequence(row: int, prompt: int, output: int, priority: int = 0) -> Sequence:
    return Sequence(row, float(row), prompt, output, priority)


def log(scheduler: Scheduler, *sequences: Sequence) -> list[tuple]:
    """Run to the end, one step at a time: (decodes, padding, chunks, rows that ended)."""
    return log_of(scheduler, *sequences, steps=1000)


def log_of(scheduler: Scheduler, *sequences: Sequence, steps: int) -> list[tuple]:
    """The same for so many steps."""
    for each in sequences:
        scheduler.admit(each)
    events: list[tuple] = []
    while len(events) < steps and (batch := scheduler.next_batch(1e9)) is not None:
        ended = [each.request for each in scheduler.complete(batch)]
        chunks = [
            (s.request, *chunk) for s, chunk in zip(batch.prefills, batch.chunks, strict=True)
        ]
        events.append((batch.decodes, batch.padding, chunks, ended))
        held = sum(scheduler.pool.blocks(_kv_tokens(scheduler, s)) for s in scheduler.running)
        scheduler.pool.check_integrity(held)
    return events


def _kv_tokens(scheduler: Scheduler, sequence: Sequence) -> int:
    if sequence.finish_step < 0:
        return sequence.kv_tokens
    return sequence.kv_tokens + scheduler.decoding.step - sequence.joined_step


def test_chunked_prefill_decodes_first_and_fills_the_budget() -> None:
    events = log(ChunkedPrefill(**settings()), sequence(0, 10, 3), sequence(1, 20, 2))
    assert events == [
        (0, 0, [(0, 10, 0), (1, 6, 0)], []),
        (1, 0, [(1, 14, 6)], []),
        (2, 0, [], [0, 1]),
    ]


def test_long_prefill_token_threshold_caps_each_chunk() -> None:
    scheduler = ChunkedPrefill(**settings(long_prefill_token_threshold=5))
    events = log(scheduler, sequence(0, 8, 1), sequence(1, 6, 1))
    assert events == [
        (0, 0, [(0, 5, 0), (1, 5, 0)], []),
        (0, 0, [(0, 3, 5), (1, 1, 5)], [0, 1]),
    ]


def test_prefill_first_interrupts_decodes_with_whole_prompts() -> None:
    scheduler = PrefillFirst(**settings())
    scheduler.admit(sequence(0, 10, 3))
    first = scheduler.next_batch(0.0)
    assert first is not None
    scheduler.complete(first)
    events = log(scheduler, sequence(1, 8, 2), sequence(2, 9, 1))
    assert events == [
        (0, 0, [(1, 8, 0)], []),  # 8 + 9 would break the budget of 16
        (0, 0, [(2, 9, 0)], [2]),
        (2, 0, [], [1]),
        (1, 0, [], [0]),
    ]


def test_a_prompt_longer_than_the_budget_is_a_step_of_its_own() -> None:
    events = log(PrefillFirst(**settings()), sequence(0, 40, 1), sequence(1, 3, 1))
    assert events == [(0, 0, [(0, 40, 0)], [0]), (0, 0, [(1, 3, 0)], [1])]


def test_static_computes_ended_rows_until_the_batch_ends() -> None:
    scheduler = Static(**settings(max_num_seqs=2, batch_timeout_s=1.0))
    events = log(scheduler, sequence(0, 4, 1), sequence(1, 4, 3), sequence(2, 4, 2))
    assert events == [
        (0, 0, [(0, 4, 0), (1, 4, 0)], [0]),
        (1, 1, [], []),
        (1, 1, [], [1]),
        (0, 0, [(2, 4, 0)], []),
        (1, 0, [], [2]),
    ]


def test_static_waits_for_a_full_batch_or_the_timeout() -> None:
    scheduler = Static(**settings(max_num_seqs=2, batch_timeout_s=1.5))
    scheduler.admit(sequence(0, 4, 1))
    assert scheduler.next_batch(1.0) is None
    assert scheduler.wake_s == 1.5
    batch = scheduler.next_batch(1.5)
    assert batch is not None
    assert batch.chunks == [(4, 0)]


def test_prefill_first_wants_a_free_block_for_each_decode_needed_or_not() -> None:
    # 4 blocks of 4, all held after the second step, half of each second one empty: row 1 goes.
    scheduler = PrefillFirst(**settings(num_blocks=4))
    assert log(scheduler, sequence(0, 4, 3), sequence(1, 4, 3)) == [
        (0, 0, [(0, 4, 0), (1, 4, 0)], []),
        (2, 0, [], []),
        (1, 0, [], [0]),
        (0, 0, [(1, 6, 0)], [1]),
    ]


def test_prefill_first_throws_out_a_request_alone_and_computes_it_again_token_by_token() -> None:
    alone = sequence(0, 4, 4)
    assert log(PrefillFirst(**settings(num_blocks=2)), alone) == [
        (0, 0, [(0, 4, 0)], []),
        (1, 0, [], []),
        (0, 0, [(0, 6, 0)], []),
        (0, 0, [(0, 7, 0)], [0]),
    ]
    assert alone.preemptions == 2


@pytest.mark.parametrize("kind", [ChunkedPrefill, Static])
def test_preemption_takes_the_newest_and_computes_it_again(kind: type[Scheduler]) -> None:
    # 4 blocks of 4: both prompts take one block each; each sequence needs 3 in the end.
    scheduler = kind(**settings(num_blocks=4))
    events = log(scheduler, sequence(0, 4, 9), sequence(1, 4, 9))
    again = [chunk for _, _, chunks, _ in events for chunk in chunks][2:]
    # After four decodes of both (blocks 2 + 2) the next block is not to be had: row 1 goes, with
    # 4 + 1 + 4 tokens to compute when row 0 has ended.
    assert [chunk[0] for chunk in again] == [1]
    assert again[0][1] == 9
    assert [row for *_, ended in events for row in ended] == [0, 1]
    assert scheduler.pool.held == 0


def test_priority_preempts_the_least_important() -> None:
    scheduler = ChunkedPrefill(**settings(num_blocks=4, order="priority"))
    first, second = sequence(0, 4, 9, priority=5), sequence(1, 4, 9, priority=1)
    log(scheduler, first, second)
    assert (first.preemptions, second.preemptions) == (1, 0)


def test_a_request_that_is_thrown_out_for_its_own_sake_ends_the_round() -> None:
    # 7 blocks of 4: rows 0 and 1 take 3 and 2, row 2 comes later and takes 2. In the fourth step
    # row 1 (8 tokens) needs a block, is itself the least important, and goes; row 2, behind it,
    # gets no token in that step, as in vLLM. Then row 0 takes one of the two free blocks; row 1
    # needs three for its 6 + 3 tokens, and comes back when row 2 has ended.
    scheduler = ChunkedPrefill(**settings(num_blocks=7, order="priority"))
    first = log_of(scheduler, sequence(0, 9, 6, 0), sequence(1, 6, 4, 2), steps=1)
    assert first == [(0, 0, [(0, 9, 0), (1, 6, 0)], [])]
    assert log(scheduler, sequence(2, 5, 3, 1)) == [
        (2, 0, [(2, 5, 0)], []),
        (3, 0, [], []),
        (1, 0, [], []),
        (2, 0, [], [2]),
        (1, 0, [(1, 9, 0)], [0, 1]),
    ]


@pytest.mark.parametrize(
    ("order", "served"),
    [("fcfs", [0, 1, 2]), ("shortest_prompt", [1, 2, 0]), ("priority", [2, 1, 0])],
)
def test_orders(order: str, served: list[int]) -> None:
    scheduler = ChunkedPrefill(**settings(max_num_seqs=1, order=order))
    rows = [sequence(0, 9, 1, 3), sequence(1, 2, 1, 2), sequence(2, 5, 1, 1)]
    events = log(scheduler, *rows)
    assert [row for *_, ended in events for row in ended] == served


def test_watermark_keeps_blocks_free_when_admitting() -> None:
    scheduler = PrefillFirst(**settings(num_blocks=10, watermark_blocks=3))
    events = log(scheduler, sequence(0, 12, 2), sequence(1, 16, 2), sequence(2, 4, 1))
    # 3 blocks, then 4 would leave 3; the third prompt would leave 2 and waits.
    assert events[0][2] == [(0, 12, 0)]
    assert events[1][2] == [(1, 16, 0)]
    assert events[2][:3] == (2, 0, [])


def test_fits_counts_whole_blocks_and_the_watermark() -> None:
    scheduler = PrefillFirst(**settings(num_blocks=10, watermark_blocks=2))
    assert scheduler.fits(30, 3)  # 32 tokens in the cache: the last one is never computed
    assert not scheduler.fits(30, 4)
    chunked = ChunkedPrefill(**settings(num_blocks=10, watermark_blocks=2))
    assert chunked.fits(30, 11)  # alone it may use all blocks
    assert not chunked.fits(30, 12)


def test_chunked_prefill_keeps_the_watermark_but_for_the_first_of_a_batch() -> None:
    scheduler = ChunkedPrefill(**settings(num_blocks=6, watermark_blocks=3, token_budget=32))
    events = log(scheduler, sequence(0, 16, 2), sequence(1, 4, 1))
    # 4 of 6 blocks; one more would leave 1.
    assert [chunks for _, _, chunks, _ in events] == [[(0, 16, 0)], [], [(1, 4, 0)]]


def test_a_prompt_starts_only_when_all_of_it_fits() -> None:
    for reserve, first in ((False, [(0, 8, 0), (1, 4, 0)]), (True, [(0, 8, 0)])):
        scheduler = ChunkedPrefill(
            **settings(num_blocks=6, token_budget=12, long_prefill_token_threshold=8,
            scheduler_reserve_full_isl=reserve),
        )  # fmt: skip
        events = log(scheduler, sequence(0, 16, 1), sequence(1, 20, 1))
        # 4 blocks are left: for a chunk of the second prompt, not for all of it.
        assert events[0][2] == first


def test_blocks_of_a_prompt_that_has_started_are_not_set_aside() -> None:
    scheduler = ChunkedPrefill(
        **settings(num_blocks=6, token_budget=12, long_prefill_token_threshold=4,
        scheduler_reserve_full_isl=True),
    )  # fmt: skip
    events = log(scheduler, sequence(0, 16, 1), sequence(1, 16, 1))
    assert events[0][2] == [(0, 4, 0), (1, 4, 0)]


def test_a_prompt_that_is_alone_need_not_be_cut() -> None:
    for limits, first in ((True, [(0, 4, 0)]), (False, [(0, 12, 0)])):
        scheduler = ChunkedPrefill(
            **settings(token_budget=12, long_prefill_token_threshold=4,
            long_prefill_limits_alone=limits),
        )  # fmt: skip
        assert log(scheduler, sequence(0, 20, 1))[0][2] == first
    both = log(scheduler, sequence(1, 20, 1), sequence(2, 20, 1))
    assert both[0][2] == [(1, 4, 0), (2, 4, 0)]


def test_the_null_block_is_never_given_out() -> None:
    row = small.requests([0.0], [8], [9])  # 16 tokens in the cache
    for null_block, status in ((False, FINISHED), (True, REJECTED)):
        setup = small.scenario(num_gpu_blocks=4, block_size=4, null_block=null_block)
        assert simulate(setup, row).requests["status"].tolist() == [status]
    with pytest.raises(ValueError, match="num_gpu_blocks = 1 with null_block: true leaves no"):
        small.scenario(num_gpu_blocks=1, null_block=True)


def test_a_scheduler_that_waits_for_the_past_ends() -> None:
    scheduler = PrefillFirst(**settings())
    scheduler.wake_s = 0.5
    machine = Priced(small.scenario().pool.price.prices)
    nobody, agenda = Coming(iter(())), Agenda([])
    loop = Loop(0, scheduler, machine, 0.0, Journal(1000), nobody, agenda, lambda *finished: None)
    assert loop.go_on(0.0, 0.4) == 0.5
    with pytest.raises(ValueError, match=r"the scheduler waits for 0\.5 s at 0\.5 s"):
        loop.go_on(0.5, inf)


@pytest.mark.parametrize("order", ["shortest_prompt", "priority"])
def test_equal_ranks_take_their_turn_in_the_order_of_arrival(order: str) -> None:
    """And who came at one instant in that of their numbers, also after a preemption."""
    queue = ORDERS[order]()
    rows = [Sequence(row, arrival_s, 5, 5, 1) for row, arrival_s in enumerate((2.0, 1.0, 2.0, 0.5))]
    for each in reversed(rows):
        queue.push(each)
    assert queue.pop() is rows[3]
    queue.push_back(rows[3])
    assert [queue.pop().request for _ in rows] == [3, 1, 0, 2]
