"""Tables of text: fields between commas, semicolons, tabs or bars; quoted ones may hold lines."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from workloads.traces.containers import opened
from workloads.traces.errors import TraceError, shown
from workloads.traces.fields import Array, Field
from workloads.traces.source import Row, Source, UnsoundError

DELIMITERS = ",;\t|"
LONGEST_LINE_BYTES = 16 * 2**20
BLOCK_BYTES = 4 * 2**20
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_SEPARATOR = re.compile(rb"sep=.\s*", re.I)
"""A first line for spreadsheets, which says what the header shows."""
csv.field_size_limit(LONGEST_LINE_BYTES)


class CsvFile(Source):
    """A CSV whose header was read."""

    def __init__(self, path: Path) -> None:
        with opened(path) as (reader, packing):
            line, self._header_line = _header(reader)
            self._delimiter = max(DELIMITERS, key=lambda one: len(_split(line, one)))
        names = [name.strip() for name in _split(line, self._delimiter)]
        while names and not names[-1]:  # a separator at the end of the line
            names.pop()
        self._width = len(_split(line, self._delimiter))
        kind = {",": "CSV", "\t": "tab-separated", ";": "CSV with ;", "|": "CSV with |"}
        super().__init__(path, kind[self._delimiter], packing, names)
        self.names_at = self.where(self._header_line)

    def columns(self, fields: Sequence[Field]) -> Iterator[list[Array]]:
        """Yield the values of ``fields``, some rows at a time, as Arrow reads them."""
        fields = self._with_zones(fields)
        places = [f"c{self.names.index(field.name)}" for field in fields]
        types = {place: field.arrow_type for place, field in zip(places, fields, strict=True)}
        with opened(self.path) as (reader, _):
            _header(reader)
            watched = _Watched(reader)
            try:
                batches = pa.csv.open_csv(
                    pa.PythonFile(watched, mode="r"),
                    read_options=pa.csv.ReadOptions(
                        column_names=[f"c{number}" for number in range(self._width)],
                        block_size=BLOCK_BYTES,
                    ),
                    parse_options=pa.csv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=_has_quotes(reader)
                    ),
                    convert_options=pa.csv.ConvertOptions(
                        include_columns=list(types),
                        column_types=types,
                        null_values=[],  # an empty field is an error, not a missing value
                    ),
                )
                for batch in batches:
                    if watched.doubtful:
                        raise UnsoundError
                    yield [_as_numpy(batch.column(place)) for place in places]
            except pa.ArrowException:
                raise UnsoundError from None

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield the line of every row that is not empty, and its fields under ``names``."""
        places = [(name, self.names.index(name)) for name in names]
        with opened(self.path) as (reader, _):
            _header(reader)
            text = io.TextIOWrapper(reader, encoding="utf-8", errors="replace", newline="")
            table = csv.reader(self._lines(text), delimiter=self._delimiter)
            try:
                for row in table:
                    line = self._header_line + table.line_num
                    if len(row) == self._width:
                        if any(map(str.strip, row)):
                            yield line, {name: self._text(row[place]) for name, place in places}
                    elif any(map(str.strip, row)):
                        raise TraceError(f"{self.path}:{line}: {self._wrong_width(row)}")
            except csv.Error as error:
                line = self._header_line + table.line_num
                raise TraceError(f"{self.path}:{line}: {error}") from None

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        """Yield lines; one without an end must not fill the memory."""
        number = self._header_line
        while line := text.readline(LONGEST_LINE_BYTES):
            number += 1
            if len(line) == LONGEST_LINE_BYTES:
                what = f"a line of more than {LONGEST_LINE_BYTES:,} characters"
                raise TraceError(f"{self.path}:{number}: {what}")
            yield line

    def _text(self, value: str) -> str:
        """Return a field; where semicolons separate fields, a comma may begin the decimals."""
        if self._delimiter == ";" and _DECIMAL_COMMA.fullmatch(value.strip()):
            return value.replace(",", ".")
        return value

    def _wrong_width(self, row: list[str]) -> str:
        text = self._delimiter.join(row)
        names = ",".join(self.names)
        return f"{len(row)} fields, expected {self._width} ({names[:200]}): {shown(text, most=200)}"


class _Watched:
    """A stream in which Arrow may see numbers that are none here: 0x10."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader
        self._last = b""
        self.doubtful = False
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        """Read at most ``count`` bytes, and look for ``0x``, also across two reads."""
        data = self._reader.read(count)
        if not self.doubtful and (b"x" in data or b"X" in data):  # a quick look at most files
            seen = (self._last + data).lower()
            self.doubtful = b"0x" in seen
        self._last = data[-1:]
        return data

    def close(self) -> None:
        """Say that Arrow has read to the end; the file is closed by who opened it."""
        self.closed = True


def _has_quotes(reader: io.BufferedReader) -> bool:
    """Tell whether a quote is near; then a value may hold lines, which cannot be read in parts."""
    return b'"' in reader.peek()


def _header(reader: io.BufferedReader) -> tuple[str, int]:
    """Read up to the first line that is not blank; return it, and its last line's number.

    Raises:
        TraceError: there is none, or it is too long.
    """
    lines, whole = 0, b""
    while True:
        line = reader.readline(LONGEST_LINE_BYTES)
        if not line:
            break
        lines += 1
        whole += line
        if len(whole) >= LONGEST_LINE_BYTES:
            raise TraceError(
                f"the first line has more than {LONGEST_LINE_BYTES:,} bytes, expected a header"
            )
        if _SEPARATOR.fullmatch(whole):
            whole = b""
        elif whole.strip(b" \t\r\n,;|") and not whole.count(b'"') % 2:
            return _decoded(whole), lines
        if not whole.strip(b" \t\r\n,;|"):
            whole = b""
    if whole.strip():
        return _decoded(whole), lines
    raise TraceError("is blank or empty, expected a header and rows")


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _split(line: str, delimiter: str) -> list[str]:
    lines = [line.strip(" \r\n")]
    try:
        return next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise TraceError(f"the header cannot be read: {error}") from None


def _as_numpy(column: pa.Array) -> Array:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        raise UnsoundError
    values: Array = np.asarray(column)
    return values
