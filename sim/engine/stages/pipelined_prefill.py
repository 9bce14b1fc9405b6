"""vLLM v1's scheduler where several steps are under way at a time: those of pipeline stages.

::

    step            1    2    3    4    5    6        two stages, held: each request in one step
    request a       x         x         x             at a time; b goes between
    request b            x         x         x

A running request is in the next step if it has tokens to compute that no step under way computes:
the next chunk of its prompt at once, its next token as soon as it may be asked for. With
``spacing`` 0 that is when its last one is there; otherwise so many steps later, whether it is there
or not (asynchronous scheduling). Those in between are passed over.

Requests are served one by one, in order of admission, as vLLM does (``Scheduler.schedule``). Blocks
are taken and given back at once: whoever loses its blocks while a step with it is under way has the
token of that step still, and waits for it before it starts again.
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class PipelinedBatch(Batch):
    """What one step computes, while others are under way."""

    __slots__ = ("decoders", "end_s", "produces", "start_s")

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.decoders: list[Sequence] = []
        """Who decodes."""
        self.produces: list[bool] = []
        """Parallel to ``prefills``: whether the last token of its prompt is in the chunk."""
        self.start_s = 0.0
        """When the first stage begins with it."""
        self.end_s = 0.0
        """When the last one is done."""


class PipelinedPrefill(ChunkedPrefill):
    """``chunked_prefill`` with several steps under way.

    Of a sequence, ``planned_tokens`` are computed or under way, ``told_tokens`` those whose blocks
    can be found, ``awaited_tokens`` those of its answer that steps under way will bring.

    Args:
        pool: of blocks.
        waiting: the queue.
        settings: with ``spacing``.
    """

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        pool.tells_late = False
        self.spacing = settings.spacing
        self.step = 0
        """How many steps were planned, those of nobody included."""
        self.left = 0
        """Of the token budget, while a step is planned."""
        self.tokens_here = 0
        """Prompts and what was generated, of all who are here."""
        self.somebody_left = False
        """Since the last step was planned."""
        self.now_s = 0.0
        self.windows = [reach.window for reach in self.decoding.reaches]

    def busy(self) -> bool:
        """Whether there is anything to plan: somebody is here, or has left since the last plan."""
        return len(self.running) > 0 or self.waiting.count > 0 or self.somebody_left

    def admit(self, sequence: Sequence) -> None:
        """Queue an arrived request."""
        self.tokens_here += sequence.target_tokens
        sequence.planned_tokens = sequence.under_way_tokens = sequence.stale_tokens = 0
        sequence.awaited_tokens = sequence.eligible_step = 0
        sequence.working_until_s = 0.0
        self._queue(sequence)

    def outstanding_tokens(self) -> int:
        """See ``Scheduler``."""
        return self.tokens_here

    def look(self, sequence: Sequence, ended: int) -> int:
        """See ``Scheduler``: nothing is counted later than it happens."""
        self.pool.arrive(sequence)
        return self.pool.find(sequence)

    def next_batch(self, now_s: float) -> PipelinedBatch | None:
        """Plan the next step; None: nobody can be in it now."""
        self.now_s = now_s
        self.step += 1
        self.somebody_left = False
        batch = PipelinedBatch(len(self.windows))
        self.left = self.token_budget
        if self.longest_alone != self.longest_of_many:
            alone = len(self.running) + self.waiting.count == 1
            self.longest_chunk = self.longest_alone if alone else self.longest_of_many
        self._go_on(batch)
        if not batch.preempted:
            self._start(batch)
        self.left_waiting = self.waiting.count
        return batch if batch.decoders or batch.chunks else None

    def _wanted(self, sequence: Sequence) -> int:
        """Tokens that a running request can have computed in this step, whatever the budget."""
        prompt_tokens, planned = sequence.prompt_tokens, sequence.planned_tokens
        awaited = sequence.awaited_tokens if self.spacing else 0
        if awaited and planned + 2 - awaited >= prompt_tokens + sequence.output_tokens:
            return 0  # its last token is under way
        if self.step < sequence.eligible_step:
            return 0
        return prompt_tokens + sequence.generated_tokens + awaited - planned

    def _go_on(self, batch: PipelinedBatch) -> None:
        """Running requests, in order of admission."""
        pool, running = self.pool, self.running
        for sequence in list(running):
            if self.left <= 0:
                return
            if sequence not in running:
                continue
            tokens = min(self._wanted(sequence), self.longest_chunk, self.left)
            if not tokens:
                continue
            past = sequence.planned_tokens
            blocks = pool.grow(sequence, past, tokens)
            while blocks > pool.free and sequence in running:
                self._throw_out(self.victim(), batch)
            if sequence not in running:
                if self.serves_behind_victim:
                    continue
                return
            pool.take(blocks)
            self._put(batch, sequence, tokens)

    def _start(self, batch: PipelinedBatch) -> None:
        """Requests that wait, as long as seats, budget and blocks last."""
        pool, waiting, passed = self.pool, self.waiting, list[Sequence]()
        while waiting.count and self.left > 0 and len(self.running) < self.max_num_seqs:
            sequence = waiting.head()
            if sequence.stale_tokens:
                passed.append(waiting.pop())
                continue
            past, target = pool.find(sequence), sequence.target_tokens
            chunk = min(target - past, self.left, self.longest_chunk)
            after = pool.free - pool.asks(target if self.whole_prompts_fit else 0, past + chunk)
            if after < (self.watermark_blocks if self.running else 0):
                break
            waiting.pop()
            self.running[sequence] = None
            if waiting.by_priority:
                self._least.add(sequence, self.running)
            pool.start(sequence, past + chunk)
            sequence.planned_tokens = sequence.told_tokens = past
            self._put(batch, sequence, chunk)
        for sequence in reversed(passed):
            waiting.push_back(sequence)

    def _put(self, batch: PipelinedBatch, sequence: Sequence, tokens: int) -> None:
        """Put one that has its blocks into a step."""
        past, target = sequence.planned_tokens, sequence.target_tokens
        planned = past + tokens
        known = sequence.prompt_tokens + sequence.generated_tokens
        if past < target:
            batch.prefills.append(sequence)
            batch.chunks.append((tokens, past))
            batch.produces.append(planned == target)
        else:
            batch.decoders.append(sequence)
            self._count(batch, planned, 1)
        self.left -= tokens
        sequence.planned_tokens = planned
        sequence.under_way_tokens += tokens
        self._name(sequence, min(planned, known))
        if planned >= target:
            sequence.awaited_tokens += 1
            sequence.eligible_step = self.step + self.spacing

    def _count(self, batch: PipelinedBatch, positions: int, sign: int) -> None:
        """Add what one that decodes attends, or take it away."""
        batch.decodes += sign
        for place, window in enumerate(self.windows):
            batch.reads[place] += sign * min(positions, window)

    def _name(self, sequence: Sequence, tokens: int) -> None:
        """The full blocks of its first tokens can be found from now on."""
        if tokens > sequence.told_tokens:
            sequence.told_tokens = tokens
            self.pool.fill(sequence, tokens)

    def _throw_out(self, victim: Sequence, batch: PipelinedBatch) -> None:
        """Let a request lose its blocks, and its turn if it has one; it is queued again."""
        if victim in batch.decoders:
            batch.decoders.remove(victim)
            self._count(batch, victim.planned_tokens, -1)
            self._take_back(victim, 1)
        elif victim in batch.prefills:
            place = batch.prefills.index(victim)
            del batch.prefills[place], batch.produces[place]
            self._take_back(victim, batch.chunks.pop(place)[0])
        del self.running[victim]
        held_tokens, victim.kv_tokens = victim.planned_tokens, victim.told_tokens
        self.pool.throw_out(victim, held_tokens, 0)
        victim.kv_tokens = victim.planned_tokens = victim.told_tokens = 0
        victim.target_tokens = victim.prompt_tokens + victim.generated_tokens
        victim.stale_tokens = victim.under_way_tokens
        # One whose last token is under way has nothing to compute again.
        victim.preemptions += victim.generated_tokens + victim.awaited_tokens < victim.output_tokens
        victim.awaited_tokens = 0
        if victim.first_token_s < 0.0 <= victim.first_scheduled_s and victim.lost_at_s < 0.0:
            victim.lost_at_s = max(self.now_s, victim.working_until_s)
        self.waiting.push_back(victim)
        batch.preempted.append(victim)

    def _take_back(self, victim: Sequence, tokens: int) -> None:
        """It will not be in the step; its blocks of it are given back with the others."""
        self.left += tokens
        victim.under_way_tokens -= tokens
        if victim.planned_tokens >= victim.target_tokens:
            victim.awaited_tokens -= 1
            victim.eligible_step = self.step  # as before: it was in time

    def complete(
        self, batch: Batch, steps: int = 1, unwanted: list[Sequence] | None = None
    ) -> list[Sequence]:
        """A step has been computed: its tokens are there. Return who has all of them.

        Whoever is ``unwanted`` is dropped before. Those of the step who were dropped before it
        ended are padding of it, and no decodes.
        """
        assert isinstance(batch, PipelinedBatch)
        for sequence in unwanted or ():
            self.abort(sequence)
        self.held_blocks = self.pool.num_blocks - self.pool.free
        finished: list[Sequence] = []
        batch.decoders = [each for each in batch.decoders if not each.leaves]
        batch.padding = batch.decodes - len(batch.decoders)
        batch.decodes = len(batch.decoders)
        for sequence in batch.decoders:
            self._learn(sequence, 1, True, finished)
        for place, sequence in enumerate(batch.prefills):
            if sequence.leaves:
                batch.produces[place] = False
            else:
                chunk, _ = batch.chunks[place]
                self._learn(sequence, chunk, batch.produces[place], finished)
        if finished:
            self._end_all(finished)
        return finished

    def _learn(
        self, sequence: Sequence, tokens: int, produces: bool, finished: list[Sequence]
    ) -> None:
        """So many tokens of one are computed; of the last one of its text comes the next one."""
        sequence.under_way_tokens -= tokens
        stale = sequence.stale_tokens > 0
        if stale:
            sequence.stale_tokens -= tokens
        if not produces:
            return
        self.tokens_here += 1
        sequence.generated_tokens += 1
        if stale:
            sequence.target_tokens += 1
        else:
            sequence.awaited_tokens -= 1
        if self.spacing and not stale:
            self._name(sequence, sequence.planned_tokens - sequence.awaited_tokens)
        if sequence.generated_tokens == sequence.output_tokens:
            finished.append(sequence)

    def _end_all(self, sequences: list[Sequence]) -> None:
        """They leave, with their blocks if they have any; later steps that they are in are for
        nobody."""
        held: list[Sequence] = []
        self.somebody_left = True
        for sequence in sequences:
            sequence.leaves = True
            self.tokens_here -= sequence.prompt_tokens + sequence.generated_tokens
            if sequence in self.running:
                del self.running[sequence]
                sequence.kv_tokens, sequence.slots = sequence.told_tokens, sequence.planned_tokens
                held.append(sequence)
            else:
                self.waiting.discard(sequence)
        self.pool.end(held, 0)

    def abort(self, sequence: Sequence) -> bool:
        """See ``Scheduler``; steps under way compute it for nothing."""
        if sequence not in self.running and not sequence.waits:
            return False
        self._end_all([sequence])
        return True
