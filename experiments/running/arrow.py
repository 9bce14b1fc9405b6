"""Arrow arrays of plain values, made without pandas, which ``pa.array`` and ``pa.scalar`` load."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SHORT = 1 << 20
"""Bytes of a file that is read at once."""

_KINDS: dict[type, Any] = {int: np.int64, float: np.float64, bool: np.bool_, str: None}


def numbers(values: npt.NDArray[Any], known: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as Arrow sees them, not copied; null where they are not ``known``."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    mask = None if known is None else _bits(known)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [mask, buffer])


def values_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return numbers without nulls as numpy has them; ``to_numpy`` would load pandas."""
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *chunks])


def array_of(values: Sequence[Any]) -> pa.Array:
    """Return what ``pa.array`` returns."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) != 1 or not kinds <= _KINDS.keys():
        return pa.array(values)
    (kind,) = kinds
    if kind is str:
        words = list(dict.fromkeys(value for value in values if value is not None))
        places = [-1 if value is None else words.index(value) for value in values]
        return chosen(words, np.array(places))
    known = np.array([value is not None for value in values])
    filled = [kind() if value is None else value for value in values]
    column = np.array(filled, dtype=_KINDS[kind])
    if kind is bool:
        return pa.Array.from_buffers(pa.bool_(), len(values), [_bits(known), _bits(column)])
    return numbers(column, known)


def chosen(words: Sequence[str], places: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """Return the word at each of many places; null for a place below 0.

    So does ``take``, which loads ``pyarrow.compute`` and with it a wrapper of every function.
    """
    encoded = [*(word.encode() for word in words), b""]  # the last one for places of -1
    lengths = np.array([len(word) for word in encoded])
    places = np.maximum(places, -1)
    ends = np.concatenate([[0], np.cumsum(lengths[places])]).astype(np.int32)
    text = b"".join([encoded[place] for place in places.tolist()])
    mask = None if (places >= 0).all() else _bits(places >= 0)
    buffers = [mask, pa.py_buffer(ends), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(places), buffers)


def source_of(path: Path) -> pa.NativeFile:
    """Open a file; of a short one, threads of Arrow need not fetch part after part."""
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size <= SHORT:
            return pa.BufferReader(file.read())
    return pa.OSFile(str(path))


def _bits(truths: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(truths, bitorder="little"))
