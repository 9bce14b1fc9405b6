"""Reading typed columns out of a CSV: fast when the file is sound, exact about the line when not.

The good path is Arrow's parser over whole columns, about 0.1 s for a million rows. Only when it
fails, or a value is out of bounds, the file is read again to find the first bad line.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from workloads.files import TraceError, read_text

Array = npt.NDArray[np.float64] | npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ROWS_PER_LOOK = 65536


@dataclass(frozen=True, slots=True)
class Column:
    """One column to read: its name in the header and what its values must be."""

    name: str
    arrow_type: pa.DataType
    expected: str
    """What a value must be, in words, for the error message."""
    smallest: float = -np.inf
    largest: float = np.inf
    excused_by: str | None = None
    """A row may break the bounds when this other column is zero there."""


def tokens(name: str, smallest: int = 1, excused_by: str | None = None) -> Column:
    """Return a column of token counts, whole numbers of at least ``smallest``."""
    expected = f"a whole number of at least {smallest}"
    return Column(name, pa.int64(), expected, smallest=smallest, excused_by=excused_by)


def ones(name: str) -> Column:
    """Return a column that must hold 1 throughout."""
    return Column(name, pa.int64(), "1", smallest=1, largest=1)


def seconds(name: str) -> Column:
    """Return a column of finite, non-negative numbers."""
    bound = float(np.finfo(np.float64).max)
    return Column(name, pa.float64(), "a finite number >= 0", smallest=0.0, largest=bound)


def timestamps(name: str, zone: str | None) -> Column:
    """Return a column of dates with time, read as nanoseconds since 1970 (in ``zone``, if any)."""
    suffix = "+00:00" if zone else ""
    expected = f"a time such as 2024-05-10 00:00:00.0099300{suffix}, like the first row's"
    return Column(name, pa.timestamp("ns", zone), expected)


def read_columns(path: Path, header: Sequence[str], columns: Sequence[Column]) -> list[Array]:
    """Read ``columns`` of a CSV below its header line, as int64 (dates: nanoseconds) or float64.

    Raises:
        TraceError: a malformed row, as 'FILE:LINE: ...', or no row at all.
    """
    names = [column.name for column in columns]
    for name in names:
        if header.count(name) != 1:
            raise TraceError(f"{path}:1: column {name!r} must be in the header once")
    try:
        table = pa.csv.read_csv(
            str(path),
            read_options=pa.csv.ReadOptions(column_names=list(header), skip_rows=1),
            convert_options=pa.csv.ConvertOptions(
                include_columns=names,
                column_types={column.name: column.arrow_type for column in columns},
                null_values=[],  # an empty field is an error, not a missing value
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise _first_fault(path, header, columns, str(error)) from None
    if not len(table):
        raise TraceError(f"{path}: holds no rows")
    arrays = [_as_numpy(table[name]) for name in names]
    if any(mask.any() for mask in _out_of_bounds(columns, arrays)):
        raise _first_fault(path, header, columns, "a value is out of bounds")
    return arrays


def _as_numpy(column: pa.ChunkedArray) -> Array:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: Array = column.to_numpy()
    return values


def _out_of_bounds(columns: Sequence[Column], arrays: Sequence[Array]) -> list[Bools]:
    """Return for each column which rows break its bounds (NaN does)."""
    by_name = {column.name: array for column, array in zip(columns, arrays, strict=True)}
    masks = []
    for column, array in zip(columns, arrays, strict=True):
        bad = ~((array >= column.smallest) & (array <= column.largest))
        if column.excused_by is not None:
            bad &= by_name[column.excused_by] != 0
        masks.append(bad)
    return masks


def _first_fault(
    path: Path, header: Sequence[str], columns: Sequence[Column], reason: str
) -> TraceError:
    """Return the error of the first bad line; ``reason`` alone when every line looks sound."""
    try:
        fault = read_text(path, lambda text: _scan(text, header, columns))
    except csv.Error as error:
        fault, reason = None, f"{reason} ({error})"
    if fault is None:
        return TraceError(f"{path}: {reason}")
    line, what = fault
    return TraceError(f"{path}:{line}: {what}")


def _scan(text: TextIO, header: Sequence[str], columns: Sequence[Column]) -> tuple[int, str] | None:
    """Look at every line, a batch at a time, and return the first fault as (line, what)."""
    rows = _numbered_rows(text)
    next(rows)
    while batch := list(islice(rows, _ROWS_PER_LOOK)):
        faults = []
        widths = (index for index, (_, row) in enumerate(batch) if len(row) != len(header))
        if (wrong := next(widths, None)) is not None:
            line, row = batch[wrong]
            what = f"{len(row)} fields, expected {len(header)} ({','.join(header)}): "
            faults.append((line, what + repr(",".join(row))[:200]))
            batch = batch[:wrong]
        arrays = []
        for column in columns:
            values = [row[header.index(column.name)] for _, row in batch]
            bad = _first_unreadable(values, column.arrow_type)
            if bad is not None:
                faults.append((batch[bad][0], _complaint(column, values[bad])))
                batch = batch[:bad]
        for column in columns:
            values = [row[header.index(column.name)] for _, row in batch]
            arrays.append(_as_numpy(pa.chunked_array([_converted(values, column.arrow_type)])))
        for column, mask in zip(columns, _out_of_bounds(columns, arrays), strict=True):
            if mask.any():
                line, row = batch[int(mask.argmax())]
                faults.append((line, _complaint(column, row[header.index(column.name)])))
        if faults:
            return min(faults)
    return None


def _numbered_rows(text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every line that is not empty, the header's first."""
    reader = csv.reader(text)
    for row in reader:
        if row:
            yield reader.line_num, row


def _complaint(column: Column, value: str) -> str:
    return f"{column.name} = {value[:100]!r}, expected {column.expected}"


def _converted(values: Sequence[str], arrow_type: pa.DataType) -> pa.Array:
    text = pa.array(values, pa.string())
    if not pa.types.is_timestamp(arrow_type):
        text = pa.compute.utf8_trim_whitespace(text)
    return text.cast(arrow_type)


def _first_unreadable(values: Sequence[str], arrow_type: pa.DataType) -> int | None:
    """Return the index of the first value that Arrow cannot convert, by bisection."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        try:
            _converted(values[low : middle + 1], arrow_type)
            low = middle + 1
        except pa.ArrowInvalid:
            high = middle
    return low if low < len(values) else None
