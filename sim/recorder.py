"""Flat buffers that a replica appends to, handed over as columns from time to time."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct

import numpy as np
import numpy.typing as npt

from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence

Floats = npt.NDArray[np.float64]

# Rows are packed: a segment takes 52 bytes.
_SEGMENT = Struct("=2d7iq")
_SEGMENT_BYTES, pack_segment = _SEGMENT.size, _SEGMENT.pack
_SEGMENT_TYPE = np.dtype(
    [
        ("start_s", "f8"),
        ("end_s", "f8"),
        ("steps", "i4"),
        ("decodes", "i4"),
        ("padding", "i4"),
        ("chunks", "i4"),
        ("joined", "i4"),
        ("kv_blocks", "i4"),
        ("growth", "i4"),
        ("context_tokens", "i8"),
    ]
)
_CHUNK = Struct("=2i")
pack_chunk = _CHUNK.pack
_END_S, _END_S_AT = Struct("=d"), 8
_INT, _DECODES_AT, _JOINED_AT = Struct("=i"), 20, 32

FULL_STEPS = 16384
"""So many are worth handing over, and the segments that they are of."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica has recorded since it was last asked."""

    segments: npt.NDArray[np.void]
    """Rows of ``_SEGMENT_TYPE``."""
    chunks: npt.NDArray[np.int32]
    """Tokens and past of the segments' prefill chunks, shape (chunks, 2)."""
    step_end_s: Floats
    resumed_gap_s: Floats
    resumed_end_s: Floats


class ReplicaRecorder:
    """Buffers of one replica: a row per segment, the end of every step, every prefill chunk."""

    __slots__ = (
        "_taken_rows",
        "_taken_steps",
        "chunks",
        "full_steps",
        "resumed_end_s",
        "resumed_gap_s",
        "returned_step",
        "segments",
        "step_end_s",
        "steps",
    )

    def __init__(self) -> None:
        self.segments = bytearray()
        self.chunks = bytearray()
        self.step_end_s = array("d")
        """Behind those of all segments, the ends of the batch under way: to be put here by whoever
        drives the scheduler, before ``end``."""
        self.steps = 0
        """Of the segments here."""
        self.full_steps = FULL_STEPS
        """From so many steps on it is worth while to take what was recorded."""
        self._taken_rows = self._taken_steps = 0
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.returned_step = array("q")

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks or its turn for it, and whose work begins."""
        if batch.preempted or batch.held_back:
            for sequence in (*batch.preempted, *batch.held_back):
                self.left(sequence)
        for sequence in batch.prefills:
            if sequence.first_scheduled_s < 0.0:
                sequence.first_scheduled_s = now_s

    def end(
        self,
        batch: Batch,
        scheduler: Scheduler,
        start_s: float,
        end_s: float,
        unwanted: Iterable[Sequence] = (),
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        steps = len(self.step_end_s) - self.steps
        self.steps += steps
        finished = scheduler.complete(batch, steps, unwanted)
        chunks = batch.chunks
        joined = self._end_chunks(batch, end_s) if chunks else 0
        if batch.returned:
            self._end_pauses(batch, end_s)
        self.segments += pack_segment(
            start_s,
            end_s,
            steps,
            batch.decodes,
            batch.padding,
            len(chunks),
            joined,
            scheduler.held_blocks,
            batch.growth,
            batch.context_tokens,
        )
        for sequence in unwanted:
            self.left(sequence)
        return finished

    def _end_chunks(self, batch: Batch, end_s: float) -> int:
        """Note the chunks, and the tokens that came of them; return how many decode from now on."""
        joined = 0
        for chunk, past in batch.chunks:
            self.chunks += pack_chunk(chunk, past)
        for sequence in batch.prefills:
            if sequence.kv_tokens < sequence.target_tokens:
                continue
            if sequence.first_token_s < 0.0:
                sequence.first_token_s = end_s
            else:
                self.resumed(sequence, end_s)
            if sequence.finish_step >= 0:
                sequence.joined_row = self.next_row()
                joined += 1
        return joined

    def _end_pauses(self, batch: Batch, end_s: float) -> None:
        """Note those who decoded again after they were held back."""
        for sequence in batch.returned:
            self.resumed(sequence, end_s)
            self.returned_step.append(self._taken_steps + self.steps - 1)
            sequence.joined_row = self.next_row() - 1  # before it: it did not join in it

    def next_row(self) -> int:
        """Number of the segment that is recorded next, over the whole run."""
        return self._taken_rows + len(self.segments) // _SEGMENT_BYTES

    def take(self, everything: bool) -> Taken:
        """Hand over what was recorded, and forget it; ``returned_step`` is rare, and stays.

        Who is thrown out still reads and changes rows from the last decode step on (before there
        is one: from where the first sequence joined), so they stay, unless ``everything`` is asked
        for, at the end of the run. Not while a batch is under way.
        """
        table = np.frombuffer(bytes(self.segments), _SEGMENT_TYPE)
        if not everything:
            needed = np.flatnonzero(table["decodes"])[-1:]
            if not len(needed):
                needed = np.flatnonzero(table["joined"])[:1]
            table = table[: needed[0] if len(needed) else len(table)]
        rows, steps = len(table), int(table["steps"].sum())
        chunk_bytes = int(table["chunks"].sum()) * _CHUNK.size
        chunks = np.frombuffer(bytes(self.chunks[:chunk_bytes]), "=i4").reshape(-1, 2)
        del self.segments[: rows * _SEGMENT_BYTES], self.chunks[:chunk_bytes]
        self.steps -= steps
        # What had to stay is not copied again before as much has come: no row is copied often.
        self.full_steps = self.steps + max(self.steps, FULL_STEPS)
        self._taken_rows += rows
        self._taken_steps += steps
        return Taken(
            table,
            chunks,
            _emptied(self.step_end_s, steps),
            _emptied(self.resumed_gap_s, len(self.resumed_gap_s)),
            _emptied(self.resumed_end_s, len(self.resumed_end_s)),
        )

    def left(self, sequence: Sequence) -> None:
        """A sequence was thrown out or held back: remember when it got its last token, if any.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        if sequence.joined_row < 0:
            return
        joined_row = sequence.joined_row - self._taken_rows
        segments, size = self.segments, _SEGMENT_BYTES
        row = len(segments) // size - 1
        while row > joined_row and not _INT.unpack_from(segments, row * size + _DECODES_AT)[0]:
            row -= 1
        (sequence.last_token_s,) = _END_S.unpack_from(segments, row * size + _END_S_AT)
        if row == joined_row:
            place = row * size + _JOINED_AT
            _INT.pack_into(segments, place, _INT.unpack_from(segments, place)[0] - 1)
        sequence.joined_row = -1

    def resumed(self, sequence: Sequence, end_s: float) -> None:
        """A sequence that lost its blocks or its turn after some tokens produced its next one."""
        self.resumed_gap_s.append(end_s - sequence.last_token_s)
        self.resumed_end_s.append(end_s)


def _emptied(buffer: "array[float]", rows: int) -> Floats:
    """Take the first rows of a buffer."""
    values: Floats = np.frombuffer(buffer, np.float64, rows).copy() if rows else np.empty(0)
    del buffer[:rows]
    return values
