"""Arrow files with their digest behind them, so that what has been damaged since is noticed."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from experiments.running.arrow import source_of

SEAL = 64
"""Bytes behind the Arrow file: the SHA-256 of all before them, in hexadecimal."""
TINY = 1 << 16
"""Bytes of a file that stays in memory when it has been read: a run of some 300 requests."""
MOST_HELD = 512
"""Such files, 32 MiB at most: sweeps of many short points read each of them again and again."""


def write_sealed(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, long: bool
) -> None:
    """Write a file and its seal; a ``long`` one is packed, and is never in memory as a whole."""
    # Threads of Arrow would be missing in copies of this process.
    options = ipc.IpcWriteOptions(compression="zstd" if long else None, use_threads=False)
    sink: Any = str(path) if long else pa.BufferOutputStream()
    with ipc.new_file(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    if long:
        with path.open("rb") as file:
            seal = hashlib.file_digest(file, "sha256").hexdigest()
        with path.open("ab") as file:
            file.write(seal.encode("ascii"))
        return
    content = sink.getvalue()
    with path.open("wb") as file:
        file.write(content)
        file.write(hashlib.sha256(content).hexdigest().encode("ascii"))


def is_sealed(path: Path) -> bool:
    """Tell whether a file is as it was sealed. Raises OSError, ValueError."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        seal = content[-SEAL:].decode("ascii")
        with memoryview(content) as whole, whole[:-SEAL] as sealed:
            return hashlib.sha256(sealed).hexdigest() == seal


@contextmanager
def opened(path: Path, places: list[int] | None = None) -> Iterator[ipc.RecordBatchFileReader]:
    """Give the batches of a sealed file, with the columns at some places alone."""
    status = path.stat()
    if status.st_size <= TINY and places is None:
        yield _held(path, status.st_ino, status.st_mtime_ns, status.st_size)
        return
    options = ipc.IpcReadOptions(included_fields=places, use_threads=False)
    with source_of(path) as file:
        yield ipc.open_file(file, footer_offset=status.st_size - SEAL, options=options)


@lru_cache(maxsize=MOST_HELD)
def _held(path: Path, inode: int, changed_ns: int, size: int) -> ipc.RecordBatchFileReader:
    """Read a tiny file, which the arguments tell from every other at its place."""
    options = ipc.IpcReadOptions(use_threads=False)
    content = pa.BufferReader(path.read_bytes())
    return ipc.open_file(content, footer_offset=size - SEAL, options=options)
