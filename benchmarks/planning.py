"""How right searches are, and what they cost: repeated with other seeds, beside a longer run.

    python -m benchmarks.planning rate --repetitions 50
    python -m benchmarks.planning replicas --repetitions 50 --rates 38 39.6 167
    python -m benchmarks.planning plan

With ``--keep FOLDER`` a repetition that has ended is not measured again.
CPU seconds are of one core and of everything: simulations, files, statistics. Beside each a timeout
of a bare SimPy process is measured, before and after: in proportion to it costs of machines can be
compared. docs/statistics.md has what came out.
"""

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beside import cost, timed
from benchmarks.kept import Row, kept
from experiments.cli.command import Parser, run_command, start, whole_number
from experiments.planning.capacity.found import Highest
from experiments.planning.capacity.highest import Search
from experiments.planning.capacity.running import FULL, SAFE
from experiments.planning.lengths import FEWEST, Varied, long_enough, with_values
from experiments.planning.logit_line import Pair, Scale, root
from experiments.planning.plan.finding import Finder
from experiments.planning.plan.reading import read_plan
from experiments.planning.progress import SearchProgress
from experiments.planning.promises import Promise, promises_of
from experiments.planning.sequential import Verdict
from experiments.planning.smallest import Smallest, smallest
from experiments.planning.traffic import mean_rate_per_s
from experiments.planning.trials import Trial, Trials
from experiments.running.capacity import capacity_per_s
from experiments.running.local import Local
from experiments.running.workers import shared_by
from experiments.study.build import settled
from experiments.study.document import Loaded, Study
from experiments.study.yaml_source import Document

KEY = "workload.arrivals.rate_per_s"
TRUE_REQUESTS, TRUE_SEEDS, TRUE_RUNS = 60_000, 48, 12
"""Of the longer runs: requests of a seed, how many seeds find a rate, and how many a missed share
rests on."""
TRUE_SPREAD = 0.015
"""The rates of longer runs lie so far below and above their root: a third of what a search does, so
that a curve which bends there is told from its line."""
CHAT = {
    "prompt": {"distribution": "lognormal", "mean": 800, "cv": 1.0, "max": 6000},
    "output": {"distribution": "lognormal", "mean": 200, "cv": 0.8, "max": 1500},
}
SHORT = {
    "prompt": {"distribution": "lognormal", "mean": 300, "cv": 1.0, "max": 4000},
    "output": {"distribution": "lognormal", "mean": 60, "cv": 0.8, "max": 1000},
}
CASES: dict[str, dict[str, Any]] = {
    "A": {
        "model": "llama-3-8b",
        "cluster": {"gpu": "a100-80gb-sxm"},
        "engine": {"max_num_seqs": 64},
        "calibration": "none",
        "slo": {"ttft_s": 0.5, "tpot_s": 0.04},
        "lengths": SHORT,
    },
    "B": {
        "model": "qwen3-32b",
        "cluster": {"gpu": "h100-sxm", "tensor_parallel_size": 2},
        "engine": {"max_num_seqs": 256},
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "lengths": CHAT,
    },
    "C": {
        "model": "llama-3-8b",
        "cluster": {"gpu": "a100-80gb-sxm", "replicas": 4, "router": "least_requests"},
        "engine": {"max_num_seqs": 256},
        "slo": {"ttft_s": 1.0, "tpot_s": 0.05},
        "lengths": CHAT,
    },
}
"""A: Llama-3-8B on an A100 by the roofline; B: Qwen3-32B on two H100, C: Llama-3-8B on
four A100, with measured kernels."""
RATES = (38.0, 39.6, 167.0)
"""Of case A: one replica just keeps its SLO at the first, just misses it at the second; four just
keep it at the third, where three are far from it."""
OF_A_TEST = round(1.5 * FEWEST)
"""Requests of one run, as ``headroom capacity`` has them."""
REPETITIONS = {"rate": 50, "replicas": 50, "plan": 1}
"""Unless one says how many: a search takes 2 to 8 CPU-s, a plan half a minute."""
GRID = {
    "cluster.gpu": ["l40s", "a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200"],
    "cluster.tensor_parallel_size": [1, 2, 4],
    "engine.max_num_seqs": [64, 256],
    "engine.max_num_batched_tokens": [2048, 8192],
}
"""Sixty candidates."""


def point(case: str, seed: int) -> Study:
    """Return the settled study of a case; searches begin with its seed."""
    fields = dict(CASES[case])
    workload = {
        "arrivals": {"process": "poisson", "rate_per_s": 10.0},
        "lengths": fields.pop("lengths"),
        "num_requests": 10_000,
    }
    raw = {"name": case, "seed": seed, "workload": workload, **fields}
    return settled(Study.model_validate(raw))


