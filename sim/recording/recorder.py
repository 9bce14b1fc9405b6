"""Takes what an engine has written, as columns."""

from array import array

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.engine.journal import CHUNK_BYTES, SEGMENT_BYTES, Journal, cut

Floats = npt.NDArray[np.float64]

SEGMENT_TYPE = np.dtype(
    [
        ("start_s", "f8"),
        ("end_s", "f8"),
        ("reads", "i8"),
        ("steps", "i4"),
        ("decodes", "i4"),
        ("padding", "i4"),
        ("chunks", "i4"),
        ("joined", "i4"),
        ("kv_blocks", "i4"),
        ("growth", "i4"),
    ]
)
"""A row of a journal."""
assert SEGMENT_TYPE.itemsize == SEGMENT_BYTES

FULL_STEPS = 1 << 16
"""So many are worth handing over, and the segments that they are of;"""
ALL_STEPS = 1 << 22
"""of many replicas fewer, so that so many are in all of their buffers,"""
LEAST_STEPS = 1 << 14
"""but not fewer than that."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica has recorded since it was last asked."""

    segments: npt.NDArray[np.void]
    """Rows of ``SEGMENT_TYPE``."""
    more_reads: npt.NDArray[np.int64]
    """Growth and reads in other classes of cache than the first, shape (rows, classes - 1, 2)."""
    chunks: npt.NDArray[np.int32]
    """Tokens and past of the segments' prefill chunks, shape (chunks, 2)."""
    drafts: npt.NDArray[np.int64]
    """See ``Journal.drafts``; shape (rows, 3 + classes), no rows without drafts."""
    step_end_s: Floats
    resumed_gap_s: Floats
    resumed_end_s: Floats
    gaps: npt.NDArray[np.int64]
    """See ``Journal.gaps``; flat."""


def full_steps(replicas: int) -> int:
    """From how many steps on it is worth while to take what one of so many replicas recorded."""
    return min(FULL_STEPS, max(LEAST_STEPS, ALL_STEPS // replicas))


def take(journal: Journal, everything: bool, classes: int = 1) -> Taken:
    """Hand over what was recorded, and forget it; ``returned_step`` is rare, and stays.

    ``classes`` are those of the cache.

    Who is thrown out still reads and changes rows from the last decode step on (before there
    is one: from where the first sequence joined), so they stay, unless ``everything`` is asked
    for, at the end of the run. Not while a batch is under way.
    """
    table = np.frombuffer(bytes(journal.segments), SEGMENT_TYPE)
    if not everything:
        needed = np.flatnonzero(table["decodes"])[-1:]
        if not len(needed):
            needed = np.flatnonzero(table["joined"])[:1]
        table = table[: needed[0] if len(needed) else len(table)]
    rows, steps = len(table), int(table["steps"].sum())
    chunk_bytes = int(table["chunks"].sum()) * CHUNK_BYTES
    chunks = np.frombuffer(bytes(journal.chunks[:chunk_bytes]), "=i4").reshape(-1, 2)
    del journal.segments[: rows * SEGMENT_BYTES], journal.chunks[:chunk_bytes]
    journal.steps -= steps
    journal.taken_rows += rows
    journal.taken_steps += steps
    columns = 2 * (classes - 1)
    more = np.array(journal.more_reads[: rows * columns], np.int64).reshape(rows, classes - 1, 2)
    del journal.more_reads[: rows * columns]
    drafted = rows if journal.drafting else 0
    columns = 3 + classes
    drafts = np.array(journal.drafts[: drafted * columns], np.int64).reshape(drafted, columns)
    del journal.drafts[: drafted * columns]
    return Taken(
        table,
        more,
        chunks,
        drafts,
        _emptied(journal.step_end_s, steps),
        _emptied(journal.resumed_gap_s, len(journal.resumed_gap_s)),
        _emptied(journal.resumed_end_s, len(journal.resumed_end_s)),
        _gaps(journal),
    )


def _gaps(journal: Journal) -> npt.NDArray[np.int64]:
    gaps = np.array(journal.gaps, np.int64)
    del journal.gaps[:]
    return gaps


def _emptied(buffer: "array[float]", rows: int) -> Floats:
    """Take the first rows of a buffer, which keeps its room: it soon is as long again."""
    values: Floats = np.frombuffer(buffer, np.float64, rows).copy() if rows else np.empty(0)
    rest = buffer[rows:]
    cut(buffer, 0)
    buffer.extend(rest)
    return values
