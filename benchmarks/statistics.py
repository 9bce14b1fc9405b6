"""How well intervals hold: coverage over many repetitions of a whole study, on one system.

    python -m benchmarks.statistics coverage --load 0.7 --runs 200 --length 8150
    python -m benchmarks.statistics precision --load 0.7 --repetitions 20
    python -m benchmarks.statistics compare --pairs 200

Llama-3-8B on one A100, 64 seats, prompts of 300 tokens (cv 1), answers of 60 (cv 0.8), datasheet
prices. ``coverage`` simulates many seeds once; each of 300 repetitions is ten of them, summarised
as a study is; the truth is that of other, longer runs. What it prints is in docs/statistics.md.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.reporting.basis import Basis, Pooled
from experiments.reporting.significance import holm, sectioned
from experiments.reporting.stats import summarise_points
from experiments.reporting.support import Load
from experiments.running.api import load_study, run_study
from experiments.running.pooling import load_of, rates_of
from experiments.study.build import scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of
from sim.latencies import request_latency
from sim.metrics import summarise
from sim.percentiles import PERCENTS, percentiles
from sim.simulation import simulate
from sim.steady_state import measured_window

Floats = npt.NDArray[np.float64]

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
SEEDS = 10
NAMES = ("ttft", "tpot")


@dataclass(frozen=True)
class Run:
    """One simulated seed: its metrics, and its latencies in order of arrival."""

    metrics: dict[str, float]
    latencies: dict[str, Floats]


def study_at(share: float, settings: dict[str, Any] | None = None) -> tuple[Study, Load]:
    """Return the study at a share of its capacity, and its load."""
    with TemporaryDirectory() as folder:
        path = f"{folder}/case_a.yaml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(STUDY)
        base = load_study(path, settings)
        load = load_of(base)
        assert load is not None
        rate = {"workload.arrivals.rate_per_s": share * load.capacity_per_s}
        study = load_study(path, {**(settings or {}), **rate})
    return study, Load(share * load.capacity_per_s, load.capacity_per_s, 1.0, 1)


def run_of(study: Study, seed: int, length: int) -> Run:
    """Simulate one seed of so many requests."""
    workload = study.workload.model_copy(update={"num_requests": length})
    sized = study.model_copy(update={"workload": workload})
    scenario = scenario_of(sized, seed)
    result = simulate(scenario, requests_of(sized, seed))
    metrics = summarise(result, scenario, sized.slo, sized.warmup_share)
    measured = measured_window(result, sized.warmup_share).measured
    found = {name: request_latency(result, name)[measured] for name in NAMES}
    return Run(metrics, {name: each[~np.isnan(each)] for name, each in found.items()})


def summary_of(runs: Sequence[Run], study: Study, load: Load) -> dict[str, Any]:
    """Summarise runs as those of a point are."""
    values: dict[str, float] = {}
    for name in NAMES:
        pooled = percentiles(np.concatenate([run.latencies[name] for run in runs]))
        values |= {f"{name}_p{p}_s": float(v) for p, v in zip(PERCENTS, pooled, strict=True)}
    table = pd.DataFrame([{"seed": place, **run.metrics} for place, run in enumerate(runs)])
    basis = Basis(None, Pooled(values), load, rates_of(study))
    (row,) = summarise_points(table, [], METRICS, bases=[basis]).to_dict("records")
    return dict(row)  # type: ignore[arg-type]


def coverage(options: argparse.Namespace) -> Iterator[str]:
    """Count how many of the repetitions hold the truth."""
    study, load = study_at(options.load)
    started = time.process_time()
    runs = [run_of(study, seed, options.length) for seed in range(options.runs)]
    long = [run_of(study, 10_000 + seed, options.truth // 20) for seed in range(20)]
    spent = time.process_time() - started
    truth = summary_of(long, study, load)
    rng = np.random.default_rng(1)
    held = dict.fromkeys(METRICS, 0)
    halves: dict[str, list[float]] = {name: [] for name in METRICS}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(options.repetitions):
        chosen = rng.choice(options.runs, SEEDS, replace=False)
        row = summary_of([runs[place] for place in chosen], study, load)
        for name in METRICS:
            low, high = row[f"{name}_lo"], row[f"{name}_hi"]
            held[name] += low <= truth[name] <= high
            halves[name].append((high - low) / 2 / row[name])
            values[name].append(row[name] / truth[name] - 1)
    yield (
        f"load {options.load:.0%}, {SEEDS} seeds x {options.length:,} requests, "
        f"{options.repetitions} repetitions of {options.runs} runs, truth of "
        f"{options.truth:,} requests, {spent:.0f} CPU-s"
    )
    for name in METRICS:
        yield (
            f"  {name:26} covers {held[name] / options.repetitions:6.1%}  half-width "
            f"{np.nanmedian(halves[name]):6.2%}  bias {np.mean(values[name]):+6.2%}"
        )


def precision(options: argparse.Namespace) -> Iterator[str]:
    """Repeat the whole two-stage procedure; print cost, length and half-widths."""
    study, load = study_at(options.load)
    found, spent = [], []
    for repetition in range(options.repetitions):
        asked = {"precision": "10%", "seeds": SEEDS, "seed": 1000 * repetition}
        again = Study.model_validate({**study.resolved(), **asked})
        started = time.process_time()
        (row,) = run_study(again).summary.to_dict("records")
        spent.append(time.process_time() - started)
        found.append(row)
    yield (
        f"load {load.share:.0%}: {np.mean([SEEDS * row['requests'] for row in found]):,.0f} "
        f"requests, {np.mean(spent):.1f} CPU-s with pilot, tables and files"
    )
    for name in ("ttft_p99_s", "tpot_p99_s", "slo_attainment"):
        half = np.array([(row[f"{name}_hi"] - row[f"{name}_lo"]) / 2 / row[name] for row in found])
        yield (
            f"  {name:26} half-width {np.median(half):6.2%}, "
            f"within 10% {np.mean(half < 0.1):4.0%}, within 13% {np.mean(half < 0.13):4.0%}"
        )


def compare(options: argparse.Namespace) -> Iterator[str]:
    """Compare studies that differ in nothing but their seeds: how many have a star?"""
    study, load = study_at(options.load)
    seeds = 5
    runs = [run_of(study, seed, options.length) for seed in range(options.runs)]
    rng = np.random.default_rng(3)
    starred = 0
    for _ in range(options.pairs):
        chosen = rng.choice(options.runs, 2 * seeds, replace=False)
        before, after = (
            [runs[place] for place in half] for half in (chosen[:seeds], chosen[seeds:])
        )
        whole = [summary_of(side, study, load) for side in (before, after)]
        found = [
            sectioned(
                whole[1][name] - whole[0][name],
                [b.metrics[name] - a.metrics[name] for a, b in zip(before, after, strict=True)],
            )
            for name in METRICS
        ]
        starred += any(holm([each.p_value for each in found]))
    yield (
        f"null changes at {load.share:.0%} load, {seeds} seeds x {options.length:,}: "
        f"{starred} of {options.pairs} comparisons of {len(METRICS)} metrics have a star"
    )


COMMANDS = {"coverage": coverage, "precision": precision, "compare": compare}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure how well intervals hold.")
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--load", type=float, default=0.7, help="share of capacity")
    parser.add_argument("--length", type=int, default=8150, help="requests of a seed")
    parser.add_argument("--runs", type=int, default=200, help="seeds that are simulated")
    parser.add_argument("--truth", type=int, default=2_000_000, help="requests of the truth")
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=300)
    options = parser.parse_args()
    for line in COMMANDS[options.what](options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
