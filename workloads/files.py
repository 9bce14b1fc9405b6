"""Opening workload files, and the one error that they raise."""

import csv
import difflib
import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet

from workloads.requests import Ints

T = TypeVar("T")


class TraceError(ValueError):
    """A workload file that cannot be used; the message begins with FILE or FILE:LINE."""


def read_text(path: Path, action: Callable[[TextIO], T]) -> T:
    """Apply ``action`` to the open text of a file, plain or ``.gz``.

    Raises:
        TraceError: no such file, or it cannot be read.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        # The same decoding as Arrow's for what matters; a stray byte in another column is no harm.
        with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
            return action(text)
    except FileNotFoundError:
        names = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"; nearest in that folder: {near[0]}" if near else ""
        raise TraceError(f"{path}: no such file{hint}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error


def read_header(path: Path) -> list[str]:
    """Return the field names in the first line of a CSV, stripped of blanks.

    Raises:
        TraceError: no such file, or its first line is blank.
    """
    line = read_text(path, lambda text: text.readline(1_000_000))
    if not line.strip():
        raise TraceError(f"{path}:1: blank or empty, expected a header")
    return [field.strip() for field in next(csv.reader([line.strip()]), [])]


def read_parquet_column(path: Path, name: str) -> Ints:
    """Read one column of token counts from a Parquet file.

    Raises:
        TraceError: no such file or column, or a value that is not a whole number of at least 1.
    """
    if not path.is_file():
        read_text(path, lambda text: text.read(0))
    try:
        schema = pa.parquet.read_schema(path)
        if name not in schema.names:
            raise TraceError(f"{path}: {no_column(name, schema.names)}")
        column = pa.parquet.read_table(path, columns=[name])[name]
    except pa.ArrowInvalid as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    if not pa.types.is_integer(column.type) or column.null_count:
        raise TraceError(
            f"{path}: column {name!r} has type {column.type} and {column.null_count} missing "
            "values, expected whole numbers throughout"
        )
    if not len(column):
        raise TraceError(f"{path}: holds no rows")
    values = column.to_numpy()
    if values.min() < 1:
        row = int(values.argmin())
        raise TraceError(
            f"{path}: {name}[{row}] = {values[row]}, expected a whole number of at least 1"
        )
    tokens: Ints = values.astype("int64")
    return tokens


def no_column(name: str, names: Sequence[str]) -> str:
    """Say that a file lacks a column, which it has, and which comes nearest."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"no column {name!r}, expected one of {', '.join(names)}; nearest: {''.join(near)}"
