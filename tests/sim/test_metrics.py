"""Every metric against a toy engine that logs each token, and a reference that reads that log."""

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.measuring.bins import bin_of
from sim.measuring.caveats import caveats
from sim.measuring.latencies import LATENCIES
from sim.measuring.metrics import METRICS, summarise
from sim.measuring.percentiles import percentiles, unsupported
from sim.measuring.slo import Slo
from sim.measuring.timeline import timeline
from sim.measuring.token_gaps import token_gaps
from sim.measuring.weighted import weighted_statistics
from tests.sim.toy_metrics import interpolated, reference, reference_kv
from tests.sim.toy_runs import BLOCKS, done, scenario, toy_run
from tests.tries import tries

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@tries(200)
@given(
    seed=st.integers(0, 10**6),
    replicas=st.integers(1, 3),
    mixed=st.booleans(),
    stop_s=st.sampled_from([math.inf, 3.0, 6.0]),
    warmup=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_equals_reference(
    seed: int, replicas: int, mixed: bool, stop_s: float, warmup: float
) -> None:
    result, requests, steps = toy_run(seed, replicas, mixed, stop_s)
    if requests[0].arrival_s > result.end_s:
        return
    slo = Slo(ttft_s=0.5, tpot_s=0.2, e2e_s=2.0)
    setting = scenario(gpu_usd_per_hour=6.0 / replicas, replicas=replicas)
    summary = summarise(result, setting, slo, warmup)
    assert list(summary) == list(METRICS)
    assert all(type(value) is float for value in summary.values())
    assert (
        summary["goodput_per_s"] <= summary["request_throughput_per_s"] or not summary["window_s"]
    )
    del summary["saturated"]
    expected = reference(result, requests, steps, slo, warmup)
    for name, value in summary.items():
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-9, nan_ok=True), name


@tries(100)
@given(seed=st.integers(0, 10**6), replicas=st.integers(1, 3), mixed=st.booleans())
def test_gaps_are_those_of_the_tokens(seed: int, replicas: int, mixed: bool) -> None:
    result, requests, _ = toy_run(seed, replicas, mixed)
    found = sorted(
        pair
        for gaps in token_gaps(result)
        for pair in zip(
            np.repeat(gaps.end_s, gaps.weight), np.repeat(gaps.gap_s, gaps.weight), strict=True
        )
    )
    logged = sorted(
        (b, b - a) for r in requests for a, b in zip(r.tokens_s, r.tokens_s[1:], strict=False)
    )
    assert found == logged


def test_a_step_cannot_decode_who_never_joined() -> None:
    result, _, _ = toy_run(3)
    segments = {**result.segments, "joined": np.zeros_like(result.segments["joined"])}
    with pytest.raises(ValueError, match=r"replica 0 decodes \d+ sequences in the step that ended"):
        list(token_gaps(replace(result, segments=segments)))


@tries(50)
@given(
    seed=st.integers(0, 10**6), replicas=st.integers(1, 3), stop_s=st.sampled_from([math.inf, 4.0])
)
def test_timeline_is_the_average_of_each_bin(seed: int, replicas: int, stop_s: float) -> None:
    result, requests, _ = toy_run(seed, replicas, stop_s=stop_s)
    line = timeline(result, bins=7)
    if result.end_s == 0:
        assert {len(values) for values in line.values()} == {0}
        return
    width = result.end_s / 7
    assert line["time_s"] == pytest.approx((np.arange(7) + 0.5) * width)
    for place, middle in enumerate(line["time_s"]):
        low, high = middle - width / 2, middle + width / 2

        def spent(begin: float, end: float, low: float = low, high: float = high) -> float:
            begin, end = (result.end_s if math.isnan(t) else t for t in (begin, end))
            return max(0.0, min(end, high) - max(begin, low)) / width

        served = [r for r in requests if not r.rejected]
        ends = [r.tokens_s[-1] if done(r) else r.given_up_s for r in served]
        begins = [r.given_up_s if math.isnan(r.scheduled_s) else r.scheduled_s for r in served]
        waiting = sum(spent(r.arrival_s, begin) for r, begin in zip(served, begins, strict=True))
        running = sum(spent(begin, end) for begin, end in zip(begins, ends, strict=True))
        kv, _ = reference_kv(result, low, high)
        assert line["waiting"][place] == pytest.approx(waiting, abs=1e-9)
        assert line["running"][place] == pytest.approx(running, abs=1e-9)
        assert line["kv_use"][place] == pytest.approx(kv / width / BLOCKS / replicas, abs=1e-9)


def test_timeline_needs_a_bin() -> None:
    with pytest.raises(ValueError, match="bins = 0, expected at least 1"):
        timeline(toy_run(1)[0], bins=0)


def test_warmup_fraction_is_checked() -> None:
    with pytest.raises(ValueError, match=r"warmup_fraction = 1.0, expected at least 0 and below 1"):
        summarise(toy_run(1)[0], scenario(), warmup_fraction=1.0)


@pytest.mark.parametrize("limit", [{"ttft_s": 0.0}, {"itl_s": 1.0}, {"attainment": 1.5}])
def test_slo_refuses(limit: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(limit))):
        Slo(**limit)


