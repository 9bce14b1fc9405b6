"""Metrics of a toy run, added up by hand."""

import math
from typing import Any

from sim.measuring.slo import Slo
from sim.recording.result import Result
from tests.sim.toy_runs import (
    BLOCKS,
    CONTEXT_BYTES,
    PAIR_FLOPS,
    STEP_BYTES,
    TOKEN_FLOPS,
    ToyRequest,
    done,
)


def reference(
    result: Result, requests: list[ToyRequest], steps: Any, slo: Slo, warmup: float
) -> Any:
    """Every metric, token by token, in plain Python."""
    present = [r for r in requests if r.arrival_s <= result.end_s]
    served = [r for r in present if not r.rejected]
    unfinished = [r for r in served if not done(r) and not r.lost]
    together = present[0].arrival_s == present[-1].arrival_s
    measured = present if together else present[int(warmup * len(present)) :]
    start, last = measured[0].arrival_s, measured[-1].arrival_s
    finishes = [r.tokens_s[-1] for r in served if done(r)]
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
        "e2e": [r.tokens_s[-1] - r.sent_s if done(r) else inf for r in accepted],
        "queue": [
            inf if math.isnan(r.scheduled_s) else r.scheduled_s - r.reached_s for r in accepted
        ],
        "tpot": [
            (r.tokens_s[-1] - r.tokens_s[0]) / (r.output - 1) if done(r) else inf
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
        if r.rejected or r.lost or not done(r):
            return False
        tpot = (r.tokens_s[-1] - r.tokens_s[0]) / (r.output - 1) if r.output > 1 else 0.0
        return (
            r.tokens_s[0] - r.sent_s <= (slo.ttft_s or inf)
            and tpot <= (slo.tpot_s or inf)
            and r.tokens_s[-1] - r.sent_s <= (slo.e2e_s or inf)
        )

    came = [r for r in present if inside(r.arrival_s)]
    over = [r for r in served if done(r) and inside(r.tokens_s[-1])]
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
    kv_area, kv_max = reference_kv(result, start, stop)
    begun = [r for r in measured if not math.isnan(r.scheduled_s)]
    service = [
        (r.tokens_s[-1] if done(r) else r.given_up_s if r.lost else result.end_s) - r.scheduled_s
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
        **reference_routing(result, requests, measured, replicas),
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
            values[f"{name}_p{percent}_s"] = interpolated(sorted(sample), percent)
    values["itl_mean_s"] = sum(gaps) / len(gaps) if gaps else math.nan
    for percent in (50, 90, 95, 99):
        rank = -(-percent * len(gaps) // 100)
        values[f"itl_p{percent}_s"] = gaps[rank - 1] if gaps else math.nan
    return values


def reference_routing(  # type: ignore[no-untyped-def]
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


def interpolated(ordered: list[float], percent: int) -> float:
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high or place == int(place) else low + (high - low) * (place % 1)


def reference_kv(result: Result, start: float, stop: float) -> tuple[float, float]:
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
