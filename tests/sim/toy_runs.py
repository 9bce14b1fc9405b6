"""Small random runs, served in the plainest way, and their metrics by hand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from hardware.calibration import Calibration
from hardware.evidence import CoveredRange
from hardware.prices.work import ReadTotals
from model.precision import precision
from sim.recording.result import (
    FINISHED,
    REJECTED,
    REQUEST_COLUMNS,
    SEGMENT_COLUMNS,
    TIMED_OUT,
    UNFINISHED,
    Result,
)
from sim.settings.cluster_config import NO_CLIENT, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pools import Pool
from sim.settings.scenario import NO_API, Scenario
from tests.sim import small

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
        steps: Any = None,
    ) -> tuple[float, float]:
        tokens, sequences = np.asarray(tokens), np.asarray(sequences)
        if steps is not None:
            tokens, sequences = np.repeat(tokens, steps), np.repeat(sequences, steps)
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
    pool = Pool(**vars(parts), **dict.fromkeys(unused), async_scheduling=False)
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


def _serve(rng, replica, waiting, steps, resumed, mixed, stop_s):
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


def _columns(rng, requests, steps, resumed, resumed_of, end_s):
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
        "finish_s": [r.tokens_s[-1] if done(r) else math.nan for r in requests],
        "timed_out_s": [r.given_up_s for r in requests],
        **dict.fromkeys(("computed_s", "lost_s", "paused_s"), [0.0] * len(requests)),
        "preemptions": [r.preemptions for r in requests],
        "cached_tokens": [r.cached for r in requests],
        "status": [
            REJECTED if r.rejected else TIMED_OUT if r.lost else FINISHED if done(r) else UNFINISHED
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


def done(request: ToyRequest) -> bool:
    return len(request.tokens_s) == request.output
