"""What a finished run says of an SLO: for each request, in order of arrival, what it missed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.planning.sequential import BATCHES, Batch
from experiments.study.document import Study
from sim.latencies import latency
from sim.result import FINISHED, UNFINISHED
from sim.slo import Slo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

READ = (
    "arrival_s", "sent_s", "first_token_s", "finish_s", "output_tokens", "status",
)  # fmt: skip
LATENCIES = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e"}
"""Limits of an SLO, and the latency that each is of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The measured requests of one run, in order of arrival."""

    arrival_s: Floats
    missed: Mask
    """Not answered within every limit."""
    by_limit: Mapping[str, Mask]
    """Which of them missed each limit of the SLO; whoever was not answered missed all."""

    @property
    def measured(self) -> int:
        """Requests."""
        return len(self.missed)

    def batches(self, count: int = BATCHES) -> tuple[Batch, ...]:
        """Missed and measured requests of equally many in a row."""
        edges = np.linspace(0, len(self.missed), count + 1).astype(np.int64)
        sums = np.concatenate(([0], np.cumsum(self.missed)))
        return tuple(
            (int(sums[stop] - sums[start]), int(stop - start)) for start, stop in pairwise(edges)
        )

    def windows(self, window_s: float, count: int) -> tuple[Ints, Ints]:
        """Missed and measured requests of each window of time, shapes (count,)."""
        number = np.minimum((self.arrival_s / window_s).astype(np.int64), count - 1)
        return (
            np.bincount(number[self.missed], minlength=count),
            np.bincount(number, minlength=count),
        )


def limits_of(slo: Slo) -> dict[str, float]:
    """Return the limits that are set, by key of the SLO, seconds."""
    given = {name: getattr(slo, name) for name in LATENCIES}
    return {name: limit_s for name, limit_s in given.items() if limit_s is not None}


def sample_of(path: Path, point: Study) -> Sample:
    """Read what the piece of a run says of the SLO of its point."""
    import pyarrow.parquet as pq

    assert point.slo is not None  # searches are refused without one
    table = pq.read_table(path, columns=list(READ))
    columns = {name: table[name].to_numpy() for name in READ}
    return measured(columns, point, point.slo)


def measured(columns: Mapping[str, npt.NDArray[np.generic]], point: Study, slo: Slo) -> Sample:
    """Return what the columns of a run say, without its warm-up."""
    arrival_s = np.asarray(columns["arrival_s"], dtype=np.float64)
    status = np.asarray(columns["status"])
    there = ~np.isnan(arrival_s)
    if point.stop_s is not None:
        there &= (arrival_s <= point.stop_s) | (status != UNFINISHED)
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(arrival_s[rows], kind="stable")]
    if point.warmup_s is not None:
        rows = rows[np.searchsorted(arrival_s[rows], point.warmup_s) :]
    else:
        rows = rows[int(point.warmup_share * len(rows)) :]
    kept = {name: np.asarray(column)[rows] for name, column in columns.items()}
    lost = kept["status"] != FINISHED
    by_limit = {
        name: lost | (latency(kept, LATENCIES[name]) > limit_s)
        for name, limit_s in limits_of(slo).items()
    }
    missed = lost.copy()
    for each in by_limit.values():
        missed |= each
    return Sample(kept["arrival_s"], missed, by_limit)


def binding(samples: Sequence[Sample]) -> tuple[str, float]:
    """Return the limit that most of the missed requests miss, and the share that does.

    Nothing and NaN where none missed.
    """
    missed = sum(int(sample.missed.sum()) for sample in samples)
    if not missed:
        return "", float("nan")
    shares = {
        name: sum(int(sample.by_limit[name].sum()) for sample in samples) / missed
        for name in samples[0].by_limit
    }
    name = max(shares, key=lambda one: shares[one])
    return name, shares[name]
