"""Reading the Mooncake trace: JSON lines with the identities of each prompt's blocks.

One line: ``{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, ...]}``,
the timestamp in milliseconds, one id per block of 512 prompt tokens, the last one perhaps partial
(kvcache-ai/Mooncake, FAST'25 release, README). ``hash_ids`` may be absent from a whole file.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from workloads.files import TraceError, read_text
from workloads.requests import Floats, Ints

BLOCK_TOKENS = 512
_TOKENS = "a whole number of at least 1"
_IDS = f"whole numbers of 0 to 2^63-1, at most one per {BLOCK_TOKENS} prompt tokens"

Row = tuple[float, int, int, list[int] | None]


def read_mooncake(path: Path) -> tuple[Floats, Ints, Ints, tuple[Ints, Ints] | None]:
    """Return times in ms, prompt and output tokens, and ragged block ids ``(offsets, ids)``.

    Raises:
        TraceError: a malformed line, as 'FILE:LINE: ...', or no line at all.
    """
    rows = read_text(path, lambda text: _rows(path, text))
    if not rows:
        raise TraceError(f"{path}: holds no rows")
    times_ms = np.array([row[0] for row in rows], dtype=np.float64)
    prompts = np.array([row[1] for row in rows], dtype=np.int64)
    outputs = np.array([row[2] for row in rows], dtype=np.int64)
    lists = [row[3] for row in rows if row[3] is not None]
    if not lists:
        return times_ms, prompts, outputs, None
    offsets = np.concatenate(([0], np.cumsum([len(ids) for ids in lists], dtype=np.int64)))
    ids = np.fromiter((i for ids in lists for i in ids), dtype=np.int64, count=int(offsets[-1]))
    return times_ms, prompts, outputs, (offsets, ids)


def _rows(path: Path, text: TextIO) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = _row(json.loads(line))
            if rows and (row[3] is None) != (rows[0][3] is None):
                raise ValueError("hash_ids must be in every line or in none")
        except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
            raise TraceError(f"{path}:{number}: {error}") from None
        rows.append(row)
    return rows


def _row(fields: object) -> Row:
    """Check one decoded line and return its values."""
    if not isinstance(fields, dict):
        raise ValueError(f"{str(fields)[:100]!r}, expected a JSON object")
    time_ms = _value(fields, "timestamp", "a finite number of ms >= 0", _is_time)
    prompt = _value(fields, "input_length", _TOKENS, _is_tokens)
    output = _value(fields, "output_length", _TOKENS, _is_tokens)
    if "hash_ids" not in fields:
        return time_ms, prompt, output, None
    most = -(-prompt // BLOCK_TOKENS)
    ids = _value(fields, "hash_ids", _IDS, lambda ids: _is_ids(ids, most))
    return time_ms, prompt, output, ids


def _value(
    fields: dict[str, object], key: str, expected: str, check: Callable[[object], bool]
) -> Any:
    if key not in fields:
        raise ValueError(f"key {key!r} is missing")
    value = fields[key]
    if not check(value):
        raise ValueError(f"{key} = {str(value)[:100]!r}, expected {expected}")
    return value


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max  # type: ignore[operator]


def _is_tokens(value: object) -> bool:
    return type(value) is int and 1 <= value < 2**63


def _is_ids(value: object, most: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(i) is int and 0 <= i < 2**63 for i in value)
