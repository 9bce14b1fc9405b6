"""Every metric against a toy engine that logs each token, and a reference that reads that log."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hardware.calibration import Calibration
from hardware.evidence import CoveredRange
from hardware.prices.work import ReadTotals
from model.precision import precision
from sim.caveats import caveats
from sim.cluster_config import NO_CLIENT, ClusterConfig
from sim.engine_config import EngineConfig
from sim.latencies import LATENCIES
from sim.metrics import METRICS, summarise
from sim.percentiles import percentiles, unsupported, weighted_statistics
from sim.pools import Pool
from sim.result import (
    FINISHED,
    REJECTED,
    REQUEST_COLUMNS,
    SEGMENT_COLUMNS,
    TIMED_OUT,
    UNFINISHED,
    Result,
)
from sim.scenario import NO_API, Scenario
from sim.slo import Slo
from sim.timeline import timeline
from sim.token_gaps import token_gaps
from tests.sim import small
from tests.tries import tries

BLOCKS = 40
TOKEN_FLOPS, PAIR_FLOPS, STEP_BYTES, CONTEXT_BYTES = 100.0, 3.0, 1000.0, 7.0
CALIBRATION = Calibration(
    name="toy", source="made up",
    covered=CoveredRange(max_step_tokens=12, max_context_tokens=14, max_decodes=3),
)  # fmt: skip


class Price:
    """Linear work, so that its totals can be computed by hand."""

    def work(
        self,
        tokens: Any,
        sequences: Any,
        decodes: Any,
        reads: Iterable[ReadTotals] = (),
        rows: Any = None,
    ) -> tuple[float, float]:
        tokens, sequences = np.asarray(tokens), np.asarray(sequences)
        flops = TOKEN_FLOPS * float(tokens.sum() + sequences.sum())
        moved = STEP_BYTES * len(tokens)
        for each in reads:
            flops += PAIR_FLOPS * each.prefill_pairs
            moved += CONTEXT_BYTES * (each.decode_reads + each.prefill_reads)
        return flops, moved


def scenario(**cluster: Any) -> Scenario:
    gpu = SimpleNamespace(
        peak={"bf16": 4e5}.__getitem__, bandwidth_bytes_per_s=5e5, usd_per_hour=None
    )
    config = ClusterConfig(gpu="toy", **cluster).all_pools[0]
    parts = SimpleNamespace(
        name="", replicas=config.replicas, tensor_parallel_size=1, data_parallel_size=1,
        gpu_usd_per_hour=config.gpu_usd_per_hour, gpu=gpu, engine=EngineConfig(),
        calibration=CALIBRATION, precision=precision(), price=Price(),
    )  # fmt: skip
    unused = (
        "spec", "ledger", "max_model_len", "token_budget", "watermark_blocks", "ranks",
    )  # fmt: skip
    pool = Pool(**vars(parts), **dict.fromkeys(unused), async_scheduling=False)  # type: ignore[arg-type]
    return Scenario(pools=(pool,), router="round_robin", client=NO_CLIENT, api=NO_API)


@dataclass(eq=False)
class ToyRequest:
    arrival_s: float
    prompt: int
    output: int
    tokens_s: list[float] = field(default_factory=list)
    scheduled_s: float = math.nan
    preemptions: int = 0
    cached: int = 0
    rejected: bool = False
    lag_s: float = 0.0
    """Time at the client before it was sent."""
    api_s: float = 0.0
    """And from there to the engine."""
    given_up_s: float = math.nan

    @property
    def claimed(self) -> int:
        """What the router took to be cached."""
        return (self.cached + 1) * self.prompt // (self.prompt + 1)

    @property
    def age_s(self) -> float:
        """Of the metrics that it looked at, if at any."""
        return math.nan if self.prompt % 4 == 0 else self.prompt / 64

    joined: dict[str, float] | None = None
    """The step that it joined in, until its first decode step."""

    @property
    def sent_s(self) -> float:
        return self.arrival_s + self.lag_s

    @property
    def reached_s(self) -> float:
        return self.sent_s + self.api_s

    @property
    def lost(self) -> bool:
        return not math.isnan(self.given_up_s)


def toy_run(seed: int, replicas: int = 1, mixed: bool = True, stop_s: float = math.inf) -> Any:
    """A random schedule: (Result, requests, steps), with every token's time in the requests."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    arrivals = np.sort(rng.exponential(0.5, count).cumsum().round(int(rng.integers(0, 4))))
    requests = [
        ToyRequest(float(t), int(rng.integers(1, 9)), int(rng.integers(1, 12)), rejected=bool(r))
        for t, r in zip(arrivals, rng.random(count) < 0.1, strict=True)
    ]
    for request in requests:
        if rng.random() < 0.5:
            request.lag_s, request.api_s = (float(t) for t in rng.uniform(0, 0.2, 2))
    steps: list[dict[str, float]] = []
    resumed: list[tuple[float, float]] = []
    resumed_of = []
    for replica in range(replicas):
        mine = [r for r in requests[replica::replicas] if not r.rejected]
        before = len(resumed)
        _serve(rng, replica, mine, steps, resumed, mixed, stop_s)
        resumed_of.append(len(resumed) - before)
    end_s = stop_s if stop_s < math.inf else max((s["end_s"] for s in steps), default=0.0)
    end_s = max(end_s, requests[-1].arrival_s) if stop_s == math.inf else end_s
    for request in requests:
        request.rejected &= request.arrival_s <= end_s
    result = _columns(rng, requests, steps, resumed, resumed_of, end_s)
    return result, requests, steps


