"""What a finished run says of an SLO: for each request, in order of arrival, what it missed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.planning.logit_line import logit
from experiments.planning.promises import Promise, limits_of, promises_of
from experiments.planning.sequential import BATCHES, Batch
from experiments.running.pieces import read_columns
from experiments.study.document import Study
from model.dataclass import dataclass
from sim.measuring.latencies import latency
from sim.measuring.slo import Slo
from sim.recording.result import FINISHED

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MOST_STRAIN = 1000.0
"""Times a limit that a latency counts at most, in the mean of all."""
READ = (
    "arrival_s", "sent_s", "first_token_s", "finish_s", "output_tokens", "status", "measured",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """The measured requests of one run, in order of arrival."""

    arrival_s: Floats
    missed: Mapping[str, Mask]
    """Which of them count against each promise of the SLO, by its key."""
    by_limit: Mapping[str, Mask]
    """Which of them missed each limit of the SLO; whoever was not answered missed all."""
    strain: float = math.nan
    """How much of a limit a request takes: the largest latency over its limit, in the mean. Who was
    not answered takes ``MOST_STRAIN``, and nobody more."""

    @property
    def measured(self) -> int:
        """Requests."""
        return len(self.arrival_s)

    def count(self, promise: Promise) -> int:
        """How many of the requests count against a promise."""
        return int(self.missed[promise.key].sum())

    def waited(self, promise: Promise) -> int:
        """How many of those missed a limit of TTFT or E2E."""
        waits = [self.by_limit[name] for name in promise.limits if not name.startswith("tpot")]
        return int(np.logical_or.reduce(waits).sum()) if waits else 0

    def batches(self, promise: Promise, count: int = BATCHES) -> tuple[Batch, ...]:
        """Missed and measured requests of equally many in a row."""
        missed = self.missed[promise.key]
        edges = np.linspace(0, len(missed), count + 1).astype(np.int64)
        sums = np.concatenate(([0], np.cumsum(missed)))
        return tuple(
            (int(sums[stop] - sums[start]), int(stop - start)) for start, stop in pairwise(edges)
        )

    def windows(self, window_s: float, count: int) -> tuple[dict[str, Ints], Ints]:
        """Missed by promise, and measured requests, of each window of time, shapes (count,)."""
        number = np.minimum((self.arrival_s / window_s).astype(np.int64), count - 1)
        missed = {
            key: np.bincount(number[mask], minlength=count) for key, mask in self.missed.items()
        }
        return missed, np.bincount(number, minlength=count)


def sample_of(path: Path, point: Study) -> Sample:
    """Read what the piece of a run says of the SLO of its point."""
    assert point.slo is not None  # searches are refused without one
    return measured(dict(read_columns(path, READ)), point.slo)


def measured(columns: Mapping[str, npt.NDArray[np.generic]], slo: Slo) -> Sample:
    """Return what columns say of those who are measured (``sim.measuring.steady_state``)."""
    arrival_s = np.asarray(columns["arrival_s"], dtype=np.float64)
    rows = np.flatnonzero(np.asarray(columns["measured"]) == 1)
    rows = rows[np.argsort(arrival_s[rows], kind="stable")]
    kept = {name: np.asarray(column)[rows] for name, column in columns.items()}
    lost = kept["status"] != FINISHED
    limits = limits_of(slo)
    needed_s = {key: latency(kept, one.latency) for key, one in limits.items()}
    by_limit = {key: lost | (needed_s[key] > one.limit_s) for key, one in limits.items()}
    missed = {}
    for promise in promises_of(slo):
        mask = missed[promise.key] = lost.copy()
        for name in promise.limits:
            mask |= by_limit[name]
    return Sample(
        arrival_s[rows],
        missed,
        by_limit,
        _strain([needed_s[key] / one.limit_s for key, one in limits.items()], lost),
    )


def _strain(taken: Iterable[Floats], lost: Mask) -> float:
    """Return the mean of the largest shares of limits; latencies that nobody had (NaN) count 0."""
    if not len(lost):
        return math.nan
    most = np.fmax.reduce([*taken, np.zeros(len(lost))])
    return float(np.where(lost, MOST_STRAIN, np.minimum(most, MOST_STRAIN)).mean())


def worst(samples: Sequence[Sample], promises: Sequence[Promise]) -> Promise:
    """Return the promise that is furthest from kept, or nearest to missed, in the logit."""
    measured = sum(sample.measured for sample in samples)

    def far(promise: Promise) -> float:
        missed = sum(sample.count(promise) for sample in samples)
        return logit(missed, measured) - math.log(promise.allowed / (1 - promise.allowed))

    return max(promises, key=far)


def waited(samples: Sequence[Sample], promise: Promise) -> float:
    """Return the share of the requests that miss a promise which miss a limit of TTFT or E2E.

    1 where none misses, since nothing is known.
    """
    missed = sum(sample.count(promise) for sample in samples)
    return sum(sample.waited(promise) for sample in samples) / missed if missed else 1.0


def binding(samples: Sequence[Sample], promises: Sequence[Promise]) -> tuple[str, float]:
    """Return the limit that most requests miss that count against the worst promise.

    And the share of them that does. Nothing and NaN where none misses.
    """
    promise = worst(samples, promises)
    missed = sum(sample.count(promise) for sample in samples)
    if not missed:
        return "", float("nan")
    shares = {
        name: sum(int(sample.by_limit[name].sum()) for sample in samples) / missed
        for name in promise.limits
    }
    name = max(shares, key=lambda one: shares[one])
    return name, shares[name]
