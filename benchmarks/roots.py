"""How well the interval of a highest rate holds, on a queue of which hundreds of runs cost seconds.

    python -m benchmarks.roots --loads 0.7 0.8 0.86 0.93

One server, first come first served, Poisson arrivals, lognormal service (cv 1), by Lindley's
recursion; the limit is the wait that 1% exceed at a load. Runs of the same luck at two loads around
it, as a search has them, are dealt to searches: eight seeds, and as many more as their interval
asks for. The truth is the root of all runs. ``benchmarks.planning rate`` asks the engine itself.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.cli.command import Parser, run_command, start, whole_number
from experiments.planning.capacity.highest import LEAST_ROOM, MOST_SEEDS, SEEDS, SPREAD
from experiments.planning.expected import effect_of_load
from experiments.planning.lengths import FEWEST, WARMUP
from experiments.planning.logit_line import Pair, Root, Scale, root, seeds_needed
from experiments.reporting.support import Load

ALLOWED, TARGET = 0.01, 0.02
LENGTH = FEWEST
Counts = npt.NDArray[np.int64]


def ends_of(load: float) -> tuple[float, float]:
    """Return the loads of the pair that a search puts around one."""
    step = min(SPREAD / (1 / load - 1), -math.log(LEAST_ROOM))
    return 1 - (1 - load) * math.exp(step), 1 - (1 - load) * math.exp(-step)


def waits(rng: np.random.Generator, loads: Sequence[float]) -> list[npt.NDArray[np.float32]]:
    """Return the waits of one run at several loads, with the same services and arrivals."""
    variance = math.log(2.0)
    service = rng.lognormal(-variance / 2, math.sqrt(variance), LENGTH)
    gaps, found = rng.exponential(1.0, LENGTH), []
    for load in loads:
        walk = np.concatenate(([0.0], np.cumsum((service - gaps / load)[:-1])))
        wait = walk - np.minimum.accumulate(walk)
        found.append(wait[int(WARMUP * LENGTH) :].astype(np.float32))
    return found


def missed_of(load: float, runs: int) -> Counts:
    """Return the waits of each run that are too long, at both ends of the pair, shape (2, runs).

    Too long is what 1% exceed at the load itself, of as many runs.
    """
    rng = np.random.default_rng(3)
    low, high = ends_of(load)
    found = [waits(rng, (low, load, high)) for _ in range(runs)]
    limit = np.quantile(np.concatenate([middle for _, middle, _ in found]), 1 - ALLOWED)
    counts = [[int((run[end] > limit).sum()) for run in found] for end in (0, 2)]
    return np.array(counts, dtype=np.int64)


def searched(missed: Counts, load: float, by_load: bool) -> Root | None:
    """Return what a search finds of runs in this order."""

    def of(seeds: int) -> Root | None:
        counts = np.full(seeds, LENGTH - int(WARMUP * LENGTH))
        ends = ends_of(load)
        effects = tuple(effect_of_load(Load(end, 1.0, 1.0, 1)) if by_load else 0.0 for end in ends)
        pair = Pair(*ends, missed[0, :seeds], missed[1, :seeds], counts, counts, Scale(1.0),
                    (effects[0], effects[1]))  # fmt: skip
        return root(pair, ALLOWED)

    first = of(SEEDS)
    return None if first is None else of(seeds_needed(first, TARGET, MOST_SEEDS))


def told(load: float, runs: int, times: int, by_load: bool) -> str:
    """Deal runs to searches; say how far off they are and how often their intervals hold."""
    missed = missed_of(load, runs)
    counts = np.full(runs, LENGTH - int(WARMUP * LENGTH))
    true = root(Pair(*ends_of(load), missed[0], missed[1], counts, counts, Scale(1.0)), ALLOWED)
    assert true is not None
    rng, found = np.random.default_rng(1), []
    for _ in range(times):
        one = searched(missed[:, rng.permutation(runs)[:MOST_SEEDS]], load, by_load)
        if one is not None:
            found.append(one)
    errors = np.array([one.value / true.value - 1 for one in found])
    held = [one.low <= true.value <= one.high for one in found]
    above = [one.low > true.value for one in found]
    rms, how = math.sqrt(float((errors**2).mean())), "the load asked" if by_load else "seeds alone"
    half = np.mean([one.half_width for one in found])
    return (
        f"queue at {load:.0%} load, {how}: error (rms) {rms:.2%}, bias {errors.mean():+.2%}, more "
        f"than 2% high {np.mean(errors > 0.02):.1%}, the interval covers {np.mean(held):.1%}, is "
        f"too high in {np.mean(above):.1%}, half-width {half:.2%}, "
        f"{np.mean([one.seeds for one in found]):.1f} seeds"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.roots", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--loads", type=float, nargs="+", default=(0.7, 0.8, 0.86, 0.93), metavar="SHARE"
    )
    parser.add_argument("--runs", type=whole_number, default=600, metavar="N", help="simulated")
    parser.add_argument("--times", type=whole_number, default=1000, metavar="N", help="searches")
    return run_command(_command, parser, argv, "the rest was not measured")


def _command(options: argparse.Namespace) -> int:
    for load in options.loads:
        for by_load in (False, True):
            print(told(load, options.runs, options.times, by_load), flush=True)
    return 0


if __name__ == "__main__":
    start(main)