def _serve(rng, replica, waiting, steps, resumed, mixed, stop_s):  # type: ignore[no-untyped-def]
    now, running = 0.0, []
    while waiting or running:
        if not running:
            now = max(now, min(r.reached_s for r in waiting))
        if now > stop_s:
            return
        for request in [r for r in running + waiting if r.reached_s <= now]:
            if rng.random() < 0.03:
                request.given_up_s = now
                if request.joined is not None:
                    request.joined["joined"] -= 1
                (running if request in running else waiting).remove(request)
        if not waiting and not running:
            return
        if running and rng.random() < 0.1:
            victim = running.pop()
            victim.preemptions += 1
            if victim.joined is not None:
                victim.joined["joined"] -= 1
                victim.joined = None
            waiting.insert(0, victim)
        ready = [r for r in waiting if r.reached_s <= now]
        admitted = ready[: int(rng.integers(0, 3)) if running else 1]
        if not running and not admitted:
            continue
        decoding = list(running) if mixed or not admitted else []
        end = now + float(rng.uniform(0.01, 0.3))
        if end > stop_s:
            return
        final = [r for r in admitted if rng.random() < 0.8]  # the others' prompts need more chunks
        step = {
            "replica": replica, "start_s": now, "end_s": end, "steps": 1,
            "decodes": len(decoding), "padding": int(rng.integers(0, 2)) if decoding else 0,
            "chunks": len(admitted), "prefill_tokens": sum(r.prompt for r in admitted),
            "joined": 0, "kv_blocks": 0,
        }  # fmt: skip
        for request in admitted:
            if math.isnan(request.scheduled_s):
                request.scheduled_s = now
                request.cached = int(rng.integers(0, request.prompt))
        for request in decoding + final:
            if request in final and request.tokens_s:
                resumed.append((end - request.tokens_s[-1], end))
            request.tokens_s.append(end)
            request.joined = None
            if request in final:
                waiting.remove(request)
                running.append(request)
                if len(request.tokens_s) < request.output:
                    request.joined = step
                    step["joined"] += 1
        running = [r for r in running if len(r.tokens_s) < r.output]
        step["kv_blocks"] = min(BLOCKS, 2 * len(running) + int(rng.integers(0, 2)))
        steps.append(step)
        now = end


