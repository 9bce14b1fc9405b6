"""The five workloads that the simulator's speed is stated on.

Rates are set as a share of the capacity that a short saturated run of the same setup reaches, so
that "75% load" stays true when prices change.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.engine_config import EngineConfig
from sim.scenario import ClusterConfig, Scenario, build_scenario
from sim.simulation import simulate
from workloads.requests import Requests

PLAIN = {"async_scheduling": False, "enable_prefix_caching": False, "gpu_memory_utilization": 0.9}
"""Settings of all: figures over time are of the same work, whatever vLLM's newest defaults are."""
_CAPACITY_REQUESTS = 1500
BATCHES = (16, 64, 256)
"""Limits of the batch at which its growth is shown; the load is that of each limit's capacity."""
SHORTER = (0.25, 0.5, 1.0)
"""Mean output lengths at which growth is shown, as shares of a benchmark's own."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A setup, how many requests it is stated on, and how hard it is loaded."""

    name: str
    about: str
    scenario: Callable[..., Scenario]
    """Builds it; engine settings may be given."""
    load: float
    requests: int
    prompt_tokens: float
    output_tokens: float


def _scenario(model: str, tp: int = 1, **settings: object) -> Scenario:
    cluster = {
        "gpu": "a100-80gb-sxm",
        "tensor_parallel_size": tp,
        "replicas": settings.pop("replicas", 1),
        "router": settings.pop("router", "round_robin"),
    }
    return build_scenario(
        load_spec(model),
        load_gpu("a100-80gb-sxm"),
        ClusterConfig.model_validate(cluster),
        EngineConfig.model_validate(PLAIN | settings),
    )


BENCHMARKS = {
    "W1": Benchmark(
        "W1", "Llama-3-8B, one A100, chunked_prefill, Poisson at 75% load",
        partial(_scenario, "llama-3-8b"), 0.75, 20_000, 512, 192,
    ),
    "W2": Benchmark(
        "W2", "Llama-2-70B, TP 4, 4 replicas, least outstanding requests, 75% load",
        partial(_scenario, "llama-2-70b", 4, replicas=4, router="least_requests"),
        0.75, 20_000, 512, 192,
    ),
    "W3": Benchmark(
        "W3", "the Azure 2023 conversation trace (--trace; its like in moments without)",
        partial(_scenario, "llama-3-8b"), 0.0, 19_366, 1155, 211,
    ),
    "W4": Benchmark(
        "W4", "overload with preemption: 1,200 KV blocks at 130% load",
        partial(_scenario, "llama-3-8b", num_gpu_blocks=1200), 1.3, 10_000, 512, 192,
    ),
    "W5": Benchmark(
        "W5", "low load, long outputs: many steps, little change",
        partial(_scenario, "llama-3-8b"), 0.05, 2_000, 128, 2000,
    ),
}  # fmt: skip


def synthetic(benchmark: Benchmark, count: int, rate_per_s: float) -> Requests:
    """Poisson arrivals; lognormal lengths (cv 0.8) around the benchmark's means, at most 4,000."""
    rng = np.random.default_rng(1)
    sigma = np.sqrt(np.log1p(0.8**2))

    def lengths(mean: float) -> np.ndarray:
        draws = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
        return np.clip(np.rint(draws), 1, 4000).astype(np.int64)

    gaps_s = rng.exponential(1.0 / rate_per_s if np.isfinite(rate_per_s) else 0.0, count)
    return Requests(
        arrival_s=np.cumsum(gaps_s),
        prompt_tokens=lengths(benchmark.prompt_tokens),
        output_tokens=lengths(benchmark.output_tokens),
        priority=np.zeros(count, dtype=np.int64),
    )


def capacity_per_s(benchmark: Benchmark, scenario: Scenario) -> float:
    """Requests per second that the setup completes when all of them wait from the start."""
    count = _CAPACITY_REQUESTS
    result = simulate(scenario, synthetic(benchmark, count, np.inf))
    finish_s = np.sort(result.requests["finish_s"])
    # The middle of the run: neither filling up nor running empty.
    low, high = count // 4, 3 * count // 4
    return float((high - low) / (finish_s[high] - finish_s[low]))


def build(
    name: str,
    count: int | None,
    trace: Path | None,
    max_num_seqs: int | None = None,
    output_share: float = 1.0,
) -> tuple[Scenario, Requests]:
    """Return the scenario and the requests of one benchmark, as stated or with a change."""
    benchmark = BENCHMARKS[name]
    benchmark = replace(benchmark, output_tokens=benchmark.output_tokens * output_share)
    scenario = benchmark.scenario(
        **({} if max_num_seqs is None else {"max_num_seqs": max_num_seqs})
    )
    count = count or benchmark.requests
    if name == "W3" and trace is not None:
        from workloads.traces import read_trace

        requests = read_trace(trace, limit=count)
        outputs = np.maximum(1, np.rint(requests.output_tokens * output_share)).astype(np.int64)
        return replace(scenario, max_model_len=131072), replace(requests, output_tokens=outputs)
    if name == "W3":
        return scenario, synthetic(benchmark, count, 19_366 / 3501)
    rate = benchmark.load * capacity_per_s(benchmark, scenario)
    return scenario, synthetic(benchmark, count, rate)
