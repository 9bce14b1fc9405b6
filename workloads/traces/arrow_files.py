"""Parquet, Arrow and Feather files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from workloads.traces.containers import opened
from workloads.traces.errors import TraceError, printable
from workloads.traces.fields import Array, Date, Field
from workloads.traces.source import Row, Source, UnsoundError

BATCH_ROWS = 65536
DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
"""What damaged files make Arrow raise."""


class ArrowFile(Source):
    """A file of typed columns whose schema was read."""

    def __init__(self, path: Path, kind: str) -> None:
        self._kind = kind
        with opened(path) as (reader, packing):
            source = _seekable(path, reader, packing)
            names = list(self._checked(path, lambda: _schema(source, kind).names))
        super().__init__(path, kind, packing, [str(name) for name in names])

    def columns(self, fields: Sequence[Field]) -> Iterator[list[Array]]:
        """Yield the values of ``fields``, a row group's part at a time."""
        for batch in self._batches([field.name for field in fields]):
            try:
                yield [_as_numpy(batch.column(field.name), field) for field in fields]
            except (pa.ArrowException, ValueError):
                raise UnsoundError from None

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield the number of every row, from 1, and its values under ``names``."""
        number = 0
        for batch in self._batches(list(names)):
            for row in self._checked(self.path, batch.to_pylist):
                number += 1
                yield number, row

    def where(self, place: int) -> str:
        """Return the file and the row."""
        return f"{self.path}: row {place}"

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        with opened(self.path) as (reader, packing):
            source = _seekable(self.path, reader, packing)
            batches = _batches(source, self._kind, names)
            while True:
                batch = self._checked(self.path, lambda: _plain(next(batches, None)))
                if batch is None:
                    return
                yield batch

    @staticmethod
    def _checked(path: Path, action: Any) -> Any:
        """Do what a damaged file may break. Raises TraceError."""
        try:
            return action()
        except DAMAGE as error:
            if isinstance(error, TraceError):
                raise
            words = printable(" ".join(str(error).split()))[:200] or type(error).__name__
            raise TraceError(f"{path}: cannot be read: {words}") from error


def _seekable(path: Path, reader: Any, packing: str) -> Any:
    """Return what Arrow can seek in: the file itself, or its unpacked bytes."""
    return pa.BufferReader(reader.read()) if packing else pa.OSFile(str(path))


def _schema(source: Any, kind: str) -> pa.Schema:
    if kind == "Parquet":
        return pa.parquet.ParquetFile(source).schema_arrow
    return pa.ipc.open_file(source).schema


def _batches(source: Any, kind: str, names: list[str]) -> Iterator[pa.RecordBatch]:
    if kind == "Parquet":
        file = pa.parquet.ParquetFile(source)
        yield from file.iter_batches(BATCH_ROWS, columns=names, use_threads=False)
        return
    file = pa.ipc.open_file(source)
    for number in range(file.num_record_batches):
        yield file.get_batch(number).select(names)


def _plain(batch: pa.RecordBatch | None) -> pa.RecordBatch | None:
    """Return a batch whose decimal columns, as databases export them, are floats."""
    if batch is None or not any(pa.types.is_decimal(kind) for kind in batch.schema.types):
        return batch
    columns = [
        one.cast(pa.float64()) if pa.types.is_decimal(one.type) else one for one in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_numpy(column: pa.Array, field: Field) -> Array:
    """Return a column as its field needs it. Raises UnsoundError where only parsing can tell."""
    kind = column.type
    if isinstance(field, Date):
        if not pa.types.is_timestamp(kind):
            raise UnsoundError
        column = column.cast(pa.timestamp("ns", kind.tz)).cast(pa.int64())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        column = column.cast(field.arrow_type)  # a float with a fraction is no whole number
    else:
        raise UnsoundError
    if column.null_count:
        raise UnsoundError
    values: Array = np.asarray(column)
    return values
