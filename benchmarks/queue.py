"""How well the interval of a p99 holds, on a queue of which thousands of runs cost a minute.

    python -m benchmarks.queue --load 0.9 --length 73000 --runs 3000
    python -m benchmarks.queue --load 0.9 --precision 0.1 --runs 300

One server, first come first served, Poisson arrivals, lognormal service (cv 1), by Lindley's
recursion: near saturation its waits are as long in the tail and as like each other as those of an
engine. ``benchmarks.statistics`` asks the engine itself, of which so many runs would take a day.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.case_a import Tail, pooled_p99
from benchmarks.statistics import DEALS, SEEDS, Held, dealt
from experiments.cli.command import Parser, run_command, start, whole_number
from experiments.reporting.intervals import sectioned_ends
from experiments.reporting.means import CONFIDENCE
from experiments.reporting.support import SHORT, Load, needed
from experiments.running.lengths import SAFETY
from experiments.study.precision import PILOT, Precision

TRUE_RUNS, TRUE_LENGTH = 30, 5_000_000
PERCENT = 99
WARMUP = 0.1
Floats = npt.NDArray[np.float64]


def steps(rng: np.random.Generator, load: float, length: int) -> Floats:
    """Return service less time to the next arrival of so many, in mean times between arrivals."""
    variance = math.log(2.0)
    service = load * rng.lognormal(-variance / 2, math.sqrt(variance), length)
    found: Floats = service - rng.exponential(1.0, length)
    return found


def waits_of(steps: Floats) -> Floats:
    """Return the waits of arrivals in a row, but the first."""
    walk = np.concatenate(([0.0], np.cumsum(steps[:-1])))
    found: Floats = walk - np.minimum.accumulate(walk)
    return found[int(WARMUP * len(steps)) :]


def waits(rng: np.random.Generator, load: float, length: int) -> Floats:
    """Return the waits of so many arrivals in a row, in mean times between them, but the first."""
    return waits_of(steps(rng, load, length))


def true_p99(rng: np.random.Generator, load: float) -> float:
    """Return the p99 of the wait in much longer runs."""
    longer = [waits(rng, load, TRUE_LENGTH) for _ in range(TRUE_RUNS)]
    return float(np.mean([np.percentile(one, PERCENT) for one in longer]))


def coverage(load: float, length: int, runs: int) -> str:
    """Count how many groups of ten runs hold the p99 of much longer ones."""
    rng = np.random.default_rng(7)
    tails, each = [], []
    for _ in range(runs):
        sample = waits(rng, load, length)
        tails.append(Tail.of(sample))
        each.append(float(np.percentile(sample, PERCENT)))
    held = Held(true_p99(rng, load))
    for chosen in dealt(rng, runs):
        value = pooled_p99([tails[place] for place in chosen])
        ends = sectioned_ends(value, [each[place] for place in chosen], CONFIDENCE)
        held.add(value, *ends)
    return (
        f"queue at {load:.0%} load, {SEEDS} runs x {length:,}, {runs // SEEDS} groups dealt "
        f"{DEALS} times:\n{held.text('p99 of the wait')}"
    )


def precision(load: float, target: float, repetitions: int) -> str:
    """Repeat the two stages of ``precision``: a pilot, the length that it asks for, what comes out.

    The final runs begin like those of the pilot, as a study's do.
    """
    held = Held(true_p99(np.random.default_rng(99), load))
    known = Load(load, 1.0, 1.0, 1)
    least = max(needed(PERCENT, known.effect), SEEDS * SHORT * known.relaxation) / (1 - WARMUP)
    requests = []
    for repetition in range(repetitions):
        rngs = [np.random.default_rng((repetition, seed)) for seed in range(SEEDS)]
        pilot = math.ceil(max(PILOT, least / 20 / SEEDS))
        first = [steps(rng, load, pilot) for rng in rngs]
        value, low, high = _pooled([waits_of(one) for one in first])
        need = SEEDS * pilot * SAFETY * ((high - low) / 2 / value / target) ** 2
        need = max(need, SEEDS * pilot)
        length = round(min(Precision(target=target).max_requests, max(least, need)) / SEEDS)
        requests.append(SEEDS * length)
        more = (steps(rng, load, length - pilot) for rng in rngs)
        held.add(
            *_pooled([waits_of(np.concatenate(both)) for both in zip(first, more, strict=True)])
        )
    halves = np.array(held.halves)
    within = ", ".join(f"within {100 * target * of:.0f}% {np.mean(halves < target * of):.0%}"
                       for of in (1.0, 1.3))  # fmt: skip
    return (
        f"queue at {load:.0%} load, {repetitions} repetitions of two stages for {target:.0%}, "
        f"{np.mean(requests):,.0f} requests each:\n{held.text('p99 of the wait')}  {within}"
    )


def _pooled(samples: Sequence[Floats]) -> tuple[float, float, float]:
    value = float(np.percentile(np.concatenate(samples), PERCENT))
    each = [float(np.percentile(one, PERCENT)) for one in samples]
    return value, *sectioned_ends(value, each, CONFIDENCE)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.queue", description=__doc__, allow_abbrev=False)
    parser.add_argument("--load", type=float, default=0.9, help="share of capacity")
    parser.add_argument("--length", type=whole_number, default=73_000, help="arrivals of a run")
    parser.add_argument("--runs", type=whole_number, default=3000, help="runs in all")
    parser.add_argument(
        "--precision", type=float, metavar="SHARE", help="repeat the two stages for a half-width"
    )
    return run_command(_command, parser, argv, "nothing was measured")


def _command(options: argparse.Namespace) -> int:
    if options.precision is None:
        print(coverage(options.load, options.length, options.runs))
    else:
        print(precision(options.load, options.precision, options.runs))
    return 0


if __name__ == "__main__":
    start(main)
