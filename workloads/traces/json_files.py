"""JSON: a record a line, a list of records, or one document that holds them somewhere."""

import json
from collections.abc import Iterator, KeysView, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path

from workloads.traces.containers import opened
from workloads.traces.documents import records_of
from workloads.traces.errors import TraceError, shown
from workloads.traces.session_documents import dated
from workloads.traces.source import Row, Source

MOST_DOCUMENT_BYTES = 256 * 2**20
"""Bytes of a document, which is held in memory as a whole; lines are not."""
LOOKED_AT = 100
"""Records whose keys are looked at: the first ones may be those of failed requests."""


class JsonFile(Source):
    """A JSON file whose first records were read."""

    def __init__(self, path: Path) -> None:
        with opened(path) as (reader, packing):
            self._by_line = _is_by_line(reader)
        super().__init__(path, "JSON lines" if self._by_line else "JSON", packing, [])
        self.names_at = self.where(1) if self._by_line else str(path)
        names: dict[str, None] = {}
        for _, record in islice(self._records(), LOOKED_AT):
            names.update(dict.fromkeys(_names(record)))
        self.names = list(names)

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield the place of every record, and its values under ``names``, where it has them."""
        wanted = set(names)
        for place, record in self._records():
            if record.keys() >= wanted:
                yield place, record
            else:
                values = ((name, _lookup(record, name)) for name in names)
                yield place, {name: value for name, value in values if value is not _ABSENT}

    def where(self, place: int) -> str:
        """Return FILE:LINE, or the file and the number of the record in a document."""
        return f"{self.path}:{place}" if self._by_line else f"{self.path}: record {place}"

    def _records(self) -> Iterator[tuple[int, Row]]:
        """Yield line, or number from 1, of every record, and the record."""
        return dated(self._as_written())

    def _as_written(self) -> Iterator[tuple[int, Row]]:
        with opened(self.path) as (reader, _):
            if not self._by_line:
                data = _limited(reader.read(MOST_DOCUMENT_BYTES + 1))
                records = records_of(self._parsed(data, 0), alone=True)
                for number, record in enumerate(records, start=1):
                    yield number, self._mapping(record, f": record {number}")
                return
            number = 0
            plain: KeysView[str] | None = None
            while data := _limited(reader.readline(MOST_DOCUMENT_BYTES + 1)):
                number += 1
                if not data.strip():
                    continue
                document = self._parsed(data, number)
                if isinstance(document, dict) and document.keys() == plain:
                    yield number, document  # a record like the one before
                    continue
                for one in records_of(document, alone=False):
                    record = self._mapping(one, f":{number}")
                    yield number, record
                    plain = record.keys() if record is document else None

    def _parsed(self, data: bytes, line: int) -> object:
        try:
            return json.loads(data.decode("utf-8", "replace"))
        except json.JSONDecodeError as error:
            number = line or error.lineno
            raise TraceError(f"{self.path}:{number}: not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            what = "nesting too deep" if isinstance(error, RecursionError) else "a number too long"
            raise TraceError(f"{self.path}:{line or 1}: not JSON to be read: {what}") from None

    def _mapping(self, record: object, where: str) -> Row:
        if isinstance(record, dict):
            return record
        raise TraceError(f"{self.path}{where}: {shown(record)}, expected a JSON object")


def _limited(data: bytes) -> bytes:
    if len(data) > MOST_DOCUMENT_BYTES:
        raise TraceError(
            f"holds a JSON document of more than {MOST_DOCUMENT_BYTES // 2**20} MiB, expected "
            "one object per line, or a table"
        )
    return data


def _is_by_line(reader: BufferedReader) -> bool:
    """Tell whether the first line that is not blank is a record, rather than a part of one.

    A single line that is no plain record, as a list, is a document.
    """
    while line := _limited(reader.readline(MOST_DOCUMENT_BYTES + 1)):
        if not line.strip():
            continue
        try:
            first = json.loads(line)
        except (ValueError, RecursionError):
            # A first line that is broken rather than open, before one that is a record.
            is_open = line.rstrip()[-1:] in b"[{,:"
            return not is_open and _is_whole(reader.readline(MOST_DOCUMENT_BYTES))
        more = any(rest.strip() for rest in iter(lambda: reader.readline(4096), b""))
        return more or (isinstance(first, dict) and _is_record(first))
    return False


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_record(document: dict[str, object]) -> bool:
    """Tell whether a lone object is one record rather than a document of them."""
    return next(iter(records_of(document, alone=True)), None) is document


def _names(record: Row, prefix: str = "", depth: int = 4) -> Iterator[str]:
    """Yield the keys of a record, nested ones joined by dots."""
    for key, value in record.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict) and depth:
            yield from _names(value, f"{prefix}{key}.", depth - 1)


_ABSENT = object()


def _lookup(record: Row, name: str) -> object:
    """Return the value of a key; dots lead into nested objects, where no key has them itself."""
    if name in record:
        return record[name]
    place = name.find(".")
    while place > 0:
        below = record.get(name[:place])
        if isinstance(below, dict):
            found = _lookup(below, name[place + 1 :])
            if found is not _ABSENT:
                return found
        place = name.find(".", place + 1)
    return _ABSENT
