"""Arrow files with their digest behind them, so that what has been damaged since is noticed."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from experiments.running.arrow import source_of

SEAL = 64
"""Bytes behind the Arrow file: the SHA-256 of all before them, in hexadecimal."""


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
    options = ipc.IpcReadOptions(included_fields=places, use_threads=False)
    with source_of(path) as file:
        yield ipc.open_file(file, footer_offset=file.size() - SEAL, options=options)
