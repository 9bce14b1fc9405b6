"""Arrow arrays of plain values, made without pandas, which ``pa.array`` and ``pa.scalar`` load."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NOTHING: dict[type, Any] = {int: 0, float: 0.0, bool: False, str: ""}
"""What stands in memory where a value is null."""


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
    if len(kinds) != 1 or not kinds <= _NOTHING.keys():
        return pa.array(values)
    (kind,) = kinds
    known = np.array([value is not None for value in values])
    filled = [_NOTHING[kind] if value is None else value for value in values]
    if kind is str:
        return _texts(filled, known)
    column = np.array(filled, dtype={int: np.int64, float: np.float64}.get(kind))
    if kind is bool:
        return pa.Array.from_buffers(pa.bool_(), len(values), [_bits(known), _bits(column)])
    return numbers(column, known)


def _texts(values: Sequence[str], known: npt.NDArray[np.bool_]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [_bits(known), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _bits(truths: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(truths, bitorder="little"))