def test_caveats() -> None:
    clean = {"saturated": 0.0, "measured_requests": 1000.0, "unfinished": 0.0} | {
        "rejected": 0.0, "timed_out": 0.0,
    }  # fmt: skip
    assert caveats(clean) == []
    assert caveats({**clean, "service_per_window": 1 / 3, "measured_requests": 999.0}) == [
        "p99 rests on 999 requests"
    ]
    short = "the run is short: its window is {}, so rates are of a system still filling up"
    untold = "the run is too short to tell whether it is saturated"
    for part, words in (
        (0.34, "less than 3 x the mean time in service"),
        (0.6, "less than 2 x the mean time in service"),
        (40.0, "less than the mean time in service"),
        (math.inf, "0 s"),
    ):
        values = {**clean, "service_per_window": part, "saturated": math.nan}
        assert caveats(values) == [short.format(words), untold]
    assert caveats({**clean, "saturated": math.nan}) == [untold]
    assert caveats(
        {"saturated": 1.0, "measured_requests": 99.0, "unfinished": 3.0, "rejected": 2.0}
        | {"timed_out": 1.0}
    ) == [
        "saturated: the queue grows without bound, so latencies are of no steady state",
        "p90, p95 and p99 rest on 99 requests",
        "3 requests unfinished",
        "2 requests rejected: longer than max_model_len, or than the KV cache",
        "1 request timed out: latencies are of the others",
    ]
    assert caveats({**clean, "measured_requests": 0.0, "rejected": 1.0, "timed_out": 3.0}) == [
        "no measured request was answered: there are no latencies",
        "1 request rejected: longer than max_model_len, or than the KV cache",
        "3 requests timed out",
    ]
    assert caveats({**clean, "measured_requests": 1.0})[0].endswith(" rest on 1 request")
    assert unsupported(199) == [95, 99]


def test_every_latency_has_its_statistics_among_the_metrics() -> None:
    for name in LATENCIES:
        assert {f"{name}_{s}_s" for s in ("mean", "p50", "p90", "p95", "p99")} <= set(METRICS)


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(math.inf)), min_size=1, max_size=50))
def test_percentiles_of_infinite_samples(values: list[float]) -> None:
    found = percentiles(np.array(values))
    for percent, value in zip((50, 90, 95, 99), found, strict=True):
        assert value == pytest.approx(interpolated(sorted(values), percent))


def test_percentiles_of_nothing() -> None:
    nothing = np.empty(0)
    assert np.isnan(percentiles(nothing)).all()
    for sample in ([], [(nothing, np.empty(0, np.int64))], [(np.ones(1), np.zeros(1, np.int64))]):
        mean, tail, counts = weighted_statistics(partial(iter, sample))
        assert math.isnan(mean)
        assert not counts
        assert np.isnan(tail).all()


def counted(values: Floats, weights: Ints) -> dict[int, int]:
    """The weight in each bin, value by value."""
    expected: dict[int, int] = {}
    for number, weight in zip(bin_of(values).tolist(), weights.tolist(), strict=True):
        if weight:
            expected[number] = expected.get(number, 0) + weight
    return expected


@pytest.mark.parametrize(("short", "few"), [(100, 0), (8, 0), (0, 4), (0, 100)])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 9).map(float), st.floats(0, 1e300)),
            st.integers(0, 30),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 30),
)
def test_weighted_statistics_expand(
    short: int, few: int, pairs: list[tuple[float, int]], size: int
) -> None:
    """Sorted at once, searched digit by digit, or searched until few are left; counted in bins."""
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    rows = range(0, len(values), size)
    sample = [(values[row : row + size], weights[row : row + size]) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.measuring.weighted.FEW", few)
        patch.setattr("sim.measuring.weighted.SHORT", short)
        mean, found, counts = weighted_statistics(partial(iter, sample))
    assert counts == counted(values, weights)
    if weights.sum():
        ordered = np.sort(np.repeat(values, weights))
        ranks = [-(-percent * len(ordered) // 100) - 1 for percent in (50, 90, 95, 99)]
        assert found.tolist() == ordered[ranks].tolist()
        assert mean == pytest.approx(math.fsum(ordered) / len(ordered), rel=1e-12)


@pytest.mark.wallclock
def test_a_million_requests_in_seconds() -> None:
    """A hundred thousand rounds of a toy run, one after the other."""
    result, _, _ = toy_run(5, mixed=False)
    rounds = 10**6 // len(result.requests["status"])
    shift = np.repeat(np.arange(rounds) * (result.end_s + 1), len(result.requests["status"]))
    requests = {name: np.tile(column, rounds) for name, column in result.requests.items()}
    segments = {name: np.tile(column, rounds) for name, column in result.segments.items()}
    for name in ("arrival_s", "first_scheduled_s", "first_token_s", "finish_s"):
        requests[name] = requests[name] + shift
    step_shift = np.repeat(np.arange(rounds) * (result.end_s + 1), len(result.segments["steps"]))
    for name in ("start_s", "end_s"):
        segments[name] = segments[name] + step_shift
    ends = np.repeat(np.arange(rounds) * (result.end_s + 1), len(result.step_end_s))
    long = replace(
        result,
        requests=requests,
        segments=segments,
        step_end_s=np.tile(result.step_end_s, rounds) + ends,
        end_s=result.end_s * rounds + rounds - 1,
    )
    began = time.perf_counter()
    summary = summarise(long, scenario())
    assert time.perf_counter() - began < 8  # about 1 s; the bound leaves room for busy machines
    assert summary["requests"] == rounds * len(result.requests["status"])
