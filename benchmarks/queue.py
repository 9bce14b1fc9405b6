"""How well the interval of a p99 holds, on a queue of which thousands of runs cost a minute.

    python -m benchmarks.queue --load 0.9 --length 73000 --runs 3000

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

TRUE_RUNS, TRUE_LENGTH = 30, 5_000_000
WARMUP = 0.1


def waits(rng: np.random.Generator, load: float, length: int) -> npt.NDArray[np.float64]:
    """Return the waits of so many arrivals in a row, in mean times between them, but the first."""
    variance = math.log(2.0)
    service = load * rng.lognormal(-variance / 2, math.sqrt(variance), length)
    steps = service[:-1] - rng.exponential(1.0, length - 1)
    walk = np.concatenate(([0.0], np.cumsum(steps)))
    found: npt.NDArray[np.float64] = walk - np.minimum.accumulate(walk)
    return found[int(WARMUP * length) :]


def coverage(load: float, length: int, runs: int) -> str:
    """Count how many groups of ten runs hold the p99 of much longer ones."""
    rng = np.random.default_rng(7)
    tails, each = [], []
    for _ in range(runs):
        sample = waits(rng, load, length)
        tails.append(Tail.of(sample))
        each.append(float(np.percentile(sample, 99)))
    longer = [float(np.percentile(waits(rng, load, TRUE_LENGTH), 99)) for _ in range(TRUE_RUNS)]
    held = Held(float(np.mean(longer)))
    for chosen in dealt(rng, runs):
        value = pooled_p99([tails[place] for place in chosen])
        ends = sectioned_ends(value, [each[place] for place in chosen], CONFIDENCE)
        held.add(value, *ends)
    return (
        f"queue at {load:.0%} load, {SEEDS} runs x {length:,}, {runs // SEEDS} groups dealt "
        f"{DEALS} times:\n{held.text('p99 of the wait')}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.queue", description=__doc__, allow_abbrev=False)
    parser.add_argument("--load", type=float, default=0.9, help="share of capacity")
    parser.add_argument("--length", type=whole_number, default=73_000, help="arrivals of a run")
    parser.add_argument("--runs", type=whole_number, default=3000, help="runs in all")
    return run_command(_command, parser, argv, "nothing was measured")


def _command(options: argparse.Namespace) -> int:
    print(coverage(options.load, options.length, options.runs))
    return 0


if __name__ == "__main__":
    start(main)
