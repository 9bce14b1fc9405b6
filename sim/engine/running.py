"""Who runs: seats and blocks, a batch of those who decode, and who is thrown out when blocks end.

::

    waits --- seat: prefills --- its prompt is computed: decodes --- ends, or is thrown out
                                                                     and waits again
"""

from mypy_extensions import mypyc_attr

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.fence import Fence
from sim.engine.importance import LeastImportant
from sim.engine.loads import Loads
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


@mypyc_attr(allow_interpreted_subclasses=True)
class Running:
    """The running set of a scheduler (``sim.engine.scheduler``), which lets people in and out."""

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        self.pool = pool
        self.waiting = waiting
        """Where those go who are thrown out."""
        self.decoding = pool.decode_set(settings.windows)
        self.running: dict[Sequence, None] = {}
        """Everyone who holds blocks, in order of admission."""
        self.prefilling: list[Sequence] = []
        """Those of them whose prompt is not yet computed, in order of admission."""
        self.max_num_seqs = settings.max_num_seqs
        self.token_budget = settings.token_budget
        self.watermark_blocks = settings.watermark_blocks
        self.tokens_to_prefill = 0
        """Prompts, and after a preemption what was generated, of all here who do not decode."""
        self.ahead = settings.ahead
        self.leaving: list[Sequence] = []
        """Ahead: who ended since the last plan was made, and has a seat and blocks still."""
        self.loads: Loads | None = None
        """Who holds blocks outside of the batch; None: no KV connector."""
        self.fence: Fence | None = None
        """Ahead: whose blocks wait for steps under way; None: nobody's."""
        self.taken_early = 0
        """Blocks of steps that are over, in the run of steps under way, counted already."""
        self._served: set[Sequence] = set()  # who has its blocks, when served one by one
        self._least = LeastImportant()

    def seat(self, sequence: Sequence) -> None:
        """Let one that holds blocks run; its prompt is yet to be computed."""
        self.running[sequence] = None
        sequence.prefills = True
        self.prefilling.append(sequence)
        if self.waiting.by_priority:
            self._least.add(sequence, self.running)

    def ready_decodes(self, batch: Batch) -> None:
        """Allocate the coming step's blocks of all decodes, preempting until they suffice."""
        pool, decoding = self.pool, self.decoding
        while decoding.needed() > pool.free:
            self.preempt_one(batch, decodes_ready=False)
        pool.free -= decoding.change()

    def add_decodes(self, batch: Batch) -> None:
        """Put all decodes into the batch; if it is theirs alone, say how long it can go on."""
        decoding = self.decoding
        decoding.tell(batch)
        if batch.chunks or batch.preempted or batch.closed:
            batch.steps = 1
            batch.open = True
        else:
            # Where somebody waits already, and did not fit in, nobody passes by.
            blocked = self.waiting.in_turn and self.waiting.count > 0
            if self.loads is not None:
                blocked = blocked and self.loads.stuck
            seats = len(self.running) < self.max_num_seqs
            batch.open = not blocked and seats
            # Blocks that are given back or filled meanwhile can be what somebody waits for.
            pool = self.pool
            waits = seats and self.waiting.count > 0
            waits = waits and (pool.in_order or pool.may_find_more())
            batch.steps = 1 if waits else decoding.steps_ahead(pool.free)

    def victim(self) -> Sequence:
        """Who of those who run is thrown out next, when blocks run out."""
        if self.waiting.by_priority:
            return self._least.first(self.running)
        return next(reversed(self.running))

    def _in_order(self) -> bool:
        """Whether it matters in which order requests are served, where something falls short."""
        return self.waiting.by_priority or self.pool.in_order or self.pool.remembers

    def _may_stop(self, victim: Sequence) -> bool:
        """Whether its blocks are free at once if it is thrown out."""
        return self.fence is None or self.fence.may_stop(victim)

    def preempt_one(self, batch: Batch, *, decodes_ready: bool) -> None:
        """Throw out the newest (by priority: the least important) and queue it again.

        ``decodes_ready``: those who decode hold the blocks of the coming step already. If it is one
        that has ended already, that one leaves, and nothing is lost.
        """
        victim = self.victim()
        if victim.leaves:
            self._cut_off(victim)
            batch.closed = True
            return
        held_tokens = self._stop(victim, batch, decodes_ready)
        del self.running[victim]
        self.pool.throw_out(victim, held_tokens, self.decoding.step)
        victim.kv_tokens = 0
        victim.target_tokens = victim.prompt_tokens + victim.generated_tokens
        victim.preemptions += 1
        self.waiting.push_back(victim)
        batch.preempted.append(victim)

    def _stop(self, victim: Sequence, batch: Batch, decodes_ready: bool) -> int:
        """Let one that runs no longer decode or prefill; return for how many tokens it has
        blocks."""
        held_tokens = victim.kv_tokens
        if victim.finish_step >= 0:
            self._pause(victim)
            held_tokens = victim.kv_tokens
            if decodes_ready or victim in self._served:
                held_tokens = self._ready(victim)
        else:
            self._no_longer_prefills(victim)
            if victim in batch.prefills:
                place = batch.prefills.index(victim)
                del batch.prefills[place]
                held_tokens += batch.chunks.pop(place)[0]
                victim.kv_tokens = held_tokens  # as vLLM names blocks when it gives them
        return held_tokens

    def _ready(self, sequence: Sequence) -> int:
        """One that decoded has taken its block of a step that it will not be in; return for how
        many tokens it has blocks."""
        held_tokens = sequence.kv_tokens + 1
        self.pool.ready(sequence)
        known = sequence.target_tokens >= held_tokens if self.ahead else sequence in self._served
        if known:  # in no step before, or in turn already: so is that token, and its block's name
            sequence.kv_tokens = held_tokens
        return held_tokens

    def _pause(self, sequence: Sequence) -> None:
        self.decoding.leave(sequence)
        self.tokens_to_prefill += sequence.prompt_tokens + sequence.generated_tokens

    def _rejoin(self, batch: Batch) -> None:
        for sequence in batch.held_back:
            self.tokens_to_prefill -= sequence.prompt_tokens + sequence.generated_tokens
            if self.ahead:  # no step computes it: its last token is known, as those of a prompt are
                sequence.target_tokens = max(sequence.target_tokens, sequence.kv_tokens + 1)
            self.pool.rest(sequence)
            self.decoding.join(sequence)

    def _no_longer_prefills(self, sequence: Sequence) -> None:
        sequence.prefills = False
        self.prefilling.remove(sequence)

    def _decoded(self, batch: Batch, steps: int) -> list[Sequence]:
        """Count the tokens of those who decode; return who has all of them."""
        if not batch.decodes:
            return []
        if steps > 1 or self.taken_early:
            needed = self.decoding.blocks_needed_after(steps - 1)
            self.pool.free -= needed - self.taken_early
            self.taken_early = 0
        return self.decoding.advance(steps)

    def _complete_prompts(self, batch: Batch, finished: list[Sequence]) -> None:
        """Count the chunks; who has its prompt computed now, decodes, or has ``finished``."""
        chunks, decoding = batch.chunks, self.decoding
        for place, sequence in enumerate(batch.prefills):
            chunk_tokens, past_tokens = chunks[place]
            computed = min(past_tokens + chunk_tokens, sequence.target_tokens)
            sequence.kv_tokens = computed
            if computed < sequence.target_tokens:
                continue
            self._no_longer_prefills(sequence)
            self.tokens_to_prefill -= computed
            sequence.generated_tokens = generated = sequence.generated_tokens + 1
            if generated == sequence.output_tokens:
                finished.append(sequence)
            else:
                decoding.join(sequence)

    def _end(self, sequences: list[Sequence]) -> None:
        """They have ended and leave: ahead, when the next plan has been made."""
        if self.ahead:
            for sequence in sequences:
                sequence.leaves = True
            self.leaving += sequences
        else:
            self._let_go(sequences)

    def _cut_off(self, sequence: Sequence) -> None:
        """Ahead, one that has ended loses its blocks before its last token is learned of: nothing
        is lost, but nobody will find what that token filled."""
        self.leaving.remove(sequence)
        del self.running[sequence]
        if self.loads is not None:
            self.loads.connector.gone(sequence)
            if not self.loads.let_go([sequence], self.decoding.step):
                sequence.leaves = False
                return
        computed = sequence.kv_tokens
        held_tokens, sequence.slots = max(computed, sequence.slots), 0
        self._lose(sequence, held_tokens)
        sequence.kv_tokens, sequence.leaves = computed, False  # a host is offered all of them

    def _lose(self, sequence: Sequence, held_tokens: int) -> None:
        """One that nobody wants any more lets go of its blocks."""
        if self.fence is not None and self.ahead:
            self.fence.lose(sequence, held_tokens, self.decoding.step)
        else:
            self.pool.throw_out(sequence, held_tokens, self.decoding.step)

    def _let_go(self, sequences: list[Sequence]) -> None:
        """Let sequences leave the batch, and their blocks with them."""
        for sequence in sequences:
            sequence.leaves = False
            del self.running[sequence]
        if self.loads is not None:
            for sequence in sequences:
                self.loads.connector.gone(sequence)
            sequences = self.loads.let_go(sequences, self.decoding.step)
        self.pool.end(sequences, self.decoding.step)
