"""Planning a step ahead, as whole logs: what is known late, and what is not."""

import numpy as np
import pytest

from sim.engine.chunked_prefill import ChunkedPrefill
from sim.settings.engine_config import EngineConfig
from sim.simulation import simulate
from tests.sim import small
from tests.sim.test_scheduler import log, log_of, sequence, settings


def test_a_seat_is_free_one_step_later() -> None:
    scheduler = ChunkedPrefill(**settings(max_num_seqs=2, ahead=True))
    assert log(scheduler, sequence(0, 4, 2), sequence(1, 4, 5), sequence(2, 4, 1)) == [
        (0, 0, [(0, 4, 0), (1, 4, 0)], []),
        (2, 0, [], [0]),
        (1, 0, [], []),  # planned before row 0 had ended
        (1, 0, [(2, 4, 0)], [2]),
        (1, 0, [], [1]),
    ]


def test_blocks_are_free_one_step_later() -> None:
    # 3 blocks of 4: rows 0 and 1 hold one each; row 2 needs two.
    scheduler = ChunkedPrefill(**settings(num_blocks=3, ahead=True))
    assert log(scheduler, sequence(0, 3, 2), sequence(1, 1, 4), sequence(2, 8, 1)) == [
        (0, 0, [(0, 3, 0), (1, 1, 0)], []),
        (2, 0, [], [0]),
        (1, 0, [], []),
        (1, 0, [(2, 8, 0)], [1, 2]),
    ]


def test_an_arrival_is_seen_by_the_plan_after_the_next() -> None:
    scheduler = ChunkedPrefill(**settings(ahead=True))
    log_of(scheduler, sequence(0, 4, 9), steps=2)
    assert log_of(scheduler, sequence(1, 4, 1), steps=2) == [
        (1, 0, [], []),
        (1, 0, [(1, 4, 0)], [1]),
    ]


def test_an_empty_plan_is_made_again_with_all_that_is_known() -> None:
    scheduler = ChunkedPrefill(**settings(max_num_seqs=1, ahead=True))
    assert log(scheduler, sequence(0, 4, 1), sequence(1, 4, 1)) == [
        (0, 0, [(0, 4, 0)], [0]),
        (0, 0, [(1, 4, 0)], [1]),
    ]


def test_who_has_ended_is_thrown_out_first_and_loses_nothing() -> None:
    # 4 blocks of 4. After the third step rows 0 and 1 hold two each, row 1 has ended; row 0 needs a
    # third: the newest is row 1, whose blocks would be free a step later.
    scheduler = ChunkedPrefill(**settings(num_blocks=4, ahead=True))
    first, second = sequence(0, 6, 5), sequence(1, 6, 3)
    assert log(scheduler, first, second) == [
        (0, 0, [(0, 6, 0), (1, 6, 0)], []),
        (2, 0, [], []),
        (2, 0, [], [1]),
        (1, 0, [], []),
        (1, 0, [], [0]),
    ]
    assert (first.preemptions, second.preemptions) == (0, 0)


def test_a_first_token_waits_for_one_more_step() -> None:
    requests = small.requests([0.0, 0.0105], [5, 5], [60, 2])
    now, ahead = (
        simulate(small.scenario(async_scheduling=planned), requests) for planned in (False, True)
    )
    for result, steps in ((now, 1), (ahead, 2)):
        ends_s = result.step_end_s
        in_progress = int(np.searchsorted(ends_s, 0.0105))
        assert result.requests["first_scheduled_s"][1] == ends_s[in_progress + steps - 1]


def test_only_vllm_v1_plans_ahead() -> None:
    with pytest.raises(ValueError, match="async_scheduling: true with scheduler: static, expected"):
        EngineConfig(scheduler="static", async_scheduling=True)


@pytest.mark.parametrize("ahead", [False, True])
def test_the_first_step_after_idling_starts_late(ahead: bool) -> None:
    requests = small.requests([0.0, 1.0], [4, 4], [3, 3])
    prompt = simulate(small.scenario(async_scheduling=ahead), requests)
    late = simulate(small.scenario(async_scheduling=ahead, idle_start_s=0.25), requests)
    np.testing.assert_allclose(late.step_end_s, prompt.step_end_s + 0.25, rtol=1e-12)
    assert late.requests["first_scheduled_s"].tolist() == [0.0, 1.0]


def test_who_is_given_up_is_in_the_step_that_was_planned() -> None:
    scheduler = ChunkedPrefill(**settings(ahead=True))
    stays, goes, prompt = sequence(0, 4, 9), sequence(1, 4, 9), sequence(2, 40, 9)
    log_of(scheduler, stays, goes, steps=2)
    log_of(scheduler, prompt, steps=2)
    assert scheduler.abort(goes)
    assert scheduler.abort(prompt)
    assert scheduler.outstanding_tokens() == 4 + 4  # those of row 0: four were generated
    batch = scheduler.next_batch(0.0)
    assert batch is not None
    assert (batch.decodes, batch.padding, len(batch.chunks)) == (1, 1, 1)  # both in vain
    scheduler.complete(batch)
    assert scheduler.running == {stays: None}
    assert log_of(scheduler, steps=1) == [(1, 0, [], [])]


def test_nobody_is_admitted_beside_an_ended_request_whose_blocks_were_taken() -> None:
    # As above, with row 2 in line: it fits in when row 1 has left, but not in that plan.
    scheduler = ChunkedPrefill(**settings(num_blocks=4, max_num_seqs=3, ahead=True))
    events = log(scheduler, sequence(0, 6, 5), sequence(1, 6, 3), sequence(2, 1, 1))
    assert events[3:] == [(1, 0, [], []), (1, 0, [(2, 1, 0)], [0, 2])]
