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
    run = ByHand(result, requests, slo, warmup)
    return {
        **run.counts(), **run.latencies(), **run.gaps(), **run.rates(), **run.blocks(),
        **run.work(steps), **run.reached(steps),
    }  # fmt: skip


def per(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


class ByHand:
    """A run, its window, and what can be said of both by counting."""

    def __init__(self, result: Result, requests: list[ToyRequest], slo: Slo, warmup: float) -> None:
        self.result, self.requests, self.slo = result, requests, slo
        self.present = [r for r in requests if r.arrival_s <= result.end_s]
        self.served = [r for r in self.present if not r.rejected]
        self.unfinished = [r for r in self.served if not done(r) and not r.lost]
        first, last = self.present[0].arrival_s, self.present[-1].arrival_s
        self.together = first == last
        skipped = 0 if self.together else int(warmup * len(self.present))
        self.measured = self.present[skipped:]
        self.accepted = [r for r in self.measured if not r.rejected and not r.lost]
        self.finishes = [r.tokens_s[-1] for r in self.served if done(r)]
        left = self.finishes + [r.given_up_s for r in self.served if r.lost]
        end_of_service = max(left) if left and not self.unfinished else result.end_s
        self.start = self.measured[0].arrival_s
        self.stop = end_of_service if self.together else last
        self.length, self.replicas = self.stop - self.start, len(result.replicas["steps"])

    def inside(self, seconds: float) -> bool:
        return self.start < seconds <= self.stop

    def overlap(self, step: Any) -> float:
        return max(0.0, min(step["end_s"], self.stop) - max(step["start_s"], self.start))

    def good(self, r: ToyRequest) -> bool:
        if r.rejected or r.lost or not done(r):
            return False
        tpot = (r.tokens_s[-1] - r.tokens_s[0]) / (r.output - 1) if r.output > 1 else 0.0
        return (
            r.tokens_s[0] - r.sent_s <= (self.slo.ttft_s or math.inf)
            and tpot <= (self.slo.tpot_s or math.inf)
            and r.tokens_s[-1] - r.sent_s <= (self.slo.e2e_s or math.inf)
        )

    def counts(self) -> dict[str, float]:
        present = self.present
        return {
            "requests": len(present), "finished": len(self.finishes),
            "rejected": len(present) - len(self.served),
            "timed_out": sum(r.lost for r in self.requests), "unfinished": len(self.unfinished),
            "preemptions": sum(r.preemptions for r in self.requests),
            "measured_requests": len(self.accepted), "gpus": self.replicas,
            "accepted_drafts": 0, "wasted_drafts": 0,
        }  # fmt: skip

    def latencies(self) -> dict[str, float]:
        inf, accepted = math.inf, self.accepted
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
        values = {}
        for name, sample in samples.items():
            values[f"{name}_mean_s"] = per(sum(sample), len(sample))
            for percent in (50, 90, 95, 99):
                values[f"{name}_p{percent}_s"] = interpolated(sorted(sample), percent)
        return values

    def gaps(self) -> dict[str, float]:
        gaps = sorted(
            later - earlier
            for r in self.served
            for earlier, later in zip(r.tokens_s, r.tokens_s[1:], strict=False)
            if self.inside(later)
        )
        values = {"itl_mean_s": per(sum(gaps), len(gaps))}
        for percent in (50, 90, 95, 99):
            rank = -(-percent * len(gaps) // 100)
            values[f"itl_p{percent}_s"] = gaps[rank - 1] if gaps else math.nan
        return values

    def rates(self) -> dict[str, float]:
        served, measured, length = self.served, self.measured, self.length
        came = [r for r in self.present if self.inside(r.arrival_s)]
        over = [r for r in served if done(r) and self.inside(r.tokens_s[-1])]
        tokens = sum(self.inside(t) for r in served for t in r.tokens_s)
        prompts = sum(r.prompt for r in served if r.tokens_s and self.inside(r.tokens_s[0]))
        kept = sum(map(self.good, measured)) / len(measured)
        return {
            "offered_per_s": per(len(came), length),
            "offered_output_tokens_per_s": per(sum(r.output for r in came), length),
            "request_throughput_per_s": per(len(over), length),
            "output_tokens_per_s": per(tokens, length),
            "total_tokens_per_s": per(tokens + prompts, length),
            "goodput_per_s": per(sum(map(self.good, over)), length),
            "slo_attainment": kept, "slo_met": float(kept >= self.slo.attainment),
            "window_s": length, "duration_s": self.result.end_s, "usd_per_hour": 6.0,
            "usd_per_million_output_tokens": per(6.0e6 * length, tokens * 3600),
        }  # fmt: skip

    def blocks(self) -> dict[str, float]:
        result, measured, replicas = self.result, self.measured, self.replicas
        kv_area, kv_max = reference_kv(result, self.start, self.stop)
        begun = [r for r in measured if not math.isnan(r.scheduled_s)]
        return {
            "kv_use_mean": per(kv_area, self.length * replicas * BLOCKS),
            "kv_use_max": kv_max / BLOCKS,
            "prefix_cache_hit_rate": per(
                sum(r.cached for r in begun), sum(r.prompt for r in begun)
            ),
            **reference_routing(result, self.requests, measured, replicas),
            "service_per_window": self.filling(begun),
        }

    def filling(self, begun: list[ToyRequest]) -> float:
        """Mean time in service over the window; of requests that come together there is none."""
        end_s = self.result.end_s
        service = [
            (r.tokens_s[-1] if done(r) else r.given_up_s if r.lost else end_s) - r.scheduled_s
            for r in begun
        ]
        if not service or self.together:
            return math.nan
        return sum(service) / len(service) / self.length if self.length else math.inf

    def work(self, steps: Any) -> dict[str, float]:
        busy = sum(map(self.overlap, steps))
        whole_busy = sum(s["end_s"] - s["start_s"] for s in steps)
        worked = sum(self.overlap(s) * (s["decodes"] + s["chunks"]) for s in steps)
        tokens = sum(
            2 * (s["decodes"] + s["padding"]) + s["prefill_tokens"] + s["chunks"] for s in steps
        )
        reads = [each for of_replica in self.result.reads for each in of_replica]
        flops = TOKEN_FLOPS * tokens + PAIR_FLOPS * sum(each.prefill_pairs for each in reads)
        moved = STEP_BYTES * len(steps)
        moved += CONTEXT_BYTES * sum(each.decode_reads + each.prefill_reads for each in reads)
        decoded = any(s["decodes"] and self.inside(s["end_s"]) for s in steps)
        return {
            "mean_batch_size": per(worked, busy),
            "busy_share": per(busy, self.length * self.replicas),
            "mfu": per(flops, whole_busy * 4e5), "mbu": per(moved, whole_busy * 5e5),
            "acceptance_length_mean": 1.0 if decoded else math.nan,
        }  # fmt: skip

    def reached(self, steps: Any) -> dict[str, float]:
        """How far steps and contexts went, and how often beyond the calibration."""
        rows = [s["decodes"] + s["padding"] for s in steps]
        tokens = [n + s["prefill_tokens"] for n, s in zip(rows, steps, strict=True)]
        outside = sum(t > 12 or n > 3 for t, n in zip(tokens, rows, strict=True))
        begun = (r for r in self.requests if not math.isnan(r.scheduled_s))
        contexts = [r.prompt + r.output for r in begun]
        return {
            "step_tokens_max": max(tokens, default=0), "step_decodes_max": max(rows, default=0),
            "context_tokens_max": max(contexts, default=0),
            "steps_outside_calibration": outside,
            "share_steps_outside_calibration": per(outside, len(steps)),
            "requests_outside_calibration": sum(context > 14 for context in contexts),
        }  # fmt: skip


def reference_routing(
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
