"""How well intervals hold: coverage over many repetitions of a whole study, on one system.

    python -m benchmarks.statistics coverage --load 0.7 --runs 200 --length 8150
    python -m benchmarks.statistics precision --load 0.7 --repetitions 20
    python -m benchmarks.statistics compare --runs 60 --length 2000
    python -m benchmarks.statistics paired --load 0.8 --length 10000 --runs 100

Llama-3-8B on one A100, 64 seats, prompts of 300 tokens (cv 1), answers of 60 (cv 0.8), datasheet
prices. ``coverage`` simulates many seeds once and deals them into groups of ten, forty times; each
group is a repetition, summarised as a study is; the truth is that of other, longer runs, or of all
of them together. Groups of one deal have no run in common, and coverage of one deal is known to
sqrt(0.05 0.95 / groups); forty deals take the luck of the dealing out of it.
What it prints is in docs/statistics.md.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.case_a import METRICS, TRUE_SEED, Case, Run, case_at
from benchmarks.kept import Row, kept
from experiments.reporting.significance import Difference, holm, sectioned
from experiments.running.api import run_study
from experiments.study.document import Study

ENDS = ("", "_lo", "_hi")
SEEDS = 10
FEW_SEEDS = 5
"""Of each side of a comparison."""
DEALS = 40
"""So many times the seeds are dealt into groups."""


@dataclass
class Held:
    """How often an interval held the truth, how wide it was, and how far off."""

    truth: float
    covered: list[bool] = field(default_factory=list)
    halves: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def add(self, value: float, low: float, high: float) -> None:
        """Take note of one repetition."""
        self.covered.append(low <= self.truth <= high)
        self.halves.append((high - low) / 2 / abs(self.truth))
        self.errors.append((value - self.truth) / abs(self.truth))

    def text(self, name: str) -> str:
        """Say it."""
        return (
            f"  {name:26} covers {np.mean(self.covered):6.1%}  half-width "
            f"{np.nanmedian(self.halves):6.2%}  bias {np.mean(self.errors):+6.2%}"
        )


def coverage(options: argparse.Namespace) -> Iterator[str]:
    """Count how many of the repetitions hold the truth."""
    case = case_at(options.load, keep=options.keep)
    started = time.process_time()
    runs = case.runs(options.first, options.runs, options.length)
    truth = case.summary(case.truth(options))
    whole = case.summary(runs)
    spent = time.process_time() - started
    rng = np.random.default_rng(1)
    held = {name: Held(truth[name]) for name in METRICS}
    own = {name: Held(whole[name]) for name in METRICS}
    groups = dealt(rng, options.runs)
    yield (
        f"load {options.load:.0%}, {SEEDS} seeds x {options.length:,} requests, {len(groups)} "
        f"repetitions: {options.runs} runs dealt into {options.runs // SEEDS} groups, {DEALS} "
        f"times; truth of {options.truth:,} requests of {options.truth_seeds} seeds, {spent:.0f} "
        "CPU-s"
    )
    for chosen in groups:
        row = case.summary([runs[place] for place in chosen])
        for name in METRICS:
            for each in (held[name], own[name]):
                each.add(*(row[f"{name}{end}"] for end in ENDS))
    for name, each in held.items():
        error = np.hypot(*((of[f"{name}_hi"] - of[f"{name}_lo"]) / 4 for of in (truth, whole)))
        offset = (whole[name] - truth[name]) / error if error else 0.0
        yield (
            f"{each.text(name)}  all runs are {offset:+.1f} standard errors off; their own value "
            f"is held in {np.mean(own[name].covered):.1%}"
        )


def dealt(rng: np.random.Generator, runs: int) -> list[list[int]]:
    """Deal runs into disjoint groups, several times."""
    deals: list[list[int]] = [rng.permutation(runs).tolist() for _ in range(DEALS)]
    return [
        deal[first : first + SEEDS] for deal in deals for first in range(0, runs - SEEDS + 1, SEEDS)
    ]


def precision(options: argparse.Namespace) -> Iterator[str]:
    """Repeat the whole two-stage procedure; print cost, length, coverage and half-widths."""
    case = case_at(options.load, keep=options.keep)
    truth = case.summary(case.truth(options))
    names = ("ttft_p99_s", "tpot_p99_s", "slo_attainment", "request_throughput_per_s",
             "output_tokens_per_s")  # fmt: skip
    held, found, spent = {name: Held(truth[name]) for name in names}, [], 0.0
    for repetition in range(options.repetitions):
        name = f"precision_{options.load:g}_{repetition}"
        row = kept(options.keep, name, precise, case.study, 1000 * repetition, names)
        spent += row["cpu_s"]
        found.append(SEEDS * row["requests"])
        for name, each in held.items():
            each.add(*(row[f"{name}{end}"] for end in ENDS))
    yield (
        f"load {options.load:.0%}, {options.repetitions} repetitions: {np.mean(found):,.0f} "
        f"requests, {spent / options.repetitions:.1f} CPU-s with pilot, tables and files; truth "
        f"of {options.truth:,} requests"
    )
    for name, each in held.items():
        halves = np.array(each.halves)
        within = ", ".join(f"within {100 * end:.0f}% {np.mean(halves < end):4.0%}"
                           for end in (0.1, 0.13))  # fmt: skip
        yield f"{each.text(name)}  {within}"


def precise(study: Study, seed: int, names: Sequence[str]) -> Row:
    """Run the whole procedure once; return its figures, length and CPU seconds."""
    asked = {"precision": "10%", "seeds": SEEDS, "seed": seed}
    again = Study.model_validate({**study.resolved(), **asked})
    started = time.process_time()
    (row,) = run_study(again).summary.to_dict("records")
    found = {f"{name}{end}": float(row[f"{name}{end}"]) for name in names for end in ENDS}
    spent_s = time.process_time() - started
    return {**found, "requests": float(row["requests"]), "cpu_s": spent_s}


def compare(options: argparse.Namespace) -> Iterator[str]:
    """Compare studies that differ in nothing but their seeds: how many have a star?"""
    case = case_at(options.load, keep=options.keep)
    runs = case.runs(0, options.runs, options.length)
    rng = np.random.default_rng(3)
    starred = 0
    for _ in range(options.repetitions):
        chosen = rng.choice(options.runs, 2 * FEW_SEEDS, replace=False)
        before, after = (
            [runs[place] for place in half] for half in (chosen[:FEW_SEEDS], chosen[FEW_SEEDS:])
        )
        found = differences(case, before, case, after)
        starred += any(holm([each.p_value for each in found.values()]))
    yield (
        f"null changes at {options.load:.0%} load, {FEW_SEEDS} seeds x {options.length:,}: "
        f"{starred} of {options.repetitions} comparisons of {len(METRICS)} metrics have a star"
    )


def paired(options: argparse.Namespace) -> Iterator[str]:
    """Compare two token budgets by the same seeds: how often is the difference held?"""
    cases = [
        case_at(options.load, {"engine.max_num_batched_tokens": n}, options.keep)
        for n in (2048, 512)
    ]
    truth = differences(cases[0], cases[0].truth(options),
                        cases[1], cases[1].truth(options))  # fmt: skip
    runs = [case.runs(0, options.runs, options.length) for case in cases]
    rng = np.random.default_rng(4)
    held = {name: Held(each.value) for name, each in truth.items()}
    for _ in range(options.repetitions):
        chosen = rng.choice(options.runs, FEW_SEEDS, replace=False)
        before, after = ([side[place] for place in chosen] for side in runs)
        for name, found in differences(cases[0], before, cases[1], after).items():
            held[name].add(found.value, found.low, found.high)
    yield (
        f"token budget 2048 -> 512 at {options.load:.0%} load, {FEW_SEEDS} seeds x "
        f"{options.length:,}, {options.repetitions} repetitions of {options.runs} pairs, truth of "
        f"{options.truth:,} requests; half-width and bias are shares of the difference"
    )
    for name, each in held.items():
        yield f"{each.text(name)}  difference {each.truth:+.3g}"


def differences(
    one: Case, before: Sequence[Run], other: Case, after: Sequence[Run]
) -> dict[str, Difference]:
    """Return what changes from one side to the other, seed by seed, for every metric."""
    old, new = one.summary(before), other.summary(after)
    return {
        name: sectioned(
            new[name] - old[name],
            [b.metrics[name] - a.metrics[name] for a, b in zip(before, after, strict=True)],
        )
        for name in METRICS
    }


COMMANDS = {
    "coverage": coverage, "precision": precision, "compare": compare, "paired": paired,
}  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure how well intervals hold.")
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--load", type=float, default=0.7, help="share of capacity")
    parser.add_argument("--length", type=int, default=8150, help="requests of a seed")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run of coverage")
    parser.add_argument("--runs", type=int, default=200, help="seeds that are simulated")
    parser.add_argument("--truth", type=int, default=2_000_000, help="requests of the truth")
    parser.add_argument("--truth-seeds", type=int, default=20, help="seeds of the truth")
    parser.add_argument("--truth-first", type=int, default=TRUE_SEED, help="the first of these")
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of finished runs, to go on")
    options = parser.parse_args()
    for line in COMMANDS[options.what](options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
