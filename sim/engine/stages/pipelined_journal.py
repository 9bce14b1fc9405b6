"""What an engine writes whose steps overlap: who decodes in a step did not decode in the last one.

::

    step 1   |-- stage 1 --|-- stage 2 --|
    step 2                 |-- stage 1 --|-- stage 2 --|
    written  |------------ 1 ------------|----- 2 -----|

Rows do not overlap: a step is written from the end of the one before on, if it began earlier, so
that they add up to the time in which any stage is busy. Gaps between tokens are noted step by step,
as the step before that of a token is another one for each.
"""

from sim.engine.journal import Journal, note_start, pack_chunk
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.engine.stages.pipelined_prefill import PipelinedBatch


class PipelinedJournal(Journal):
    """Buffers of one replica with pipeline stages."""

    __slots__ = ("last_end_s",)

    def __init__(self, full_steps: int, drafting: bool = False) -> None:
        super().__init__(full_steps, drafting)
        self.last_end_s = 0.0

    def begin(self, batch: Batch, now_s: float) -> None:
        """A step begins in the first stage, and it is known when the last one is done."""
        assert isinstance(batch, PipelinedBatch)
        end_s = batch.end_s
        for sequence in batch.prefills:
            note_start(sequence, now_s)
            if sequence.first_token_s < 0.0:
                sequence.computed_s += end_s - max(now_s, sequence.working_until_s)
                sequence.working_until_s = end_s

    def end(
        self,
        batch: Batch,
        scheduler: Scheduler,
        start_s: float,
        end_s: float,
        unwanted: list[Sequence] | None = None,
    ) -> list[Sequence]:
        """See ``Journal``."""
        assert isinstance(batch, PipelinedBatch)
        step = self.taken_steps + self.steps
        self.step_end_s.append(end_s)
        self.steps += 1
        finished = scheduler.complete(batch, 1, unwanted)
        self._note_gaps(batch, step, end_s)
        joined = self._note_chunks(batch, step, end_s)
        start_s = max(start_s, self.last_end_s)
        self.end_segment(batch, start_s, end_s, 1, joined, scheduler.held_blocks)
        self.last_end_s = end_s
        return finished

    def _note_gaps(self, batch: PipelinedBatch, step: int, end_s: float) -> None:
        """Note behind which steps those who decode had their tokens before."""
        counts: dict[int, int] = {}
        for sequence in batch.decoders:
            before = sequence.last_step
            counts[before] = counts.get(before, 0) + 1
            sequence.last_step = step
            sequence.last_token_s = end_s
        for before, count in counts.items():
            self.gaps.append(step)
            self.gaps.append(before)
            self.gaps.append(count)

    def _note_chunks(self, batch: PipelinedBatch, step: int, end_s: float) -> int:
        """Note the chunks, and the tokens that came of them; return how many go on."""
        joined = 0
        for place, sequence in enumerate(batch.prefills):
            chunk, past = batch.chunks[place]
            self.chunks += pack_chunk(chunk, past)
            if not batch.produces[place]:
                continue
            if sequence.first_token_s < 0.0:
                sequence.first_token_s = end_s
            else:
                self.resumed(sequence, end_s)
            sequence.last_step = step
            sequence.last_token_s = end_s
            joined += sequence.generated_tokens < sequence.output_tokens
        return joined