def _columns(rng, requests, steps, resumed, resumed_of, end_s):  # type: ignore[no-untyped-def]
    replicas = len(resumed_of)
    segments: list[dict[str, float]] = []
    alike = ("replica", "decodes", "padding", "chunks", "joined")
    for step in steps:
        last = segments[-1] if segments else None
        if (
            last
            and all(last[name] == step[name] for name in alike)
            and last["end_s"] == step["start_s"]
            and not step["chunks"]
            and rng.random() < 0.7
        ):
            last.update(end_s=step["end_s"], steps=last["steps"] + 1, kv_blocks=step["kv_blocks"])
        else:
            segments.append(dict(step))
    rows = {
        "request": range(len(requests)),
        "arrival_s": [r.arrival_s for r in requests],
        "sent_s": [r.sent_s for r in requests],
        "reached_s": [r.reached_s for r in requests],
        "prompt_tokens": [r.prompt for r in requests],
        "output_tokens": [r.output for r in requests],
        "priority": [0] * len(requests),
        "replica": [-1 if r.rejected else i % replicas for i, r in enumerate(requests)],
        "first_scheduled_s": [r.scheduled_s for r in requests],
        "first_token_s": [r.tokens_s[0] if r.tokens_s else math.nan for r in requests],
        "streaming_s": [0.0] * len(requests),
        "finish_s": [r.tokens_s[-1] if _done(r) else math.nan for r in requests],
        "timed_out_s": [r.given_up_s for r in requests],
        **dict.fromkeys(("computed_s", "lost_s", "paused_s"), [0.0] * len(requests)),
        "preemptions": [r.preemptions for r in requests],
        "cached_tokens": [r.cached for r in requests],
        "status": [
            REJECTED
            if r.rejected
            else TIMED_OUT
            if r.lost
            else FINISHED
            if _done(r)
            else UNFINISHED
            for r in requests
        ],
    }
    assert list(rows) == list(REQUEST_COLUMNS)
    rows |= {
        "claimed_tokens": [r.claimed for r in requests],
        "metrics_age_s": [r.age_s for r in requests],
    }
    resumed_gaps = np.array(resumed, dtype=float).reshape(-1, 2)
    columns = {n: np.array([s[n] for s in segments]) for n in SEGMENT_COLUMNS}
    return Result(
        requests={name: np.array(values) for name, values in rows.items()},
        segments=columns,
        step_end_s=np.array([s["end_s"] for s in steps], dtype=float),
        resumed_gap_s=resumed_gaps[:, 0],
        resumed_end_s=resumed_gaps[:, 1],
        reads=tuple(
            tuple(ReadTotals(*each) for each in rng.integers(1000, size=(2, 3)).tolist())
            for _ in range(replicas)
        ),
        replicas=small.replica_table(replicas, columns, resumed_of, num_gpu_blocks=BLOCKS),
        end_s=end_s,
    )  # fmt: skip


def _done(request: ToyRequest) -> bool:
    return len(request.tokens_s) == request.output


