"""Columns longer than the memory: their pieces lie in memory or in a file, and are read as needed.

A run records more steps than it has requests, so steps are written away while it goes on, and read
again block by block when it is measured.
"""

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


class Scratch:
    """A file for pieces of columns, made when the first one comes.

    It has no name and goes with the last piece that lies in it, even if the process is killed. With
    ``shared`` it has a name in ``folder`` until another process, which got a piece of it (pickled),
    has opened it there.
    """

    def __init__(self, folder: Path | None = None, *, shared: bool = False) -> None:
        self.folder, self.shared = folder, shared
        self._name = ""
        self._file: BufferedRandom | None = None
        self._written_bytes = 0

    def keep(self, values: Column) -> "Piece":
        """Write a column down and return where it lies."""
        if self._file is None:
            self._file = self._create()
        offset = self._file.seek(self._written_bytes)
        self._file.write(np.ascontiguousarray(values).data)
        self._written_bytes += values.nbytes
        return Piece(self, offset, len(values), values.dtype)

    def read(self, offset: int, into: Column) -> None:
        """Fill ``into`` with what lies at ``offset``.

        Raises:
            OSError: the file is shorter: somebody cut it.
        """
        assert self._file is not None
        self._file.seek(offset)
        if self._file.readinto(into.data.cast("B")) != into.nbytes:
            raise OSError(f"scratch file is cut short at byte {offset}")

    def _create(self) -> BufferedRandom:
        if not self.shared:
            return tempfile.TemporaryFile(dir=self.folder)
        handle, self._name = tempfile.mkstemp(dir=self.folder, suffix=".scratch")
        return os.fdopen(handle, "w+b")

    def __reduce__(self) -> tuple[Any, ...]:
        assert self.shared or self._file is None, "it has no name to pass on"
        if self._file is not None:
            self._file.flush()
        return _adopt, (self._name,)


def _adopt(name: str) -> Scratch:
    scratch = Scratch()
    if name:
        scratch._file = open(name, "r+b")  # noqa: SIM115 - it lives as long as the pieces do
        os.unlink(name)
    return scratch


class Piece:
    """A stretch of a column that lies in a scratch file."""

    __slots__ = ("dtype", "offset", "rows", "scratch")

    def __init__(self, scratch: Scratch, offset: int, rows: int, dtype: np.dtype[Any]) -> None:
        self.scratch, self.offset, self.rows, self.dtype = scratch, offset, rows, dtype

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: slice) -> Column:
        start, stop, _ = rows.indices(self.rows)
        values: Column = np.empty(max(0, stop - start), self.dtype)
        if len(values):
            self.read(start, values)
        return values

    def read(self, start: int, into: Column) -> None:
        """Fill ``into`` with the rows from ``start`` on."""
        self.scratch.read(self.offset + start * self.dtype.itemsize, into)

    def between(self, start: int, stop: int) -> "Piece":
        """Return a part of it, which stays in the file."""
        return Piece(
            self.scratch, self.offset + start * self.dtype.itemsize, stop - start, self.dtype
        )


class Tape:
    """A column of one type in pieces: it has a length, slices, and is an array when asked to be."""

    def __init__(self, dtype: npt.DTypeLike, pieces: Iterable[Column | Piece] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.pieces: list[Column | Piece] = []
        self._starts = [0]
        for piece in pieces:
            self.append(piece)

    def in_memory(self) -> bool:
        """Whether nothing of it lies in a file."""
        return not any(isinstance(piece, Piece) for piece in self.pieces)

    def append(self, piece: Column | Piece) -> None:
        """Add rows at the end."""
        if len(piece):
            self.pieces.append(piece)
            self._starts.append(self._starts[-1] + len(piece))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, rows: slice) -> Column:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"slice step = {step}, expected 1: a tape is read forwards")
        values: Column = np.empty(max(0, stop - start), self.dtype)
        place, at = bisect_right(self._starts, start) - 1, start
        while at < stop:
            piece, first = self.pieces[place], self._starts[place]
            end = min(stop, first + len(piece))
            into = values[at - start : end - start]
            if isinstance(piece, Piece) and piece.dtype == self.dtype:
                piece.read(at - first, into)
            else:
                into[:] = piece[at - first : end - first]
            place, at = place + 1, end
        return values

    def array(self) -> Column:
        """Return all rows; what lies in one piece of the memory is not copied."""
        if len(self.pieces) == 1:
            (piece,) = self.pieces
            if isinstance(piece, np.ndarray) and piece.dtype == self.dtype:
                return piece
        return self[:]

    def pieces_between(self, start: int, stop: int) -> Iterator[Column | Piece]:
        """Give the pieces of some rows, cut where they begin and end."""
        for piece, first in zip(self.pieces, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(piece))
            if low < high:
                yield piece.between(low, high) if isinstance(piece, Piece) else piece[low:high]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Column:
        if copy is False:
            raise ValueError("a tape is read into a new array, expected copy=None or True")
        return self[:].astype(dtype or self.dtype, copy=False)


def stretch(column: Column | Tape, rows: tuple[int, int]) -> Column | Tape:
    """Return some rows of a column: of a tape they stay where they are."""
    start, stop = rows
    if not isinstance(column, Tape):
        return column[start:stop]
    return Tape(column.dtype, column.pieces_between(start, stop))


def joined(tapes: Iterable[Tape], dtype: npt.DTypeLike) -> Tape:
    """Return the tapes one after the other as one."""
    return Tape(dtype, (piece for tape in tapes for piece in tape.pieces))
