"""Opening a workload file: what it is packed in is seen from its bytes, whatever its name.

gzip, bzip2, xz, zstd, lz4 and a zip of one file are unpacked, UTF-16 and UTF-32 become UTF-8, and
no more than ``MOST_BYTES`` are ever read. What is no file (a folder, a pipe, a device) and what
holds no text or columns is refused in words.
"""

import bz2
import codecs
import difflib
import gzip
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from workloads.traces.errors import TraceError, printable

MOST_BYTES = 4 * 2**30
"""Unpacked bytes of a workload file."""
HEAD_BYTES = 64 * 1024
"""What is looked at to tell what a file is."""
DEEPEST = 2
"""Containers within one another, as a gzip in a zip."""

Unpack = Callable[[Any], Any]
FAILURES = (
    OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
    pa.ArrowException,
)  # fmt: skip
"""What damaged containers raise."""


def _arrow(codec: str) -> Unpack:
    return lambda packed: pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), codec)


def _zip_member(packed: IO[bytes]) -> IO[bytes]:
    archive = zipfile.ZipFile(packed)
    names = [
        info.filename
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    if len(names) != 1:
        what = "an xlsx" if "[Content_Types].xml" in names else "a zip"
        raise TraceError(f"is {what} of {len(names)} files, expected a zip of exactly one")
    if archive.getinfo(names[0]).flag_bits & 1:
        raise TraceError("is an encrypted zip, expected one without a password")
    return archive.open(names[0])


CONTAINERS: tuple[tuple[bytes, str, Unpack], ...] = (
    (b"\x1f\x8b", "gzip", lambda packed: gzip.GzipFile(fileobj=packed)),
    (b"BZh", "bzip2", bz2.BZ2File),
    (b"\xfd7zXZ\x00", "xz", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", "zstd", _arrow("zstd")),
    (b"\x04\x22\x4d\x18", "lz4", _arrow("lz4")),
    (b"PK\x03\x04", "zip", _zip_member),
    (b"PK\x05\x06", "zip", _zip_member),
)
"""First bytes, name, and what unpacks."""
ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BINARY_COLUMNS = ((b"PAR1", "Parquet"), (b"ARROW1", "Arrow"), (b"FEA1", "Feather 1"))
FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"version https://git-lfs", "a pointer of Git LFS to a file that was not fetched"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
)
"""First bytes of what is neither text nor columns, in words."""
STRANGE = bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\x1a")
"""Characters that no text has, or few."""


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a file, counted; too many are an error."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._count = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what fits ``buffer``. Raises TraceError beyond MOST_BYTES."""
        data = self._source.read(len(buffer))
        self._count += len(data)
        if self._count > MOST_BYTES:
            raise TraceError(
                f"holds more than {MOST_BYTES / 2**30:g} GiB unpacked, expected less; "
                "cut it into parts"
            )
        buffer[: len(data)] = data
        return len(data)


class _Lines:
    """A text whose lines end as on an old Macintosh, with ends that everybody knows."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, count: int) -> bytes:
        """Read at most ``count`` bytes."""
        data: bytes = self._reader.read(count)
        return data.replace(b"\r", b"\n")


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.BufferedReader, str]]:
    """Open the unpacked bytes of a file, as UTF-8 where they are text; and say what packed them.

    Whatever goes wrong while it is open becomes a TraceError that begins with the file.

    Raises:
        TraceError: no such file, not a file, damaged, too large, or neither text nor columns.
    """
    try:
        with _regular(path) as file:
            reader, packing = _unpacked(file)
            with reader:
                yield reader, packing
    except TraceError as error:
        text = str(error)
        named = text.startswith(printable(str(path)))
        raise TraceError(text if named else f"{path}: {text}") from None
    except (*FAILURES, UnicodeError, MemoryError) as error:
        words = printable(str(error))[:200] or type(error).__name__
        raise TraceError(f"{path}: cannot be read: {words}") from error


def _regular(path: Path) -> IO[bytes]:
    """Open a file that is one, without waiting for whoever writes into a pipe."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise TraceError(f"no such file{_nearest(path)}") from None
    except ValueError as error:  # a NUL in the name
        raise TraceError(f"no such file: {error}") from None
    if stat.S_ISDIR(mode):
        raise TraceError("cannot be read: it is a directory, expected a file")
    if not stat.S_ISREG(mode):
        raise TraceError("cannot be read: it is a pipe or a device, expected a regular file")
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")


def _nearest(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; nearest in that folder: {near[0]}" if near else ""


def _unpacked(file: IO[bytes]) -> tuple[io.BufferedReader, str]:
    """Unpack until neither a container nor another encoding is left."""
    layers: list[str] = []
    stream: Any = file
    while True:
        reader = io.BufferedReader(Unpacked(stream), HEAD_BYTES)
        head = reader.peek(HEAD_BYTES)[:HEAD_BYTES]
        found = next((one for one in CONTAINERS if head.startswith(one[0])), None)
        if found is None:
            break
        if len(layers) == DEEPEST:
            raise TraceError(f"is packed more than {DEEPEST} times, expected once")
        _, name, unpack = found
        layers.append(name)
        if name == "zip" and layers != ["zip"]:
            raise TraceError("is a zip within another container, expected either")
        if not layers[:-1]:
            file.seek(0)
            stream = unpack(file)
        else:
            stream = unpack(reader)
    return _as_utf8(reader, head), " in ".join(reversed(layers))


def _as_utf8(reader: Any, head: bytes) -> io.BufferedReader:
    """Return a text as UTF-8 without a mark, columns as they are; refuse everything else."""
    text: io.BufferedReader = reader
    if any(head.startswith(magic) for magic, _ in BINARY_COLUMNS):
        return text
    for magic, what in FOREIGN:
        if head.lstrip()[: len(magic)].lower() == magic.lower():
            raise TraceError(f"is {what}, expected a table or JSON")
    if head[257:262] == b"ustar":
        raise TraceError("is a tar archive, expected one file: unpack it first")
    encoding = next((name for mark, name in ENCODINGS if head.startswith(mark)), None)
    encoding = encoding or _unmarked(head)
    if encoding is not None:
        source = pa.transcoding_input_stream(pa.PythonFile(reader, mode="r"), encoding, "utf-8")
        reader = io.BufferedReader(Unpacked(source), HEAD_BYTES)
        text, head = reader, reader.peek(HEAD_BYTES)[:HEAD_BYTES]
    if head.startswith(codecs.BOM_UTF8):
        text.read(len(codecs.BOM_UTF8))
    if b"\r" in head and b"\n" not in head:
        text = io.BufferedReader(Unpacked(_Lines(text)), HEAD_BYTES)
    strange = len(head[:4096]) - len(head[:4096].translate(None, STRANGE))
    if b"\x00" in head[:4096] or strange > 2:
        raise TraceError("is binary and of no known kind, expected a table or JSON")
    return text


def _unmarked(head: bytes) -> str | None:
    """Return the kind of UTF-16 that a text without a mark is in: every other byte of it is 0."""
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        sample = head[first:400:2]
        if sample and sample.count(0) * 2 > len(sample) and head[1 - first : 400 : 2].count(0) == 0:
            return encoding
    return None