def reference(
    result: Result, requests: list[ToyRequest], steps: Any, slo: Slo, warmup: float
) -> Any:
    """Every metric, token by token, in plain Python."""
    present = [r for r in requests if r.arrival_s <= result.end_s]
    served = [r for r in present if not r.rejected]
    unfinished = [r for r in served if not _done(r) and not r.lost]
    together = present[0].arrival_s == present[-1].arrival_s
    measured = present if together else present[int(warmup * len(present)) :]
    start, last = measured[0].arrival_s, measured[-1].arrival_s
    finishes = [r.tokens_s[-1] for r in served if _done(r)]
    left = finishes + [r.given_up_s for r in served if r.lost]
    end_of_service = max(left) if left and not unfinished else result.end_s
    stop = end_of_service if together else last

    def inside(seconds: float) -> bool:
        return start < seconds <= stop

    def overlap(step: Any) -> float:
        return max(0.0, min(step["end_s"], stop) - max(step["start_s"], start))

    inf, length, replicas = math.inf, stop - start, len(result.replicas["steps"])
    accepted = [r for r in measured if not r.rejected and not r.lost]
    samples = {
        "ttft": [r.tokens_s[0] - r.sent_s if r.tokens_s else inf for r in accepted],
        "e2e": [r.tokens_s[-1] - r.sent_s if _done(r) else inf for r in accepted],
        "queue": [
            inf if math.isnan(r.scheduled_s) else r.scheduled_s - r.reached_s for r in accepted
        ],
        "tpot": [
            (r.tokens_s[-1] - r.tokens_s[0]) / (r.output - 1) if _done(r) else inf
            for r in accepted
            if r.output > 1
        ],
    }
    gaps = sorted(
        later - earlier
        for r in served
        for earlier, later in zip(r.tokens_s, r.tokens_s[1:], strict=False)
        if inside(later)
    )

    def good(r: ToyRequest) -> bool:
        if r.rejected or r.lost or not _done(r):
            return False
        tpot = (r.tokens_s[-1] - r.tokens_s[0]) / (r.output - 1) if r.output > 1 else 0.0
        return (
            r.tokens_s[0] - r.sent_s <= (slo.ttft_s or inf)
            and tpot <= (slo.tpot_s or inf)
            and r.tokens_s[-1] - r.sent_s <= (slo.e2e_s or inf)
        )

    came = [r for r in present if inside(r.arrival_s)]
    over = [r for r in served if _done(r) and inside(r.tokens_s[-1])]
    tokens = sum(inside(t) for r in served for t in r.tokens_s)
    prompts = sum(r.prompt for r in served if r.tokens_s and inside(r.tokens_s[0]))
    busy = sum(map(overlap, steps))
    whole_busy = sum(s["end_s"] - s["start_s"] for s in steps)
    worked = sum(overlap(s) * (s["decodes"] + s["chunks"]) for s in steps)
    rows = [s["decodes"] + s["padding"] for s in steps]
    flops = TOKEN_FLOPS * sum(
        2 * n + s["prefill_tokens"] + s["chunks"] for n, s in zip(rows, steps, strict=True)
    )
    reads = [each for of_replica in result.reads for each in of_replica]
    flops += PAIR_FLOPS * sum(each.prefill_pairs for each in reads)
    moved = STEP_BYTES * len(steps)
    moved += CONTEXT_BYTES * sum(each.decode_reads + each.prefill_reads for each in reads)
    step_tokens = [n + s["prefill_tokens"] for n, s in zip(rows, steps, strict=True)]
    outside = sum(t > 12 or n > 3 for t, n in zip(step_tokens, rows, strict=True))
    contexts = [r.prompt + r.output for r in requests if not math.isnan(r.scheduled_s)]
    kv_area, kv_max = _reference_kv(result, start, stop)
    begun = [r for r in measured if not math.isnan(r.scheduled_s)]
    service = [
        (r.tokens_s[-1] if _done(r) else r.given_up_s if r.lost else result.end_s) - r.scheduled_s
        for r in measured
        if not math.isnan(r.scheduled_s)
    ]
    filling = math.nan
    if service and not together:
        filling = sum(service) / len(service) / length if length else inf

    def per(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    values = {
        "requests": len(present), "finished": len(finishes),
        "rejected": len(present) - len(served),
        "timed_out": sum(r.lost for r in requests), "unfinished": len(unfinished),
        "preemptions": sum(r.preemptions for r in requests), "measured_requests": len(accepted),
        "offered_per_s": per(len(came), length),
        "offered_output_tokens_per_s": per(sum(r.output for r in came), length),
        "request_throughput_per_s": per(len(over), length),
        "output_tokens_per_s": per(tokens, length),
        "total_tokens_per_s": per(tokens + prompts, length),
        "goodput_per_s": per(sum(map(good, over)), length),
        "slo_attainment": sum(map(good, measured)) / len(measured),
        "slo_met": float(sum(map(good, measured)) / len(measured) >= slo.attainment),
        "mean_batch_size": per(worked, busy), "busy_share": per(busy, length * replicas),
        "kv_use_mean": per(kv_area, length * replicas * BLOCKS),
        "kv_use_max": kv_max / BLOCKS,
        "prefix_cache_hit_rate": (
            sum(r.cached for r in begun) / sum(r.prompt for r in begun) if begun else math.nan
        ),
        **_reference_routing(result, requests, measured, replicas),
        "acceptance_length_mean": (
            1.0 if any(s["decodes"] and inside(s["end_s"]) for s in steps) else math.nan
        ),
        "accepted_drafts": 0, "wasted_drafts": 0,
        "mfu": per(flops, whole_busy * 4e5), "mbu": per(moved, whole_busy * 5e5),
        "window_s": length, "duration_s": result.end_s,
        "step_tokens_max": max(step_tokens, default=0), "step_decodes_max": max(rows, default=0),
        "context_tokens_max": max(contexts, default=0),
        "steps_outside_calibration": outside,
        "share_steps_outside_calibration": per(outside, len(steps)),
        "requests_outside_calibration": sum(context > 14 for context in contexts),
        "service_per_window": filling,
        "gpus": replicas,
        "usd_per_hour": 6.0, "usd_per_million_output_tokens": per(6.0e6 * length, tokens * 3600),
    }  # fmt: skip
    for name, sample in samples.items():
        values[f"{name}_mean_s"] = sum(sample) / len(sample) if sample else math.nan
        for percent in (50, 90, 95, 99):
            values[f"{name}_p{percent}_s"] = _interpolated(sorted(sample), percent)
    values["itl_mean_s"] = sum(gaps) / len(gaps) if gaps else math.nan
    for percent in (50, 90, 95, 99):
        rank = -(-percent * len(gaps) // 100)
        values[f"itl_p{percent}_s"] = gaps[rank - 1] if gaps else math.nan
    return values


def _reference_routing(  # type: ignore[no-untyped-def]
    result: Result, requests: list[ToyRequest], measured: list[ToyRequest], replicas: int
):
    """By replica, as ``toy_run`` deals requests: in turn, the rejected ones to nobody."""
    nan = math.nan
    rates, counts, claims, asked = [], [], 0, 0
    for replica in range(replicas):
        sent = [r for r in requests[replica::replicas] if r in measured and not r.rejected]
        begun = [r for r in sent if not math.isnan(r.scheduled_s)]
        counts.append(len(sent))
        if begun:
            rates.append(sum(r.cached for r in begun) / sum(r.prompt for r in begun))
        claims += sum(r.claimed for r in begun)
        asked += sum(r.prompt for r in begun)
    old = [r.age_s for r in measured if not math.isnan(r.age_s)] if asked else []
    return {
        "prefix_cache_hit_rate_min": min(rates, default=nan),
        "prefix_cache_hit_rate_max": max(rates, default=nan),
        "claimed_hit_rate": claims / asked if asked else nan,
        "request_share_max": max(counts) / sum(counts) if sum(counts) else nan,
        "metrics_age_mean_s": sum(old) / len(old) if old else nan,
    }


def _interpolated(ordered: list[float], percent: int) -> float:
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high or place == int(place) else low + (high - low) * (place % 1)


def _reference_kv(result: Result, start: float, stop: float) -> tuple[float, float]:
    area, largest, before = 0.0, 0.0, {}
    names = ("replica", "start_s", "end_s", "steps", "kv_blocks")
    for replica, begin, end, steps, blocks in zip(
        *(result.segments[name] for name in names), strict=True
    ):
        first = min(before.get(replica, blocks), blocks) if steps > 1 else blocks
        area += max(0.0, min(end, stop) - max(begin, start)) * (first + blocks) / 2
        largest = max(largest, blocks) if start < end <= stop else largest
        before[replica] = float(blocks)
    return area, largest


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
        ends = [r.tokens_s[-1] if _done(r) else r.given_up_s for r in served]
        begins = [r.given_up_s if math.isnan(r.scheduled_s) else r.scheduled_s for r in served]
        waiting = sum(spent(r.arrival_s, begin) for r, begin in zip(served, begins, strict=True))
        running = sum(spent(begin, end) for begin, end in zip(begins, ends, strict=True))
        kv, _ = _reference_kv(result, low, high)
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
        Slo(**limit)  # type: ignore[arg-type]


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
        (40.0, "less than 1 x the mean time in service"),
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
        "2 requests rejected",
        "1 request timed out: latencies are of the others",
    ]
    assert unsupported(199) == [95, 99]


def test_every_latency_has_its_statistics_among_the_metrics() -> None:
    for name in LATENCIES:
        assert {f"{name}_{s}_s" for s in ("mean", "p50", "p90", "p95", "p99")} <= set(METRICS)


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(math.inf)), min_size=1, max_size=50))
def test_percentiles_of_infinite_samples(values: list[float]) -> None:
    found = percentiles(np.array(values))
    for percent, value in zip((50, 90, 95, 99), found, strict=True):
        assert value == pytest.approx(_interpolated(sorted(values), percent))


def test_percentiles_of_nothing() -> None:
    nothing = np.empty(0)
    assert np.isnan(percentiles(nothing)).all()
    for sample in ([], [(nothing, np.empty(0, np.int64))], [(np.ones(1), np.zeros(1, np.int64))]):
        mean, tail = weighted_statistics(partial(iter, sample))
        assert math.isnan(mean)
        assert np.isnan(tail).all()


@pytest.mark.parametrize("few", [0, 4, 100])
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
def test_weighted_statistics_expand(few: int, pairs: list[tuple[float, int]], size: int) -> None:
    """Sorted at once, searched digit by digit, or searched until few are left."""
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    rows = range(0, len(values), size)
    sample = [(values[row : row + size], weights[row : row + size]) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.percentiles.FEW", few)
        mean, found = weighted_statistics(partial(iter, sample))
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
