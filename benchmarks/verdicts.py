"""How often the test of a missed share is wrong, and how many runs it takes.

    python -m benchmarks.verdicts --times 500 --keep FOLDER

Runs of an engine (case A of ``benchmarks.planning`` at 38 requests/s) and of a queue with one
server (``benchmarks.queue``) are dealt to tests, their misses scaled so that a given share of all
of them misses. So the truth is known, and batches differ and are alike as those of real runs are.
With ``--keep FOLDER`` runs of the engine are simulated once.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.kept import Row, kept
from benchmarks.planning import KEY, OF_A_TEST, _promises, point
from benchmarks.queue import waits
from experiments.cli.command import Parser, run_command, start, whole_number
from experiments.planning.lengths import long_enough, with_values
from experiments.planning.probes import SHORTER, SteadyProbe, settle, shorter
from experiments.planning.progress import SearchProgress
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import BATCHES, Batch, Verdict
from experiments.planning.trials import Trial, Trials
from experiments.running.local import Local
from experiments.study.document import Study
from model.dataclass import dataclass

SHARES = (0.0067, 0.008, 0.01, 0.013, 0.016)
ALLOWED = 0.01
RATE_PER_S = 38.0
LOAD = 0.87
"""Of the queue; a share of its waits is late."""
QUEUE_RUNS = 2000
PROMISE = Promise("", ALLOWED, ("tpot_s",))


@dataclass(frozen=True, slots=True)
class Dealt(Sample):
    """A run as a test sees it: its batches."""

    rows: tuple[Batch, ...] = ()

    @property
    def measured(self) -> int:
        """Requests."""
        return sum(count for _, count in self.rows)

    def count(self, promise: Promise) -> int:
        """Missed ones."""
        return sum(missed for missed, _ in self.rows)

    def batches(self, promise: Promise, count: int = BATCHES) -> tuple[Batch, ...]:
        """All of them."""
        return self.rows


Runs = tuple[list[list[Batch]], list[list[Batch]]]
"""Batches of whole runs, and of short ones of other seeds."""


def engine(runs: int, keep: Path | None) -> Runs:
    """Simulate so many runs of each length, or take those that are kept."""
    rows = [kept(keep, f"verdicts_{number}", engine_row, number) for number in range(runs)]
    return [row["whole"] for row in rows], [row["short"] for row in rows]


def engine_row(number: int) -> Row:
    """Simulate a whole run and a short one; return their batches."""
    study = _engine()
    (promise,) = _promises(study)
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), Local(1), SearchProgress())
        both = [Trial(study, 50_000 + number, ""), Trial(shorter(study), 90_000 + number, "")]
        whole, short = trials.ask(both)
    return {"whole": whole.batches(promise), "short": short.batches(promise)}


def _engine() -> Study:
    values = {"cluster.router": "least_requests", KEY: RATE_PER_S}
    return long_enough(with_values(point("A", 0), values), OF_A_TEST)


def queue(runs: int = QUEUE_RUNS) -> Runs:
    """The same of a queue."""
    rng = np.random.default_rng(5)
    whole = [waits(rng, LOAD, OF_A_TEST) for _ in range(runs)]
    short = [waits(rng, LOAD, OF_A_TEST // SHORTER) for _ in range(runs)]
    late = float(np.quantile(np.concatenate(whole), 1 - SHARES[0]))
    return [_cut(one > late) for one in whole], [_cut(one > late) for one in short]


def _cut(missed: np.ndarray) -> list[Batch]:
    return [(int(part.sum()), len(part)) for part in np.array_split(missed, BATCHES)]


def told(runs: Runs, share: float, times: int) -> tuple[dict[Verdict, float], float]:
    """Deal runs to so many tests; return how often each verdict, and how many runs they took."""
    factor = share / _mean(runs[0])
    whole, short = (_scaled(rows, factor) for rows in runs)
    rng, study = np.random.default_rng(1), _engine()
    assert study.slo is not None
    # Of TPOT alone, so that no load asks for longer runs than those that are dealt.
    study = study.model_copy(update={"slo": study.slo.model_copy(update={"ttft_s": None})})

    def ask(trials: Sequence[Trial]) -> list[Sample]:
        shown = whole if trials[0].study.workload.num_requests == OF_A_TEST else short
        return [shown[place] for place in rng.integers(len(shown), size=len(trials))]

    verdicts, spent = [], 0
    for _ in range(times):
        probe = SteadyProbe(study, "", (PROMISE,), 0.95)
        settle([probe], ask)
        verdicts.append(probe.verdict)
        spent += probe.runs
    return {one: verdicts.count(one) / times for one in Verdict}, spent / times


def _mean(rows: list[list[Batch]]) -> float:
    missed, measured = (sum(batch[place] for row in rows for batch in row) for place in (0, 1))
    return missed / measured


def _scaled(rows: list[list[Batch]], factor: float) -> list[Sample]:
    none = np.zeros(0)
    limits = {"tpot_s": np.zeros(1, dtype=np.bool_)}
    return [
        Dealt(
            none,
            {},
            limits,
            tuple((round(min(missed * factor, count)), count) for missed, count in row),
        )
        for row in rows
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.verdicts", description=__doc__, allow_abbrev=False)
    parser.add_argument("--times", type=whole_number, default=500, metavar="N", help="tests dealt")
    parser.add_argument("--runs", type=whole_number, default=240, metavar="N", help="of the engine")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of the runs of the engine")
    return run_command(_command, parser, argv, "the rest was not measured")


def _command(options: argparse.Namespace) -> int:
    for name, runs in (("queue", queue()), ("engine", engine(options.runs, options.keep))):
        for share in SHARES:
            found, spent = told(runs, share, options.times)
            words = ", ".join(f"{one.value} {100 * part:.1f}%" for one, part in found.items())
            print(f"{name}, {100 * share:.2g}% miss where 1% may: {words}; {spent:.1f} runs")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    start(main)