def searched(study: Study, folder: Path, fewest: int, half_width: float) -> Highest:
    """Find the highest rate of a study."""
    trials = Trials(folder, Local(1), SearchProgress())
    return Search(
        Varied(study, KEY, fewest),
        trials.ask,
        _promises(study),
        half_width,
        "",
        capacity_per_s(study),
    ).run()


def _promises(study: Study) -> tuple[Promise, ...]:
    assert study.slo is not None
    return promises_of(study.slo)


def rate_row(case: str, seed: int, fewest: int, half_width: float) -> Row:
    """Find a highest rate; return it with its interval, seeds and CPU seconds."""

    def measure() -> Row:
        with tempfile.TemporaryDirectory() as folder:
            found = searched(point(case, seed), Path(folder), fewest, half_width)
        half = found.root.half_width if found.root else math.nan
        return {"value": found.value, "low": found.low, "high": found.high, "half": half,
                "seeds": found.seeds}  # fmt: skip

    return timed(measure)


def truth(case: str, told: float | None, keep: Path | None) -> Row:
    """Find it with so many more requests that it can be called true, unless it is told."""
    if told is not None:
        return {"value": told, "half": math.nan, "seeds": 0}
    return kept(keep, f"rate_{case}_truth", true_row, case)


def true_row(case: str) -> Row:
    """Find the root between two rates next to it, in longer runs of other seeds."""
    study = point(case, 10**6)
    with tempfile.TemporaryDirectory() as folder:
        about = searched(study, Path(folder), FEWEST, 0.02).value
        trials = Trials(Path(folder), Local(1), SearchProgress())
        rates = (about * (1 - TRUE_SPREAD), about * (1 + TRUE_SPREAD))
        samples = [trials.ask(_long_runs(with_values(study, {KEY: load}))) for load in rates]
    (promise,) = _promises(study)
    missed = [np.array([one.count(promise) for one in row]) for row in samples]
    measured = [np.array([one.measured for one in row]) for row in samples]
    scale = Scale(capacity_per_s(study))
    pair = Pair(rates[0], rates[1], missed[0], missed[1], measured[0], measured[1], scale)
    found = root(pair, promise.allowed)
    assert found is not None
    return {"value": found.value, "half": found.half_width, "seeds": found.seeds}


def _long_runs(study: Study) -> list[Trial]:
    longer = long_enough(study, TRUE_REQUESTS)
    return [Trial(longer, 2 * 10**6 + number, "") for number in range(TRUE_SEEDS)]


def rate(case: str, repetitions: int, told: float | None, keep: Path | None) -> None:
    """Print error and coverage of the highest rate."""
    true = truth(case, told, keep)
    rows = [
        kept(keep, f"rate_{case}_{number}", rate_row, case, 1000 * number, FEWEST, 0.02)
        for number in range(1, repetitions + 1)
    ]
    errors = [row["value"] / true["value"] - 1 for row in rows]
    covered = sum(row["low"] <= true["value"] <= row["high"] for row in rows)
    rmse = math.sqrt(sum(error**2 for error in errors) / repetitions)

    def mean(name: str) -> float:
        return float(sum(row[name] for row in rows)) / repetitions

    print(
        f"rate, case {case}: truth {true['value']:.4g}/s (+-{100 * true['half']:.2f}%, "
        f"{true['seeds']} seeds of {TRUE_REQUESTS:,}); {repetitions} repetitions: error (rms) "
        f"{100 * rmse:.2f}%, bias {100 * sum(errors) / repetitions:+.2f}%, more than 2% high "
        f"{sum(error > 0.02 for error in errors)}, interval covers {covered}, half-width "
        f"{100 * mean('half'):.1f}%, {mean('seeds'):.0f} seeds; {cost(rows)}"
    )


def replicas(case: str, repetitions: int, rates: Sequence[float], keep: Path | None) -> None:
    """Print how often the smallest number of replicas is another than that of long runs."""
    for load in rates:
        study = with_values(point(case, 0), {"cluster.router": "least_requests", KEY: load})
        capacity, name = capacity_per_s(study), f"replicas_{case}_{load:g}"
        rows = [
            kept(keep, f"{name}_{number}", replicas_row, study, capacity, 1000 * number)
            for number in range(1, repetitions + 1)
        ]
        verdicts: dict[int, Counter[str]] = {}
        for row in rows:
            for count, verdict in row["verdicts"].items():
                verdicts.setdefault(int(count), Counter())[verdict] += 1
        told = []
        for count, counter in sorted(verdicts.items()):
            missed = kept(keep, f"{name}_{count}_missed", missed_row, study, count)["missed"]
            counted = ", ".join(f"{counter[one.value]} {one.value}" for one in Verdict
                                if counter[one.value])  # fmt: skip
            told.append(f"{count} miss {100 * missed:.2f}% in long runs ({counted})")
        answers = Counter(row["replicas"] for row in rows)
        counts = ", ".join(f"{count} in {times}" for count, times in sorted(answers.items()))
        print(
            f"replicas, case {case} at {load:g}/s, {repetitions} repetitions: {counts}; "
            f"{'; '.join(told)}; {cost(rows)}"
        )
        sys.stdout.flush()


