"""llm-d's benchmark of four routers at nine rates, predicted.

``python -m benchmarks.shared_prefix_routing [routing_37_capacity.csv]`` prints it, beside what that
table says (as published; without one, beside the same figures as they are kept here).

Source of traffic, settings and figures: llm-d/llm-d-kv-cache-manager, benchmarking/37-capacity
(README.md, Apache-2.0; its first version), on four pods of four H100 (said by its later version).
Its load generator, kubernetes-sigs/inference-perf, draws exponential gaps and scales them to the
length of a rate, gives out the prompts in one shuffled order from the first one on at every rate,
and begins a rate when the last answer of the one before is there. Nothing is fitted.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from experiments.study.build import scenario_of
from experiments.study.document import Study
from experiments.validation.published import number_of, options_and_table, read_published
from sim.simulation import simulate
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

STAGES: Final = (
    (10, 25), (3, 210), (4, 180), (5, 120), (6, 120), (8, 90), (10, 70), (12, 60), (15, 50),
    (20, 50),
)  # fmt: skip
"""Requests per second, and for how many seconds; the first is the warm-up."""
GROUPS, PROMPTS = 83, 3
SHARED_TOKENS, PROMPT_TOKENS, OUTPUT_TOKENS = 8000, 9000, 1000
LOADS: Final = {"kv_cache_utilization": 1, "active_request": 1}
INDEX: Final = {
    "auto_tune": False, "block_size_tokens": 64, "lru_capacity_per_server": 2200,
    "characters_per_token": 6,
}  # fmt: skip
"""Prompts are random tokens of Llama 3's vocabulary: about six characters each."""
ROUTERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "precise": ("llm_d", {"scorers": {"precise_prefix_cache": 2, **LOADS}}),
    "approximate": ("llm_d", {"scorers": {"prefix_cache": 2, **LOADS}, "prefix_cache": INDEX}),
    "random": ("random", {}),
    "load": ("llm_d", {"scorers": LOADS}),
}
Measured = Mapping[str, tuple[tuple[float, float], ...]]
MEASURED: Final[Measured] = {
    "precise": (
        (0.246, 2590.0), (0.304, 3345.2), (0.270, 3916.7), (0.271, 4640.3), (0.248, 5557.1),
        (0.242, 6264.0), (0.255, 6765.9), (0.247, 7345.1), (0.250, 8003.9),
    ),
    "approximate": (
        (1.007, 2573.6), (1.497, 3326.3), (1.919, 3691.2), (9.700, 3724.3), (20.389, 3571.6),
        (26.567, 3798.6), (31.615, 3773.5), (38.253, 3200.9), (71.632, 3017.1),
    ),
    "random": (
        (1.102, 2505.7), (7.257, 2829.5), (11.988, 2898.2), (23.742, 2955.9), (40.124, 3108.8),
        (46.359, 3117.3), (49.556, 3140.8), (58.760, 3126.2), (93.345, 3241.0),
    ),
    "load": (
        (1.548, 2545.4), (5.021, 2967.6), (11.329, 2943.6), (31.824, 2656.5), (42.683, 2506.3),
        (47.727, 2620.3), (53.087, 2897.6), (67.339, 2549.1), (86.643, 2334.5),
    ),
}  # fmt: skip
"""Mean TTFT in seconds and output tokens per second at each rate."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What became of the requests of one rate."""

    rate: int
    ttft_s: float
    output_per_s: float
    found: float
    """Share of the prompt tokens that the caches had."""


def predicted(name: str, seed: int, stages: Sequence[tuple[int, int]] = STAGES) -> Iterator[Stage]:
    """Give the rates behind the warm-up, simulated as they were measured."""
    router, settings = ROUTERS[name]
    rng = np.random.default_rng([37, seed])
    order = rng.permutation(GROUPS * PROMPTS)
    arrival_s, prompts, start_s = np.empty(0), np.empty(0, dtype=np.int64), 0.0
    for place, (rate, length_s) in enumerate(stages):
        count = rate * length_s
        gaps_s = rng.exponential(1 / rate, count)
        arrival_s = np.append(arrival_s, start_s + np.cumsum(gaps_s * (length_s / gaps_s.sum())))
        prompts = np.append(prompts, order[np.arange(count) % len(order)])
        columns = _simulated(router, settings, seed, arrival_s, prompts)
        end_s = float(columns["finish_s"].max())
        if place:
            rows = slice(len(prompts) - count, None)
            ttft_s = (columns["first_token_s"] - columns["arrival_s"])[rows]
            found = columns["cached_tokens"][rows].mean() / PROMPT_TOKENS
            output_per_s = count * OUTPUT_TOKENS / (end_s - start_s)
            yield Stage(rate, float(ttft_s.mean()), output_per_s, float(found))
        start_s = end_s + 2.0


