"""Case A of docs/statistics.md, simulated many times: what a run leaves behind, and keeping it.

Llama-3-8B on one A100, 64 seats, prompts of 300 tokens (cv 1), answers of 60 (cv 0.8), datasheet
prices. A run is its metrics and the largest values of two latencies, on which a p99 of many seeds
rests. In a folder finished runs are kept, so that a measurement of an hour goes on where it ended.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.basis import Basis, Pooled
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.reporting.support import Load
from experiments.running.api import load_study
from experiments.running.identity import run_key
from experiments.running.pooling import load_of, rates_of
from experiments.study.build import scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of
from sim.measuring.latencies import request_latency
from sim.measuring.metrics import summarise
from sim.measuring.steady_state import measured_window
from sim.simulation import simulate

Floats = npt.NDArray[np.float32]

STUDY = """\
model: llama-3-8b
cluster: {gpu: a100-80gb-sxm}
engine: {max_num_seqs: 64, max_num_batched_tokens: 2048, version: "0.15"}
calibration: none
workload:
  arrivals: {process: poisson, rate_per_s: 10}
  lengths:
    prompt: {distribution: lognormal, mean: 300, cv: 1, max: 2000}
    output: {distribution: lognormal, mean: 60, cv: 0.8, max: 400}
  num_requests: 1000
slo: {ttft_s: 0.5, tpot_s: 0.04}
"""
METRICS = (
    "ttft_mean_s", "ttft_p99_s", "tpot_p99_s", "slo_attainment", "request_throughput_per_s",
    "output_tokens_per_s",
)  # fmt: skip
TRUE_SEED = 50_000_000
"""Of the first run of a truth: far from those of any repetition."""
KEPT = {"ttft": 0.3, "tpot": 0.1}
"""Share of the values of a seed that is kept of each latency, the largest."""


@dataclass(frozen=True)
class Tail:
    """The largest values of one seed, which are all that a p99 of many seeds rests on."""

    largest: Floats
    count: int
    """Of all values."""

    @classmethod
    def of(cls, values: npt.NDArray[np.float64], kept: float = 0.3) -> "Tail":
        """Keep what a p99 may need: a share of the values, the largest."""
        values = values[~np.isnan(values)]
        most = min(len(values), int(kept * len(values)) + 2)
        return cls(np.partition(values, -most)[-most:].astype(np.float32), len(values))


def pooled_p99(tails: Sequence[Tail]) -> float:
    """Return the p99 of all values of all seeds."""
    count = sum(tail.count for tail in tails)
    place = 0.99 * (count - 1)
    above = count - int(place)  # the two values that it lies between, and all beyond
    largest = np.sort(
        np.partition(np.concatenate([tail.largest for tail in tails]), -above)[-above:]
    )
    if any(tail.largest.min() > largest[0] and len(tail.largest) < tail.count for tail in tails):
        raise ValueError("a seed has more of the tail than was kept of it")
    part = place - int(place)
    return float(largest[0] + part * (largest[min(1, above - 1)] - largest[0]))


@dataclass(frozen=True)
class Run:
    """One simulated seed: its metrics, and the tails of its latencies."""

    metrics: dict[str, float]
    tails: dict[str, Tail]

    def write(self, path: Path) -> None:
        """Keep it in a file that is whole or not there."""
        columns: dict[str, Any] = {f"metric {name}": value for name, value in self.metrics.items()}
        for name, tail in self.tails.items():
            columns |= {f"tail {name}": tail.largest, f"count {name}": tail.count}
        part = path.with_suffix(".part.npz")
        np.savez(part, **columns)
        os.replace(part, path)

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read it again."""
        with np.load(path) as found:
            metrics = {
                name.removeprefix("metric "): float(found[name])
                for name in found.files
                if name.startswith("metric ")
            }
            tails = {
                name: Tail(found[f"tail {name}"], int(found[f"count {name}"])) for name in KEPT
            }
        return cls(metrics, tails)


@dataclass(frozen=True)
class Case:
    """The study at a share of its capacity."""

    study: Study
    load: Load
    keep: Path | None = None
    """Where finished runs are kept and found again."""

    def run(self, seed: int, length: int) -> Run:
        """Simulate one seed of so many requests, unless that was done."""
        workload = self.study.workload.model_copy(update={"num_requests": length})
        sized = self.study.model_copy(update={"workload": workload})
        if self.keep is None:
            return _simulated(sized, seed)
        path = self.keep / f"{run_key(sized, seed)}.npz"
        if path.exists():
            return Run.read(path)
        run = _simulated(sized, seed)
        run.write(path)
        return run

    def runs(self, first: int, count: int, length: int) -> list[Run]:
        """Simulate so many seeds from a first one on."""
        return [self.run(seed, length) for seed in range(first, first + count)]

    def truth(self, options: argparse.Namespace) -> list[Run]:
        """Simulate other seeds, few and longer ones, with so many requests in all."""
        seeds = options.truth_seeds
        return self.runs(options.truth_first, seeds, options.truth // seeds)

    def summary(self, runs: Sequence[Run]) -> dict[str, Any]:
        """Summarise runs as those of a point are."""
        values = {f"{name}_p99_s": pooled_p99([run.tails[name] for run in runs]) for name in KEPT}
        table = Records.of([{"seed": place, **run.metrics} for place, run in enumerate(runs)])
        basis = Basis(None, Pooled(values), self.load, rates_of(self.study))
        (row,) = summarise_points(table, [], METRICS, bases=[basis]).rows()
        return row


def _simulated(study: Study, seed: int) -> Run:
    scenario = scenario_of(study, seed)
    result = simulate(scenario, requests_of(study, seed))
    metrics = summarise(result, scenario, study.slo, study.warmup_share)
    measured = measured_window(result, study.warmup_share).measured
    tails = {
        name: Tail.of(request_latency(result, name)[measured], kept) for name, kept in KEPT.items()
    }
    return Run(metrics, tails)


def case_at(share: float, settings: dict[str, Any] | None = None, keep: Path | None = None) -> Case:
    """Return the study at a share of its capacity."""
    with TemporaryDirectory() as folder:
        path = f"{folder}/case_a.yaml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(STUDY)
        load = load_of(load_study(path))
        assert load is not None
        rate = {"workload.arrivals.rate_per_s": share * load.capacity_per_s}
        study = load_study(path, {**(settings or {}), **rate})
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    return Case(study, Load(share * load.capacity_per_s, load.capacity_per_s, 1.0, 1), keep)