def replicas_row(study: Study, capacity: float, seed: int) -> Row:
    """Find the smallest number of replicas; return it with the verdict on every number tried."""

    def measure() -> Row:
        found = _smallest(study.model_copy(update={"seed": seed}), capacity)
        verdicts = {str(count): probe.verdict.value for count, probe in found.probes.items()}
        return {"replicas": found.replicas, "verdicts": verdicts}

    return timed(measure)


def missed_row(study: Study, replicas: int) -> Row:
    """Return the share that misses with so many replicas, in longer runs with other seeds."""
    return {"missed": _missed(with_values(study, {"cluster.replicas": replicas}))}


def _smallest(study: Study, capacity: float) -> Smallest:
    """Find the smallest number of replicas of a study, whose capacity with one is known."""
    load = mean_rate_per_s(study)
    with tempfile.TemporaryDirectory() as folder:
        return smallest(
            lambda count: long_enough(with_values(study, {"cluster.replicas": count}), OF_A_TEST),
            "", Trials(Path(folder), Local(1), SearchProgress()).ask,
            least=max(1, math.ceil(load / (FULL * capacity))),
            first=max(1, math.ceil(load / (SAFE * capacity))), most=64,
            promises=_promises(study), confidence=0.95,
        )  # fmt: skip


def _missed(study: Study) -> float:
    """Share of the requests that misses the SLO in longer runs with other seeds."""
    (promise,) = _promises(study)
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), Local(1), SearchProgress())
        runs = [Trial(long_enough(study, TRUE_REQUESTS), 10**6 + i, "") for i in range(TRUE_RUNS)]
        samples = trials.ask(runs)
    return sum(one.count(promise) for one in samples) / sum(one.measured for one in samples)


def plan(repetitions: int, runners_up: int, keep: Path | None) -> None:
    """Print the answers of sixty candidates under steady traffic."""
    for repetition in range(repetitions):
        row = kept(keep, f"plan_{repetition}", plan_row, 1000 * repetition, runners_up)
        print(f"plan, repetition {repetition}: {row['told']}; {row['runs']} runs; {cost([row])}")
        sys.stdout.flush()


def plan_row(seed: int, runners_up: int) -> Row:
    """Plan sixty candidates; return what is bought, the runners-up, and the cost."""
    raw: dict[str, Any] = {
        "kind": "plan",
        "name": "sixty",
        "model": "qwen3-32b",
        "seed": seed,
        "cluster": {"router": "least_requests"},
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 40.0},
            "lengths": CHAT,
            "num_requests": 10_000,
        },
        "slo": {"ttft_s": 1.0, "tpot_s": 0.03},
        "candidates": GRID,
        "runners_up": runners_up,
    }

    def measure() -> Row:
        read = read_plan(Loaded(raw, Document(label="sixty candidates")))
        with tempfile.TemporaryDirectory() as folder:
            trials = Trials(Path(folder), Local(1), SearchProgress())
            finder = Finder(read, trials, shared_by(1), SearchProgress(), look_around=False)
            found = finder.run()
        told = "; ".join(
            f"{one.replicas} x {one.candidate.name} {one.usd_per_hour:.2f} USD/h"
            for one in found.finalists
        )
        return {"told": told, "runs": trials.runs}

    return timed(measure)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.planning", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=tuple(REPETITIONS), help="what is repeated")
    parser.add_argument("--case", choices=tuple(CASES), default="A", help="of rate and replicas")
    parser.add_argument(
        "--repetitions", type=whole_number, metavar="N",
        help=", ".join(f"{times} of {what}" for what, times in REPETITIONS.items())
        + " if not given",
    )  # fmt: skip
    parser.add_argument(
        "--truth", type=float, metavar="RATE", help="the highest rate, from an earlier longer run"
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=RATES, metavar="RATE", help="of replicas"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="of finished repetitions, to go on later"
    )
    parser.add_argument("--runners-up", type=int, default=2, metavar="N", help="of plan")
    return run_command(_command, parser, argv, "the rest was not measured")


def _command(options: argparse.Namespace) -> int:
    repetitions = options.repetitions or REPETITIONS[options.what]
    if options.what == "plan":
        plan(repetitions, options.runners_up, options.keep)
    elif options.what == "rate":
        rate(options.case, repetitions, options.truth, options.keep)
    else:
        replicas(options.case, repetitions, options.rates, options.keep)
    return 0


if __name__ == "__main__":
    start(main)
