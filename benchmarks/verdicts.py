"""How often the test of a missed share is wrong, and how many runs it takes.

    python -m benchmarks.verdicts --times 1000 --keep FOLDER

Runs of an engine (case A of ``benchmarks.planning`` at 38.8 requests/s, where about 1% miss) and of
queues with one server (``benchmarks.queue``) are dealt to tests. Of the engine misses are scaled so
that a given share of all of them misses; of a queue a wait is too long that this share exceeds. So
the truth is known, and batches differ and are alike as those of real runs are. A verdict of kept
where more than the allowed share misses says too few replicas; one of missed or undecided where
less does says too many. With ``--keep FOLDER`` runs of the engine are simulated once.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.kept import Row, kept
from benchmarks.planning import KEY, OF_A_TEST, _promises, point
from benchmarks.queue import waits
from experiments.cli.command import Parser, run_command, start, whole_number
from experiments.planning.lengths import load_that_waits, long_enough, with_values
from experiments.planning.probes import SHORTER, SteadyProbe, settle, shorter
from experiments.planning.progress import SearchProgress
from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from experiments.planning.sequential import BATCHES, Batch, Verdict
from experiments.planning.trials import Trial, Trials
from experiments.reporting.support import Load
from experiments.running.local import Local
from experiments.study.document import Study
from model.dataclass import dataclass

SHARES = (0.0067, 0.008, 0.01, 0.013, 0.016)
ALLOWED = 0.01
RATE_PER_S = 38.8
LOADS = (0.8, 0.87, 0.93)
"""Of the queues."""
QUEUE_RUNS = 2000
PROMISE = Promise("", ALLOWED, ("ttft_s", "tpot_s"))

Waits = npt.NDArray[np.float32]
Part = tuple[int, int, int]
"""Requests of a batch that miss, those of them that waited too long, and all of them."""
Runs = tuple[list[list[Part]], list[list[Part]]]
"""Batches of whole runs, and of short ones of other seeds."""


@dataclass(frozen=True, slots=True)
class Dealt(Sample):
    """A run as a test sees it: its batches."""

    rows: tuple[Part, ...] = ()

    @property
    def measured(self) -> int:
        """Requests."""
        return sum(count for *_, count in self.rows)

    def count(self, promise: Promise) -> int:
        """Missed ones."""
        return sum(missed for missed, *_ in self.rows)

    def waited(self, promise: Promise) -> int:
        """Those of them that waited too long."""
        return sum(waited for _, waited, _ in self.rows)

    def batches(self, promise: Promise, count: int = BATCHES) -> tuple[Batch, ...]:
        """All of them."""
        return tuple((missed, measured) for missed, _, measured in self.rows)


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
    return {"whole": _parts(whole, promise), "short": _parts(short, promise)}


def _parts(sample: Sample, promise: Promise) -> list[Part]:
    halves = (sample.missed[promise.key], sample.by_limit["ttft_s"])
    missed, waited = (np.array_split(each, BATCHES) for each in halves)
    return [(int(a.sum()), int(b.sum()), len(a)) for a, b in zip(missed, waited, strict=True)]


def _engine() -> Study:
    values = {"cluster.router": "least_requests", KEY: RATE_PER_S}
    return long_enough(with_values(point("A", 0), values), OF_A_TEST)


def queue(load: float, share: float, runs: int = QUEUE_RUNS) -> Runs:
    """The same of a queue, a share of whose waits is too long."""
    whole, short = _waits(load, runs)
    late = float(np.quantile(whole, 1 - share))
    return [_cut(one > late) for one in whole], [_cut(one > late) for one in short]


@lru_cache(maxsize=1)
def _waits(load: float, runs: int) -> tuple[Waits, Waits]:
    """Waits of so many runs of each length, shapes (runs, measured)."""
    rng = np.random.default_rng(5)
    lengths = (OF_A_TEST, OF_A_TEST // SHORTER)
    whole, short = (
        np.stack([waits(rng, load, length).astype(np.float32) for _ in range(runs)])
        for length in lengths
    )
    return whole, short


def _cut(missed: np.ndarray) -> list[Part]:
    parts = np.array_split(missed, BATCHES)
    return [(int(part.sum()), int(part.sum()), len(part)) for part in parts]


@dataclass(frozen=True, slots=True)
class Told:
    """What tests said: shares of them, and how many runs one took."""

    verdicts: dict[Verdict, float]
    runs: float

    def text(self, share: float) -> str:
        """In words, with how often the number of replicas is another than it should be."""
        shares = {one: f"{100 * part:.1f}%" for one, part in self.verdicts.items()}
        words = ", ".join(f"{one.value} {text}" for one, text in shares.items())
        if share < ALLOWED:
            both = self.verdicts[Verdict.MISSED] + self.verdicts[Verdict.UNDECIDED]
            wrong = f"; one replica too many {100 * both:.1f}%"
        else:
            wrong = f"; too few {shares[Verdict.KEPT]}" if share > ALLOWED else ""
        return f"{words}{wrong}; {self.runs:.1f} runs"


def told(runs: Runs, share: float, times: int, load: Load | None) -> Told:
    """Deal runs to so many tests of a deployment of some load; return what these say."""
    factor = share / _mean(runs[0])
    whole, short = (_scaled(rows, factor) for rows in runs)
    rng, study = np.random.default_rng(1), _engine()

    def ask(trials: Sequence[Trial]) -> list[Sample]:
        """Deal runs with replacement."""
        shown = whole if trials[0].study.workload.num_requests == OF_A_TEST else short
        return [shown[place] for place in rng.integers(len(shown), size=len(trials))]

    verdicts, spent = [], 0
    for _ in range(times):
        probe = SteadyProbe(study, "", (PROMISE,), 0.95, load_of=lambda _: load)
        settle([probe], ask)
        verdicts.append(probe.verdict)
        spent += probe.runs
    return Told({one: verdicts.count(one) / times for one in Verdict}, spent / times)


def _mean(rows: list[list[Part]]) -> float:
    missed, measured = (sum(batch[place] for row in rows for batch in row) for place in (0, 2))
    return missed / measured


def _scaled(rows: list[list[Part]], factor: float) -> list[Sample]:
    def scaled(batch: Part) -> Part:
        missed, waited, count = batch
        return round(min(missed * factor, count)), round(min(waited * factor, count)), count

    return [Dealt(np.zeros(0), {}, {}, rows=tuple(scaled(batch) for batch in row)) for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m benchmarks.verdicts", description=__doc__, allow_abbrev=False)
    parser.add_argument("--times", type=whole_number, default=1000, metavar="N", help="tests dealt")
    parser.add_argument("--runs", type=whole_number, default=240, metavar="N", help="of the engine")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of the runs of the engine")
    return run_command(_command, parser, argv, "the rest was not measured")


def _command(options: argparse.Namespace) -> int:
    for load in LOADS:
        for share in SHARES:
            _print(f"queue at {load:.0%} load", queue(load, share), share, options.times,
                   Load(load, 1.0, 1.0, 1))  # fmt: skip
    runs, load_is = engine(options.runs, options.keep), load_that_waits(_engine())
    for share in SHARES:
        _print("engine", runs, share, options.times, load_is)
    return 0


def _print(name: str, runs: Runs, share: float, times: int, load: Load | None) -> None:
    found = told(runs, share, times, load)
    print(f"{name}, {100 * share:.2g}% miss where 1% may: {found.text(share)}")
    sys.stdout.flush()


if __name__ == "__main__":
    start(main)
