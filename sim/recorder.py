"""Flat buffers that a replica appends to, handed over as columns from time to time."""

from array import array
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from struct import Struct

import numpy as np
import numpy.typing as npt

from model.ops import attended
from sim.result import SEGMENT_COLUMNS
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence
from sim.tape import Column

Floats = npt.NDArray[np.float64]

# Rows are packed: a segment takes 60 bytes.
_SEGMENT = Struct("=2d9iq")
_SEGMENT_TYPE = np.dtype(
    [(name, "f8" if name.endswith("_s") else "i4") for name in list(SEGMENT_COLUMNS)[1:]]
    + [("growth", "i4"), ("context_tokens", "i8")]
)
_END_S, _END_S_AT = Struct("=d"), 8
_JOINED, _JOINED_AT = Struct("=i"), 36

FULL_SEGMENTS = 4096
FULL_STEPS = 32768
"""So many rows are worth handing over."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica has recorded since it was last asked."""

    segments: dict[str, Column]
    """``SEGMENT_COLUMNS`` but the replica."""
    step_end_s: Floats
    resumed_gap_s: Floats
    resumed_end_s: Floats
    decode_context_tokens: int


class ReplicaRecorder:
    """Buffers of one replica: a row per segment, the end of every step, work done."""

    __slots__ = (
        "_last_decode_row",
        "_taken_rows",
        "_taken_steps",
        "prefill_kv_tokens",
        "prefill_pairs",
        "resumed_end_s",
        "resumed_gap_s",
        "returned_step",
        "rows",
        "segments",
        "sliding_window",
        "step_end_s",
    )

    def __init__(self, sliding_window: int | None = None) -> None:
        self.sliding_window = sliding_window
        self.segments = bytearray()
        self.step_end_s = array("d")
        self.rows = 0
        self._last_decode_row = -1
        self._taken_rows = self._taken_steps = 0
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.returned_step = array("q")
        self.prefill_pairs = 0
        self.prefill_kv_tokens = 0

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks for it, and whose work begins."""
        for sequence in batch.preempted:
            self.left(sequence)
        for sequence in batch.held_back:
            self.left(sequence)
        for sequence in batch.prefills:
            if sequence.first_scheduled_s < 0:
                sequence.first_scheduled_s = now_s

    def end(
        self, batch: Batch, scheduler: Scheduler, start_s: float, ends_s: SequenceOf[float]
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        steps, end_s = len(ends_s), ends_s[-1]
        waiting = len(scheduler.waiting)
        finished = scheduler.complete(batch, steps)
        row = self.rows
        self.rows = row + 1
        decodes, chunks = batch.decodes, batch.chunks
        if decodes:
            self._last_decode_row = row
        joined = prefill_tokens = 0
        if chunks:
            for place, sequence in enumerate(batch.prefills):
                chunk, past = chunks[place]
                prefill_tokens += chunk
                computed = past + chunk
                pairs, positions = attended(chunk, past, self.sliding_window)
                self.prefill_pairs += pairs
                self.prefill_kv_tokens += positions
                if computed < sequence.target_tokens:
                    continue
                if sequence.first_token_s < 0:
                    sequence.first_token_s = end_s
                else:
                    self._resumed(sequence, end_s)
                if sequence.generated_tokens < sequence.output_tokens:
                    sequence.joined_row = row
                    joined += 1
        if batch.returned:
            for sequence in batch.returned:
                self._resumed(sequence, end_s)
                self.returned_step.append(self._taken_steps + len(self.step_end_s))
                sequence.joined_row = row - 1  # before this one: it did not join in it
        self.segments += _SEGMENT.pack(
            start_s,
            end_s,
            steps,
            decodes,
            batch.padding,
            len(chunks),
            prefill_tokens,
            joined,
            scheduler.held_blocks,
            waiting,
            batch.growth,
            batch.context_tokens,
        )
        if steps == 1:
            self.step_end_s.append(end_s)
        else:
            self.step_end_s.extend(ends_s)
        return finished

    def is_full(self) -> bool:
        """Whether it is worth while to take what was recorded."""
        return (
            len(self.step_end_s) >= FULL_STEPS
            or len(self.segments) >= FULL_SEGMENTS * _SEGMENT.size
        )

    def take(self, everything: bool) -> Taken:
        """Hand over what was recorded, and forget it; ``returned_step`` is rare, and stays.

        Who is thrown out still reads and changes rows from the last decode step on, so they stay,
        unless ``everything`` is asked for, at the end of the run.
        """
        rows = self.rows if everything else max(self._last_decode_row, self._taken_rows)
        size = (rows - self._taken_rows) * _SEGMENT.size
        table = np.frombuffer(bytes(self.segments[:size]), _SEGMENT_TYPE)
        del self.segments[:size]
        self._taken_rows = rows
        self._taken_steps += len(self.step_end_s)
        # Every step of a segment attends one position more per sequence whose context grows.
        steps = table["steps"].astype(np.int64)
        contexts = steps * table["context_tokens"] + table["growth"] * (steps * (steps - 1) // 2)
        return Taken(
            {name: table[name] for name in list(SEGMENT_COLUMNS)[1:]},
            _emptied(self.step_end_s),
            _emptied(self.resumed_gap_s),
            _emptied(self.resumed_end_s),
            int(contexts[table["decodes"] > 0].sum()),
        )

    def left(self, sequence: Sequence) -> None:
        """A sequence was thrown out or held back: remember when it got its last token, if any.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        row = sequence.joined_row
        if row < 0:
            return
        segments, last = self.segments, max(self._last_decode_row, row)
        start = (last - self._taken_rows) * _SEGMENT.size
        (sequence.last_token_s,) = _END_S.unpack_from(segments, start + _END_S_AT)
        if last == row:
            place = start + _JOINED_AT
            _JOINED.pack_into(segments, place, _JOINED.unpack_from(segments, place)[0] - 1)
        sequence.joined_row = -1

    def _resumed(self, sequence: Sequence, end_s: float) -> None:
        """A sequence that lost its blocks or its turn after some tokens produced its next one."""
        self.resumed_gap_s.append(end_s - sequence.last_token_s)
        self.resumed_end_s.append(end_s)


def _emptied(buffer: "array[float]") -> Floats:
    """Take the contents of a buffer."""
    values = np.frombuffer(buffer.tobytes(), np.float64)
    del buffer[:]
    return values
