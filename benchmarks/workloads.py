"""The five workloads that the simulator's speed is stated on.

Rates are set as a share of the capacity that a saturated run of the same setup reaches, so that
"75% load" stays true when prices change. That run must fill every seat many times over: what ends
in its middle half is otherwise one batch that was admitted at once, and no rate. Whether the queue
of the benchmark then grows, as it does above capacity alone, is checked by whoever measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from workloads.requests import Requests

PLAIN = {"async_scheduling": False, "enable_prefix_caching": False, "gpu_memory_utilization": 0.9}
"""Settings of all: figures over time are of the same work, whatever vLLM's newest defaults are."""
_CAPACITY_REQUESTS = 10_000
_TURNS = 12
"""How often a capacity run fills each seat, at least."""
GPU = "a100-80gb-sxm"
BATCHES = (16, 64, 256)
"""Limits of the batch at which its growth is shown; the load is that of each limit's capacity."""
SHORTER = (0.25, 0.5, 1.0)
"""Mean output lengths at which growth is shown, as shares of a benchmark's own."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A setup, how many requests it is stated on, and how hard it is loaded."""

    name: str
    about: str
    model: str
    settings: Mapping[str, Any]
    """Of the cluster and of the engine."""
    load: float
    """Share of the capacity that is offered; 0: a rate of its own, ``rate_per_s``."""
    requests: int
    prompt_tokens: float
    output_tokens: float
    rate_per_s: float = 0.0

    @property
    def overloaded(self) -> bool:
        """Whether the queue is meant to grow."""
        return self.load > 1

    def scenario(self, **engine: object) -> Scenario:
        """Build it; engine settings may be given."""
        cluster = {"gpu": GPU, **self.settings.get("cluster", {})}
        return build_scenario(
            load_spec(self.model),
            load_gpu(GPU),
            ClusterConfig.model_validate(cluster),
            EngineConfig.model_validate({**PLAIN, **self.settings.get("engine", {}), **engine}),
        )


BENCHMARKS = {
    "W1": Benchmark(
        "W1", "Llama-3-8B, one A100, chunked_prefill, Poisson at 75% load",
        "llama-3-8b", {}, 0.75, 20_000, 512, 192,
    ),
    "W2": Benchmark(
        "W2", "Llama-2-70B, TP 4, 4 replicas, least outstanding requests, 75% load",
        "llama-2-70b",
        {"cluster": {"tensor_parallel_size": 4, "replicas": 4, "router": "least_requests"}},
        0.75, 20_000, 512, 192,
    ),
    "W3": Benchmark(
        "W3", "the Azure 2023 conversation trace (--trace; its like in moments without)",
        "llama-3-8b", {}, 0.0, 19_366, 1155, 211, rate_per_s=19_366 / 3501,
    ),
    "W4": Benchmark(
        "W4", "overload with preemption: 1,200 KV blocks at 130% load",
        "llama-3-8b", {"engine": {"num_gpu_blocks": 1200}}, 1.3, 10_000, 512, 192,
    ),
    "W5": Benchmark(
        "W5", "low load, long outputs: many steps, little change",
        "llama-3-8b", {}, 0.05, 2_000, 128, 2000,
    ),
}  # fmt: skip


def synthetic(benchmark: Benchmark, count: int, rate_per_s: float) -> Requests:
    """Poisson arrivals; lognormal lengths (cv 0.8) around the benchmark's means, at most 4,000."""
    rng = np.random.default_rng(1)
    sigma = np.sqrt(np.log1p(0.8**2))

    def lengths(mean: float) -> np.ndarray:
        """Draw lengths in tokens around a mean."""
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
    seats = scenario.pool.engine.max_num_seqs * scenario.replicas
    count = max(_CAPACITY_REQUESTS, _TURNS * seats)
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
        longer = replace(scenario.pool, max_model_len=131072)
        scenario = replace(scenario, pools=(longer,))
        return scenario, replace(requests, output_tokens=outputs)
    return scenario, synthetic(benchmark, count, rate_of(benchmark, scenario))


def rate_of(benchmark: Benchmark, scenario: Scenario) -> float:
    """Requests per second that are offered."""
    if benchmark.rate_per_s:
        return benchmark.rate_per_s
    return benchmark.load * capacity_per_s(benchmark, scenario)


def study(name: str, count: int, rate_per_s: float, trace: Path | None = None) -> dict[str, Any]:
    """Return a benchmark as the study of one point that ``experiments.run`` runs."""
    benchmark = BENCHMARKS[name]
    lengths = {
        what: {"distribution": "lognormal", "mean": mean, "cv": 0.8, "max": 4000}
        for what, mean in (
            ("prompt", benchmark.prompt_tokens), ("output", benchmark.output_tokens)
        )
    }  # fmt: skip
    workload: dict[str, Any] = {
        "arrivals": {"process": "poisson", "rate_per_s": rate_per_s},
        "lengths": lengths,
        "num_requests": count,
    }
    return {
        "model": benchmark.model,
        "cluster": {"gpu": GPU, **benchmark.settings.get("cluster", {})},
        "engine": dict(benchmark.settings.get("engine", {})),
        "calibration": "none",
        "workload": workload if trace is None else {"trace": str(trace.resolve()), "limit": count},
    }
