"""Warm-up, window and saturation, on queues whose behaviour is known."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sim.measuring.caveats import caveats
from sim.measuring.metrics import summarise
from sim.measuring.steady_state import BATCHES, STUDENT_T, measured_window, saturated
from sim.recording.result import FINISHED, REQUEST_COLUMNS, SEGMENT_COLUMNS, UNFINISHED, Result
from sim.simulation import simulate
from tests.sim import small


def queue_result(arrival_s: Any, service_s: Any) -> Result:
    """One server, first come first served, one step per request: only what saturation needs."""
    finish, free = np.empty(len(arrival_s)), 0.0
    for row, (arrival, service) in enumerate(zip(arrival_s, service_s, strict=True)):
        finish[row] = free = max(arrival, free) + service
    rows = len(finish)
    requests = {name: np.zeros(rows) for name in REQUEST_COLUMNS}
    requests |= {
        "arrival_s": np.asarray(arrival_s, dtype=float),
        "first_scheduled_s": finish - service_s,
        "first_token_s": finish,
        "finish_s": finish,
        "timed_out_s": np.full(rows, np.nan),
        "output_tokens": np.ones(rows),
        "status": np.full(rows, FINISHED),
    }
    segments = {name: np.zeros(rows, dtype=np.int64) for name in SEGMENT_COLUMNS}
    segments |= {"start_s": finish - service_s, "end_s": finish, "steps": np.ones(rows, np.int64)}
    return Result(
        requests=requests, segments=segments, step_end_s=finish,
        resumed_gap_s=np.empty(0), resumed_end_s=np.empty(0), reads=((),),
        replicas=small.replica_table(1, segments, num_gpu_blocks=1), end_s=float(finish[-1]),
    )  # fmt: skip


def mm1(load: float, seed: int, count: int = 1000) -> Result:
    rng = np.random.default_rng(seed)
    return queue_result(rng.exponential(1.0, count).cumsum(), rng.exponential(load, count))


def is_saturated(result: Result, warmup_fraction: float = 0.1) -> float:
    return saturated(result, measured_window(result, warmup_fraction))


def served_at_once(arrival_s: Any, service_s: Any) -> Result:
    """Nobody waits: only the number in service changes."""
    arrival = np.asarray(arrival_s, dtype=float)
    result = queue_result(arrival, np.zeros(len(arrival)))
    result.requests["finish_s"] = arrival + service_s
    return replace(result, end_s=float((arrival + service_s).max()))


def saturated_runs(load: float, runs: int, count: int = 1000) -> int:
    return sum(int(is_saturated(mm1(load, seed, count))) for seed in range(runs))


@pytest.mark.parametrize(
    ("load", "count", "runs", "least", "most"),
    [
        (0.7, 1000, 50, 0, 0),
        (0.9, 1000, 100, 0, 4),
        (0.95, 1000, 100, 0, 10),
        (1.0, 1000, 100, 0, 24),
        (1.02, 100_000, 5, 3, 5),
        (1.05, 10_000, 20, 9, 20),
        (1.2, 1000, 50, 39, 50),
        (1.5, 1000, 50, 50, 50),
    ],
)
def test_saturation_of_a_queue_below_at_and_above_capacity(
    load: float, count: int, runs: int, least: int, most: int
) -> None:
    """M/M/1 queues, with the probabilities that ``saturated`` states.

    The bounds are binomial: with fresh seeds each would fail the implementation about once in
    10,000 to 100,000 times. They are loose enough not to freeze it, and tight enough to see a
    rule that is blind or alarmed.
    """
    assert least <= saturated_runs(load, runs, count) <= most


@pytest.mark.parametrize("count", [500, 2000, 8000])
def test_constant_overload_of_one_percent_is_saturation_at_any_length(count: int) -> None:
    """D/D/1: the wait of the last is 1% of the run; just below capacity nobody waits."""
    assert is_saturated(queue_result(np.arange(count) / 1.01, np.ones(count))) == 1
    assert is_saturated(queue_result(np.arange(count) / 0.999, np.ones(count))) == 0


def test_student_t_quantile() -> None:
    from scipy.stats import t

    assert pytest.approx(t.ppf(0.975, BATCHES - 2), rel=1e-12) == STUDENT_T


def test_saturation_cannot_be_told_of_few_requests_or_of_a_short_run() -> None:
    assert math.isnan(is_saturated(queue_result(np.arange(20.0), np.full(20, 2.0)), 0.0))
    assert math.isnan(is_saturated(served_at_once(np.arange(100.0), 60.0)))
    assert is_saturated(served_at_once(np.arange(300.0), 60.0)) == 0


def test_filling_an_empty_system_is_not_saturation() -> None:
    """Service slows down as the batch grows: the number in system rises all along, without queue.

    Nor is the rise of the queueing delay from nothing to the length of a step, all along.
    """
    arrival = np.arange(400.0)
    result = served_at_once(arrival, 20 + 0.2 * arrival)
    assert is_saturated(result) == 0
    step_s = 0.5 + 2 * arrival / 400
    result.requests["first_scheduled_s"] = arrival + step_s
    segments = {**result.segments, "start_s": arrival - step_s, "end_s": arrival}
    assert is_saturated(replace(result, segments=segments)) == 0
    result.requests["first_scheduled_s"] = arrival + 10 * step_s
    assert is_saturated(replace(result, segments=segments)) == 1


def test_a_queue_that_came_to_rest_or_shrank_again_is_not_saturation() -> None:
    """A peak of twice the capacity within an idle hour; the same, and then exactly capacity."""
    peak = np.concatenate((np.arange(0, 400, 2.0), 400 + np.arange(0, 200, 0.5)))
    after = {"shrank": np.arange(602, 1800, 2.0), "rests": np.arange(601, 2400, 1.0)}
    for name, times in after.items():
        arrival = np.concatenate((peak, times))
        assert is_saturated(queue_result(arrival, np.ones(len(arrival)))) == 0, name
    assert is_saturated(queue_result(peak[200:], np.ones(400))) == 1


def test_closed_loops_and_bursts_are_never_saturated() -> None:
    rows = 600
    scenario = small.scenario(max_num_seqs=8)
    loop = small.requests([], [10] * rows, [20] * rows, users=400, think_s=[0.0] * rows)
    result = simulate(scenario, loop)
    assert result.closed_loop
    assert is_saturated(result) == 0
    burst = simulate(scenario, small.requests([0.0] * rows, [10] * rows, [20] * rows))
    assert not burst.closed_loop
    assert is_saturated(burst) == 0


def test_the_window_ends_with_the_arrivals_however_long_the_service_lasts() -> None:
    for gap_s in (0.9, 0.1):
        result = queue_result(np.arange(1000) * gap_s, np.ones(1000))
        window = measured_window(result, 0.1)
        assert (window.start_s, window.stop_s) == pytest.approx((100 * gap_s, 999 * gap_s))
        finished = window.holds(result.requests["finish_s"].astype(float)).sum()
        assert finished / window.length_s == pytest.approx(1.0, abs=0.02)


def test_more_traffic_gives_no_less_throughput() -> None:
    """Common random numbers, from half of what eight sequences can do to four times as much.

    The window holds other tokens at every rate, hence a tolerance: 3% of the rate before.
    """
    scenario = small.scenario(max_num_seqs=8)
    rows, sigma = 400, math.sqrt(math.log(2))
    for seed in range(3):
        rng = np.random.default_rng([seed, 7])
        gaps = rng.exponential(1.0, rows)
        outputs = np.clip(rng.lognormal(math.log(40) - sigma**2 / 2, sigma, rows), 1, 300)
        outputs = outputs.round().astype(int)
        found = []
        for rate_per_s in (90.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 500.0, 700.0):
            arrival_s = (gaps.cumsum() / rate_per_s).tolist()
            requests = small.requests(arrival_s, [10] * rows, outputs.tolist())
            found.append(summarise(simulate(scenario, requests), scenario)["output_tokens_per_s"])
        assert all(more > 0.97 * less for less, more in pairwise(found)), found


def test_a_window_in_which_nothing_finishes_is_told() -> None:
    scenario = small.scenario(max_num_seqs=8)
    requests = small.requests([0.0, 0.01, 0.02], [10] * 3, [300] * 3)
    values = summarise(simulate(scenario, requests), scenario)
    assert values["request_throughput_per_s"] == 0
    assert any(note.startswith("the run is short: its window is less") for note in caveats(values))


def test_everything_at_once_has_no_warmup() -> None:
    window = measured_window(queue_result(np.full(10, 3.0), np.ones(10)), 0.1)
    assert (window.start_s, window.stop_s) == (3.0, 13.0)
    assert window.measured.all()


def test_something_must_arrive() -> None:
    late = replace(queue_result(np.full(3, 9.0), np.ones(3)), end_s=1.0)
    late.requests["status"][:] = UNFINISHED
    with pytest.raises(ValueError, match="no request arrived, expected at least one to measure"):
        measured_window(late, 0.1)


def test_the_queue_of_a_pool_is_judged_over_the_window_of_the_whole_run() -> None:
    """Also where no session begins there, or nobody is sent at all."""
    whole = mm1(1.3, 3)
    window = measured_window(whole, 0.1)
    rows = len(window.measured)
    turns = {"turn": np.ones(rows, np.int64), "session": np.arange(rows)}
    assert is_saturated(whole) == 1.0
    assert saturated(replace(whole, requests=whole.requests | turns), window) == 1.0
    nobody = {name: column[:0] for name, column in (whole.requests | turns).items()}
    none = replace(window, measured=window.measured[:0])
    assert math.isnan(saturated(replace(whole, requests=nobody), none))
