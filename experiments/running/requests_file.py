"""Every request of every run in one Parquet file, which grows while the runs end."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from experiments.running.arrow import array_of, chosen, numbers
from experiments.running.pieces import FURTHER, ROWS, further_columns, read_requests
from experiments.running.sweep import Run
from sim.recording.result import STATUS_NAMES
from sim.recording.tape import Column

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

PARQUET: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""Times differ from row to row, and zstd packs the rest as well as a dictionary."""

Held = Sequence[tuple[Run, Mapping[str, Column]]]
"""Runs and columns of their requests."""


class RequestsFile:
    """A file to which runs are added as they end.

    Runs lie in their order, whenever they end. Short ones share a row group, which is held in
    memory until it has ``ROWS`` requests: two hundred of each point would be slow to write and to
    read. Nothing of the file is kept when something goes wrong: the pieces are.
    ``pools`` name the pool of each replica, by point; they become a column.
    """

    def __init__(
        self, runs: Sequence[Run], path: Path, pools: Mapping[int, Sequence[str]] | None = None
    ) -> None:
        self.path = path
        self._pools = pools
        self._runs = runs
        self._swept = _typed_values({run.point: run.values for run in runs})
        self._further = further_columns(run.study for run in runs)
        self._ended: set[Path] = set()
        self._written = 0
        self._held: list[tuple[Run, Mapping[str, Column]]] = []
        self._held_rows = 0
        self._writer: ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._writer is not None:
                with suppress(OSError):  # a full disk; whoever needs the file has closed it
                    self._writer.close()
        finally:
            self.path.unlink(missing_ok=True)

    def add(self, run: Run) -> None:
        """Take note that a run has ended; write what is next in line."""
        self._ended.add(run.path)
        while self._written < len(self._runs) and self._runs[self._written].path in self._ended:
            self._write(self._runs[self._written])
            self._written += 1

    def publish(self, path: Path) -> None:
        """Move the file, in which all runs are by now, to its place.

        Raises:
            ValueError: some run has not ended.
        """
        if not self._runs or self._written < len(self._runs):
            raise ValueError(f"{self._written} of {len(self._runs)} runs are there, expected all")
        self._write_held()
        assert self._writer is not None  # every run has requests
        self._writer.close()
        os.replace(self.path, path)

    def _write(self, run: Run) -> None:
        for columns in read_requests(run.path):
            rows = _rows(columns)
            if self._held_rows + rows > ROWS:
                self._write_held()
            self._held.append((run, columns))
            self._held_rows += rows

    def _write_held(self) -> None:
        """Write one row group."""
        import pyarrow.parquet as pq

        if not self._held:
            return
        columns = {**self._identity(self._held), **self._requests(self._held)}
        table = pa.Table.from_arrays(list(columns.values()), list(columns))
        self._held.clear()
        self._held_rows = 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, **PARQUET)
        self._writer.write_table(table, row_group_size=len(table))

    def _identity(self, held: Held) -> dict[str, pa.Array]:
        """Return the columns that say whose requests they are: point, draw, seed, swept keys."""
        rows = [_rows(columns) for _, columns in held]
        found = {
            name: numbers(np.repeat([run.identity[name] for run, _ in held], rows))
            for name in held[0][0].identity
        }
        for key in held[0][0].values:
            values = (self._swept[run.point][key] for run, _ in held)
            found[key] = pa.concat_arrays(map(pa.repeat, values, rows))
        return found

    def _requests(self, held: Held) -> dict[str, pa.Array]:
        """Return the columns of requests; ``pool`` is null for who was sent to none."""
        found: dict[str, pa.Array] = {}
        for name in held[0][1]:
            if name in FURTHER or name == "measured":
                continue
            found[name] = numbers(np.concatenate([columns[name] for _, columns in held]))
            if name == "replica" and self._pools:
                of_each = (chosen(self._pools[run.point], columns[name]) for run, columns in held)
                found["pool"] = pa.concat_arrays(of_each)
        for name, missing in FURTHER.items():
            if name in self._further:
                found[name] = numbers(np.concatenate(list(_or_missing(held, name, missing))))
        found["measured"] = numbers(np.concatenate([columns["measured"] for _, columns in held]))
        status = np.concatenate([columns["status"] for _, columns in held])
        found["status_name"] = chosen(STATUS_NAMES, status)
        return found


def _rows(columns: Mapping[str, Column]) -> int:
    return len(columns["request"])


def _or_missing(held: Held, name: str, missing: np.generic) -> Iterator[Column]:
    """A column of each run; ``missing`` throughout where a run has none of this name."""
    for _, columns in held:
        yield columns[name] if name in columns else np.repeat(missing, _rows(columns))


def _typed_values(
    points: Mapping[int, Mapping[str, Any]],
) -> dict[int, dict[str, "pa.Scalar[Any]"]]:
    """Values of the swept keys by point, each key with one type at all points."""
    found: dict[int, dict[str, pa.Scalar[Any]]] = {number: {} for number in points}
    for key in next(iter(points.values()), {}):
        values = [swept[key] for swept in points.values()]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            values = [None if value is None else str(value) for value in values]
        for number, value in zip(points, array_of(values), strict=True):
            found[number][key] = value
    return found
