"""vLLM's asynchronous scheduling: a step is planned while the one before it is computed.

    GPU     |--- step n ---|--- step n+1 ---|--- step n+2 ---|
    host    plan n+1        plan n+2          plan n+3
                 ^ arrives: first seen by plan n+2

Host time hides behind the GPU's (which is for the prices to say), but whoever plans does not know
yet what the step in progress brings: an arrival is seen one step later, and a request that ends
keeps its seat and its blocks for one step more. It gets no further token, as an end by length is
known beforehand. If the plan is empty, one waits for the step in progress and plans again.

Difference to vLLM: who is given up by the client misses the next step, not the one after it.
"""

from sim.chunked_prefill import CachingChunkedPrefill, ChunkedPrefill
from sim.sequence import Batch, Sequence


class AsyncChunkedPrefill(ChunkedPrefill):
    """Chunked prefill that plans one step ahead.

    A driver asks when a step has ended. What it is given was planned when that step began: it is
    formed before the scheduler learns of ends and arrivals.
    """

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.arrived: list[Sequence] = []
        """Who came since the last plan was made."""
        self.leaving: list[Sequence] = []
        """Who ended since then, and has a seat and blocks still."""

    def admit(self, sequence: Sequence) -> None:
        """Take note of an arrival; it is queued when the next plan has been made."""
        self.arrived.append(sequence)
        self.tokens_to_prefill += sequence.target_tokens

    def next_batch(self, now_s: float) -> Batch | None:
        """Form the batch that was planned a step ago; if there was none, one of what is known."""
        batch = super().next_batch(now_s)
        if self.arrived or self.leaving:
            self._catch_up()
            if batch is None:
                return super().next_batch(now_s)
            batch.steps = 1  # the next plan knows more
        return batch

    def _catch_up(self) -> None:
        leaving, self.leaving = self.leaving, []
        arrived, self.arrived = self.arrived, []
        if leaving:
            super()._release(leaving)
        for sequence in arrived:
            self.tokens_to_prefill -= sequence.target_tokens
            super().admit(sequence)

    def _release(self, sequences: list[Sequence]) -> None:
        """They leave when the next plan has been made."""
        self.leaving += sequences

    def _preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        """If it would be one that has ended, that one leaves, and nothing is lost."""
        victim = self._victim()
        if victim not in self.leaving:
            super()._preempt_one(batch, decodes_ready=decodes_ready)
            return
        self.leaving.remove(victim)
        super()._release([victim])

    def unfinished(self) -> list[Sequence]:
        """Everyone who was admitted and has not ended, in no particular order."""
        ended = set(self.leaving)
        return [each for each in super().unfinished() if each not in ended] + self.arrived

    def abort(self, sequence: Sequence) -> bool:
        """Drop a request that nobody wants any more, between two steps; say whether it was here."""
        if sequence not in self.arrived:
            return super().abort(sequence)
        self.arrived.remove(sequence)
        self.tokens_to_prefill -= sequence.target_tokens
        return True


class AsyncCachingChunkedPrefill(AsyncChunkedPrefill, CachingChunkedPrefill):
    """The same with a prefix cache."""
