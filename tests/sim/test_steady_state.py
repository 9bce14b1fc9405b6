"""Warm-up, window and saturation, on queues whose behaviour is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.result import FINISHED, REQUEST_COLUMNS, SEGMENT_COLUMNS, UNFINISHED, Result
from sim.steady_state import BATCHES, STUDENT_T, measured_window, saturated


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
        "output_tokens": np.ones(rows),
        "status": np.full(rows, FINISHED),
    }
    segments = {name: np.zeros(rows, dtype=np.int64) for name in SEGMENT_COLUMNS}
    segments |= {"start_s": finish - service_s, "end_s": finish, "steps": np.ones(rows, np.int64)}
    return Result(
        requests=requests, segments=segments, step_end_s=finish,
        resumed_gap_s=np.empty(0), resumed_end_s=np.empty(0), decode_context_tokens=0,
        prefill_pairs=0, prefill_kv_tokens=0, computed_prefill_tokens=0, blocks_allocated=0,
        blocks_freed=0, blocks_held=0, num_gpu_blocks=1, replicas=1, end_s=float(finish[-1]),
    )  # fmt: skip


def mm1(load: float, seed: int, count: int = 1000) -> Result:
    rng = np.random.default_rng(seed)
    return queue_result(rng.exponential(1.0, count).cumsum(), rng.exponential(load, count))


def is_saturated(result: Result, warmup_fraction: float = 0.1) -> float:
    return saturated(result, measured_window(result, warmup_fraction))


def saturated_runs(load: float, runs: int) -> int:
    return sum(int(is_saturated(mm1(load, seed))) for seed in range(runs))


def test_saturation_of_a_queue_below_at_and_above_capacity() -> None:
    """M/M/1 queues of 1000 requests; each bound fails a right implementation below 1e-5.

    At critical load the rule promises at most 5% of false alarms: 100 runs have more than 17 with
    probability P(Binomial(100, 0.05) > 17) = 2e-6. Half as much again of the capacity must be seen.
    """
    assert saturated_runs(0.7, 50) == 0
    assert saturated_runs(1.0, 100) <= 17
    assert saturated_runs(1.5, 50) == 50


def test_student_t_quantile() -> None:
    from scipy.stats import t

    assert pytest.approx(t.ppf(0.95, BATCHES - 1), rel=1e-12) == STUDENT_T


def test_saturation_cannot_be_told_of_a_burst_or_of_few_requests() -> None:
    burst = queue_result(np.zeros(100), np.ones(100))
    few = queue_result(np.arange(20.0), np.full(20, 2.0))
    for result in (burst, few):
        assert math.isnan(is_saturated(result, warmup_fraction=0.0))


def test_filling_an_empty_system_is_not_saturation() -> None:
    """Deterministic arrivals, each served at once for 60 s: the number in system rises to 60."""
    arrival = np.arange(200.0)
    result = queue_result(arrival, np.zeros(200))
    result.requests["finish_s"] = arrival + 60
    result = replace(result, end_s=259.0)
    assert is_saturated(result) == 0


def test_throughput_of_a_saturated_queue_is_its_capacity() -> None:
    """The window of a burst reaches to the end of the service; that of a stream does not."""
    for gap_s, stop_s in ((0.9, 899.1), (0.1, 1000.0)):
        result = queue_result(np.arange(1000) * gap_s, np.ones(1000))
        window = measured_window(result, 0.1)
        assert (window.start_s, window.stop_s) == pytest.approx((100 * gap_s, stop_s))
        finished = window.holds(result.requests["finish_s"].astype(float)).sum()
        assert finished / window.length_s == pytest.approx(1.0, abs=0.01)


def test_everything_at_once_has_no_warmup() -> None:
    window = measured_window(queue_result(np.full(10, 3.0), np.ones(10)), 0.1)
    assert (window.start_s, window.stop_s) == (3.0, 13.0)
    assert window.measured.all()


def test_something_must_arrive() -> None:
    late = replace(queue_result(np.full(3, 9.0), np.ones(3)), end_s=1.0)
    late.requests["status"][:] = UNFINISHED
    with pytest.raises(ValueError, match="no request arrived, expected at least one to measure"):
        measured_window(late, 0.1)
