"""vLLM's asynchronous scheduling: a step is planned while the one before it is computed.

    GPU     |--- step n ---|--- step n+1 ---|--- step n+2 ---|
    host    plan n+1        plan n+2          plan n+3
                 ^ arrives: first seen by plan n+2

Host time hides behind the GPU's (which is for the prices to say), but whoever plans does not know
yet what the step in progress brings: an arrival is seen one step later, and a request that ends
keeps its seat and its blocks for one step more. It gets no further token, as an end by length is
known beforehand. If the plan is empty, one waits for the step in progress and plans again. Who is
given up by the client is in the next step still, which was planned before; its token is nobody's.
"""

from sim.chunked_prefill import CachingChunkedPrefill, ChunkedPrefill
from sim.sequence import Batch, Sequence

NEVER = 1 << 62
"""More tokens than any request has."""


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
        self.unwanted: list[Sequence] = []
        """Who was given up since then."""

    def admit(self, sequence: Sequence) -> None:
        """Take note of an arrival; it is queued when the next plan has been made."""
        self.arrived.append(sequence)
        self.tokens_to_prefill += sequence.target_tokens

    def next_batch(self, now_s: float) -> Batch | None:
        """Form the batch that was planned a step ago; if there was none, one of what is known."""
        batch = super().next_batch(now_s)
        if self.arrived or self.leaving or self.unwanted:
            self._catch_up()
            if batch is None:
                return super().next_batch(now_s)
            batch.steps = 1  # the next plan knows more
        return batch

    def _catch_up(self) -> None:
        unwanted, self.unwanted = self.unwanted, []
        for sequence in unwanted:
            if sequence in self.leaving:
                self.leaving.remove(sequence)
                super()._release([sequence])
            else:
                self._drop_from(self.batch, sequence)
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
        batch.closed = True

    def outstanding_tokens(self) -> int:
        """Of all requests here that are still wanted."""
        tokens, step = super().outstanding_tokens(), self.decoding.step
        for sequence in self.unwanted:
            if sequence not in self.leaving:
                tokens -= sequence.prompt_tokens + sequence.generated_tokens
                tokens -= step - sequence.joined_step if sequence.finish_step >= 0 else 0
        return tokens

    def unfinished(self) -> list[Sequence]:
        """Everyone who was admitted and has not ended, in no particular order."""
        ended = {*self.leaving, *self.unwanted}
        return [each for each in super().unfinished() if each not in ended] + self.arrived

    def abort(self, sequence: Sequence) -> bool:
        """Note that nobody wants a request any more; say whether it was here.

        It is dropped when the next plan has been made.
        """
        if sequence in self.arrived:
            self.arrived.remove(sequence)
            self.tokens_to_prefill -= sequence.target_tokens
            return True
        if sequence in self.unwanted:
            return False
        decodes = sequence.finish_step >= 0
        if decodes or sequence in (*self.prefilling, *self.leaving, *self.waiting.members()):
            self.unwanted.append(sequence)
            return True
        return False

    def _drop_from(self, batch: Batch, sequence: Sequence) -> None:
        """Drop a request that may be in the batch about to be computed, then for nothing."""
        if sequence not in self.running:
            super().abort(sequence)
            return
        held_tokens = sequence.kv_tokens
        if sequence.finish_step >= 0:
            self.decoding.leave(sequence)
            held_tokens = sequence.kv_tokens + 1
            batch.decodes -= 1
            batch.padding += 1
            batch.returned = [each for each in batch.returned if each is not sequence]
        elif sequence in self.prefilling:
            self.tokens_to_prefill -= sequence.target_tokens
            self.prefilling.remove(sequence)
            if sequence in batch.prefills:
                held_tokens += batch.chunks[batch.prefills.index(sequence)][0]
                sequence.kv_tokens = held_tokens
        else:
            self.tokens_to_prefill -= sequence.prompt_tokens + sequence.generated_tokens
            batch.held_back = [each for each in batch.held_back if each is not sequence]
        del self.running[sequence]
        self._give_back(sequence, held_tokens)
        sequence.target_tokens = NEVER  # whatever is computed of its prompt, it does not decode


class AsyncCachingChunkedPrefill(AsyncChunkedPrefill, CachingChunkedPrefill):
    """The same with a prefix cache.

    The token of the step in progress is not known yet, and its block has no identity.
    """

    def _known_tokens(self, sequence: Sequence, coming: int) -> int:
        known = super()._known_tokens(sequence, coming)
        return max(known - 1, min(known, sequence.target_tokens))

    def _give_back(self, sequence: Sequence, held_tokens: int) -> None:
        if sequence.kv_tokens > sequence.target_tokens:
            sequence.kv_tokens = held_tokens - 1
        super()._give_back(sequence, held_tokens)
