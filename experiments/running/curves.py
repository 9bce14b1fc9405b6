"""What the page shows of each point's requests, read from the pieces point by point."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow.parquet as pq

from experiments.reporting.page.curves import COLUMNS, Columns, Curves, curves
from experiments.running.sweep import Run


def curves_of(runs: Sequence[Run]) -> Iterator[Curves]:
    """Give the curves of each point; its runs lie one after the other."""
    for _, group in groupby(runs, lambda run: run.point):
        found = list(group)
        yield curves([_columns(run) for run in found], found[0].study.slo)


def _columns(run: Run) -> Columns:
    table = pq.read_table(run.path, columns=list(COLUMNS), use_threads=False)
    return {name: table.column(name).to_numpy() for name in COLUMNS}