def _simulated(
    router: str, settings: Mapping[str, Any], seed: int, arrival_s: Any, prompts: Any
) -> Mapping[str, Any]:
    tokens = np.full(len(prompts), PROMPT_TOKENS)
    prefixes = prompt_prefixes(
        tokens,
        prompt_id=prompts,
        prefix_id=prompts // PROMPTS,
        prefix_tokens=np.full(len(prompts), SHARED_TOKENS),
    )
    requests = Requests(
        arrival_s=arrival_s,
        prompt_tokens=tokens,
        output_tokens=np.full(len(prompts), OUTPUT_TOKENS),
        priority=np.zeros(len(prompts), dtype=np.int64),
        prefixes=prefixes,
    )
    lengths = {"prompt": PROMPT_TOKENS, "output": OUTPUT_TOKENS}
    study = Study.model_validate(
        {
            "name": "shared_prefix_routing",
            "model": "llama-3.1-70b",
            "cluster": {
                "gpu": "h100-sxm", "tensor_parallel_size": 4, "replicas": 4, "router": router,
                "router_settings": settings,
            },
            "engine": {
                "version": "0.11", "block_size": 64, "num_gpu_blocks": 7210, "max_model_len": 32768
            },
            "workload": {
                "arrivals": {"process": "all_at_once"},
                "lengths": {
                    name: {"distribution": "constant", "value": value}
                    for name, value in lengths.items()
                },
                "num_requests": len(prompts),
            },
        }
    )  # fmt: skip
    return simulate(scenario_of(study, seed), requests).requests


SCORERS: Final = {
    "precise-prefix+kv+active": "precise", "approx-prefix+kv+active": "approximate",
    "random": "random", "kv+active (load)": "load",
}  # fmt: skip
"""What the published table calls them."""


def read_measured(path: Path) -> Measured:
    """Return mean TTFT and output of each router by rate, from the published table.

    Raises:
        ValueError: it lacks a column, a router or a rate, or has cells that are no numbers.
    """
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for row in read_published(path, ("qps", "scorer", "ttft_mean_s", "output_tok_s")):
        key = SCORERS.get(row["scorer"], row["scorer"]), int(number_of(row, "qps", path))
        found[key] = number_of(row, "ttft_mean_s", path), number_of(row, "output_tok_s", path)
    rates = [rate for rate, _ in STAGES[1:]]
    for key in ((name, rate) for name in ROUTERS for rate in rates):
        if key not in found:
            raise ValueError(f"{path}: no row of scorer {key[0]} at qps {key[1]}")
    return {name: tuple(found[name, rate] for rate in rates) for name in ROUTERS}


def in_order(ttft_s: Mapping[str, float]) -> bool:
    """Say whether precise is before approximate, and that before those that see no prefix."""
    return ttft_s["precise"] < ttft_s["approximate"] < min(ttft_s["random"], ttft_s["load"])


def main() -> None:
    """Print TTFT and output beside what was measured, means over seeds, and the order."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_prefix_routing")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every router (3)")
    given, measured = options_and_table(parser, MEASURED, read_measured)
    print("mean TTFT, s, and output tokens/s, predicted (measured), and prompt tokens in the cache")
    runs = {name: [list(predicted(name, seed)) for seed in range(given.seeds)] for name in ROUTERS}
    for name, of_seeds in runs.items():
        for known, of_rate in zip(measured[name], zip(*of_seeds, strict=True), strict=True):
            print(f"{name:12} {_line(known, of_rate)}")
    rates = range(len(STAGES) - 1)
    right = [
        all(in_order({name: each[seed][rate].ttft_s for name, each in runs.items()})
            for seed in range(given.seeds))
        for rate in rates
    ]  # fmt: skip
    known_right = [in_order({name: measured[name][rate][0] for name in ROUTERS}) for rate in rates]
    print(
        f"precise < approximate < random and load: measured at {sum(known_right)} of "
        f"{len(right)} rates, predicted with each of {given.seeds} seeds at {sum(right)}"
    )


def _line(known: tuple[float, float], of_rate: Sequence[Stage]) -> str:
    mean_s, mean_per_s, found = (
        float(np.mean([getattr(stage, key) for stage in of_rate]))
        for key in ("ttft_s", "output_per_s", "found")
    )
    return (
        f"{of_rate[0].rate:3}/s  {mean_s:6.2f} ({known[0]:6.2f})  "
        f"{mean_per_s:6.0f} ({known[1]:6.0f})  {found:4.0%}"
    )


if __name__ == "__main__":
    main()
