"""What an engine writes while it runs: a row per run of equal steps, their ends, every chunk.

Rows are packed into flat buffers, which ``sim.recorder`` takes as columns from time to time.
"""

from array import array
from struct import Struct
from typing import Final

from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence

_SEGMENT = Struct("2dq7i")
"""start_s, end_s, reads of the first class of cache, steps, decodes, padding, chunks, joined,
kv_blocks and growth of these reads: laid out as the machine has numbers, which packs fastest."""
_CHUNK = Struct("2i")
SEGMENT_BYTES: Final = 52
CHUNK_BYTES: Final = 8
pack_segment: Final = _SEGMENT.pack
pack_chunk: Final = _CHUNK.pack
STREAMS_AT: Final = 24
"""Where a row says of how many steps it is, who decodes, and at 16 bytes from there who joined."""
_END_S, _END_S_AT = Struct("=d"), 8
_INT, _DECODES_AT, _JOINED_AT = Struct("=i"), 28, 40
FEW: Final = 15
"""So many numbers can leave an array of Python before it looks for another place."""


class Journal:
    """Buffers of one replica."""

    __slots__ = (
        "begun_s",
        "chunks",
        "drafting",
        "drafts",
        "full_steps",
        "gaps",
        "more_reads",
        "resumed_end_s",
        "resumed_gap_s",
        "returned_step",
        "segments",
        "step_end_s",
        "steps",
        "taken_rows",
        "taken_steps",
    )

    def __init__(self, full_steps: int, drafting: bool = False) -> None:
        self.segments = bytearray()
        self.chunks = bytearray()
        self.more_reads = array("q")
        """Growth and reads of every segment in every other class of cache."""
        self.drafting = drafting
        """Whether anybody in the run makes drafts, so that ``drafts`` are noted."""
        self.drafts = array("q")
        """Query rows, tokens gained and drafts verified in each step of every segment, and in every
        class of cache the pairs of rows and positions that it has beyond its reads."""
        self.step_end_s = array("d")
        """Behind those of all segments, the ends of the batch under way: to be put here by whoever
        drives the scheduler, before ``end``."""
        self.steps = 0
        """Of the segments here."""
        self.begun_s = 0.0
        """When the batch under way began, if it has chunks."""
        self.full_steps = full_steps
        """From so many steps on it is worth while to take what was recorded."""
        self.taken_rows = 0
        self.taken_steps = 0
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.returned_step = array("q")
        self.gaps = array("q")
        """With pipeline stages: of each step, how many of its tokens follow those of which earlier
        step; three numbers each, steps counted over the whole run."""

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks or its turn for it, and whose work begins."""
        self.begun_s = now_s
        for sequence in batch.preempted:
            self.left(sequence)
            began = sequence.first_token_s < 0.0 <= sequence.first_scheduled_s
            if began and sequence.lost_at_s < 0.0:
                sequence.lost_at_s = now_s
        for sequence in batch.held_back:
            self.left(sequence)
        for sequence in batch.prefills:
            note_start(sequence, now_s)

    def end(
        self,
        batch: Batch,
        scheduler: Scheduler,
        start_s: float,
        end_s: float,
        unwanted: list[Sequence] | None = None,
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        steps = len(self.step_end_s) - self.steps
        self.steps += steps
        finished = scheduler.complete(batch, steps, unwanted)
        joined = self._end_chunks(batch, end_s) if batch.chunks else 0
        if batch.returned:
            self._end_pauses(batch, end_s)
        self.end_segment(batch, start_s, end_s, steps, joined, scheduler.held_blocks)
        if unwanted:
            for sequence in unwanted:
                self.left(sequence)
        return finished

    def end_segment(
        self, batch: Batch, start_s: float, end_s: float, steps: int, joined: int, held_blocks: int
    ) -> None:
        """Write the row of a batch whose steps are computed, and what it has in other columns."""
        self.segments += pack_segment(
            start_s, end_s, batch.reads[0], steps, batch.decodes, batch.padding, len(batch.chunks),
            joined, held_blocks, batch.growth[0],
        )  # fmt: skip
        for place in range(1, len(batch.reads)):
            self.more_reads.append(batch.growth[place])
            self.more_reads.append(batch.reads[place])
        if self.drafting:
            self._end_drafts(batch)

    def _end_drafts(self, batch: Batch) -> None:
        """Note what a step had of drafts; an engine without any gains one token a row."""
        drafted = batch.rows > 0
        self.drafts.append(batch.rows if drafted else batch.decodes + batch.padding)
        self.drafts.append(batch.gained if drafted else batch.decodes)
        self.drafts.append(batch.drafted)
        for place, reads in enumerate(batch.reads):
            self.drafts.append(batch.pairs[place] - reads if drafted else 0)

    def _end_chunks(self, batch: Batch, end_s: float) -> int:
        """Note the chunks, and the tokens that came of them; return how many decode from now on."""
        joined, row = 0, self.next_row()
        for chunk, past in batch.chunks:
            self.chunks += pack_chunk(chunk, past)
        for sequence in batch.prefills:
            if sequence.first_token_s < 0.0:
                sequence.computed_s += end_s - self.begun_s
            if sequence.kv_tokens < sequence.target_tokens:
                continue
            if sequence.first_token_s < 0.0:
                sequence.first_token_s = end_s
            else:
                self.resumed(sequence, end_s)
            if sequence.finish_step >= 0:
                sequence.joined_row = row
                joined += 1
        return joined

    def _end_pauses(self, batch: Batch, end_s: float) -> None:
        """Note those who decoded again after they were held back."""
        for sequence in batch.returned:
            self.resumed(sequence, end_s)
            self.returned_step.append(self.taken_steps + self.steps - 1)
            sequence.joined_row = self.next_row() - 1  # before it: it did not join in it

    def next_row(self) -> int:
        """Number of the segment that is recorded next, over the whole run."""
        return self.taken_rows + len(self.segments) // SEGMENT_BYTES

    def left(self, sequence: Sequence) -> None:
        """A sequence was thrown out or held back: remember when it got its last token, if any.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        if sequence.joined_row < 0:
            return
        joined_row = sequence.joined_row - self.taken_rows
        segments = self.segments
        row = len(segments) // SEGMENT_BYTES - 1
        while row > joined_row and not self._int(row, _DECODES_AT):
            row -= 1
        (sequence.last_token_s,) = _END_S.unpack_from(segments, row * SEGMENT_BYTES + _END_S_AT)
        if row == joined_row:
            joined = self._int(row, _JOINED_AT) - 1
            _INT.pack_into(segments, row * SEGMENT_BYTES + _JOINED_AT, joined)
        sequence.joined_row = -1

    def _int(self, row: int, at: int) -> int:
        (value,) = _INT.unpack_from(self.segments, row * SEGMENT_BYTES + at)
        return int(value)

    def resumed(self, sequence: Sequence, end_s: float) -> None:
        """A sequence that lost its blocks or its turn after some tokens produced its next one."""
        sequence.paused_s += end_s - sequence.last_token_s
        self.resumed_gap_s.append(end_s - sequence.last_token_s)
        self.resumed_end_s.append(end_s)


def note_start(sequence: Sequence, now_s: float) -> None:
    """A part of a prompt is computed from now on: the first one, or one after all was lost."""
    if sequence.first_scheduled_s < 0.0:
        sequence.first_scheduled_s = now_s
    elif sequence.lost_at_s >= 0.0:
        sequence.lost_s += now_s - sequence.lost_at_s
        sequence.lost_at_s = -1.0


def cut(ends_s: "array[float]", count: int) -> None:
    """Leave the first ``count`` of some numbers.

    An array that loses many at once gives its room back, and has to be moved to grow again, which
    the ends of a run of steps soon do; one that loses a few keeps it.
    """
    while len(ends_s) > count + FEW:
        del ends_s[-FEW:]
    del ends_s[count:]
