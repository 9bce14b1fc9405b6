"""Schedulers: who computes what in the next step. They know no clock and no prices.

A scheduler is a queue (an order), a cache (a pool of blocks) and a policy, which is its class. It
is driven by whoever owns the time: the simulator, which waits the priced duration, or a real
engine, which runs the batch::

    scheduler.admit(sequence)                   # a request has arrived
    batch = scheduler.next_batch(now_s)         # None: nothing to do before scheduler.wake_s
    finished = scheduler.complete(batch, steps) # 1 <= steps <= batch.steps have been computed

The batch is the scheduler's own: the next call of ``next_batch`` forms the next one in its place.

No scheduler reads a request's true output length to decide anything; it only learns that a sequence
has ended. (``Batch.steps`` tells the simulator how far the next change is; it changes no decision.)

``ahead`` is vLLM's asynchronous scheduling: a step is planned while the one before it is computed.

    GPU     |--- step n ---|--- step n+1 ---|--- step n+2 ---|
    host    plan n+1        plan n+2          plan n+3
                 ^ arrives: first seen by plan n+2

Host time hides behind the GPU's, but whoever plans does not know yet what the step in progress
brings: an arrival is seen one step later, and a request that ends keeps its seat and its blocks for
one step more. It gets no further token: its end by length is known beforehand. If the plan is
empty, one waits for the step in progress and plans again. Who is given up by the client is in the
next step still, which was planned before; its token is nobody's.
"""

from math import inf
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.loads import KEPT, Connector, Loads
from sim.engine.running import Running
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue

NEVER: Final = 1 << 60
"""More tokens than any request has."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Scheduler(Running):
    """What all policies share: the three calls, planning ahead, and what others may ask.

    A policy is a subclass with ``form``, made of ``admit_prompts`` or ``start_prompts`` of its own
    or of ``Running``: ``seat``, ``ready_decodes``, ``add_decodes``, ``preempt_one``.
    """

    cuts_prompts: ClassVar[bool] = False
    """Whether a prompt may be computed in several steps, within the token budget. Prefix caching,
    planning ahead and the defaults of vLLM v1 go with it."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Which settings it looks at that others do not: keys of ``engine`` in a study."""
    claims: ClassVar[str] = ""
    """Name of the built-in policy as which it says to schedule, to the last step; empty: none."""

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.padding: list[Sequence] = []
        """Rows that have ended and are computed all the same (static batching only)."""
        usable_blocks = pool.num_blocks - settings.watermark_blocks
        self.longest_request_tokens = pool.longest_tokens(usable_blocks) + 1
        """Prompt and output together; the last token is never put into the cache."""
        self.wake_s = inf
        """After ``next_batch`` gave None: when to ask again."""
        self.held_blocks = 0
        """Blocks held in the last computed step, those of sequences that ended with it included."""
        self.arrived: list[Sequence] = []
        """Ahead: who came since the last plan was made."""
        self.unwanted: list[Sequence] = []
        """Ahead: who was given up since then."""
        self.passed_by = 0
        """Ahead: how many of ``arrived`` would have waited already, step by step."""
        self.left_waiting = 0
        """Who waited still when the last batch was formed, of those whom it knew; who loads too."""
        self.batch = Batch(len(settings.windows))
        """The one that was formed last."""

    def connect(self, connector: Connector) -> None:
        """Let caches come from elsewhere, or be read by others, from now on."""
        self.loads = Loads(self.pool, connector)
        self.pool.tells_late = False  # a connector may look at any text

    def tell(self, sequence: Sequence) -> None:
        """The blocks of one that loads are filled, or of one that has ended were read."""
        assert self.loads is not None
        self.loads.told.append(sequence)

    def admit(self, sequence: Sequence) -> None:
        """Queue an arrived request that passed ``fits``; ahead: when the next plan is made."""
        self.tokens_to_prefill += sequence.target_tokens
        if self.ahead:
            self.arrived.append(sequence)
        else:
            self._queue(sequence)

    def _queue(self, sequence: Sequence) -> None:
        self.pool.arrive(sequence)
        self.waiting.push(sequence)

    def abort(self, sequence: Sequence) -> bool:
        """Drop a request that nobody wants any more, between two steps; say whether it was here.

        Ahead, it is dropped when the next plan has been made.
        """
        if sequence in self.arrived:
            self.arrived.remove(sequence)
            self.tokens_to_prefill -= sequence.target_tokens
            self._never_loads(sequence)
            return True
        if not self.ahead:
            return self._drop(sequence)
        here = sequence.finish_step >= 0 or sequence.prefills or sequence.leaves or sequence.waits
        here = here or sequence.transit > 0
        if not here or sequence in self.unwanted:
            return False
        self.unwanted.append(sequence)
        return True

    def _drop(self, sequence: Sequence) -> bool:
        if sequence.finish_step >= 0:
            self.decoding.leave(sequence)
            self._end([sequence])
            return True
        if sequence.prefills:
            self._no_longer_prefills(sequence)
            self._end([sequence])
        elif sequence.transit == KEPT:
            return False
        elif sequence.transit:
            assert self.loads is not None
            self.loads.cancel(sequence, self.decoding.step)
            self.loads.connector.gone(sequence)
        elif self.waiting.discard(sequence):
            self._never_loads(sequence)
        else:
            return False
        self.tokens_to_prefill -= sequence.target_tokens
        return True

    def _never_loads(self, sequence: Sequence) -> None:
        if self.loads is not None:
            self.loads.connector.dropped(sequence)
            self.loads.connector.gone(sequence)

    def outstanding_tokens(self) -> int:
        """Of all wanted ones here, prompts and what was generated: all that a router may know."""
        tokens, step = self.tokens_to_prefill + self.decoding.tokens, self.decoding.step
        for sequence in self.unwanted:
            if not sequence.leaves:
                tokens -= sequence.prompt_tokens + sequence.generated_tokens
                tokens -= step - sequence.joined_step if sequence.finish_step >= 0 else 0
        return tokens

    def look(self, sequence: Sequence, ended: int) -> int:
        """Tokens of a request that is not here which its cache has now; it changes nothing.

        Of the run of steps under way ``ended`` are over, and it ends with the next one.
        """
        pool, decoding = self.pool, self.decoding
        if ended:
            taken = decoding.blocks_needed_after(ended)
            pool.free -= taken - self.taken_early
            self.taken_early = taken
        if self.decoding.count:
            pool.tell(decoding.step + ended, 1)
        pool.arrive(sequence)
        return pool.find(sequence)

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request could run here, alone, to its end."""
        return prompt_tokens + output_tokens <= self.longest_request_tokens

    def decodes(self) -> list[Sequence]:
        """Who decodes in the coming step, in order of admission: for engines that compute them."""
        return [sequence for sequence in self.running if sequence.finish_step >= 0]

    def unfinished(self) -> list[Sequence]:
        """Everyone who was admitted and has not ended, in no particular order."""
        ended = {*self.padding, *self.leaving, *self.unwanted}
        admitted = [*self.running, *self.waiting.members()]
        if self.loads is not None:
            admitted += self.loads.wanted()
        return [sequence for sequence in admitted if sequence not in ended] + self.arrived

    def next_batch(self, now_s: float) -> Batch | None:
        """Form the next batch; allocate the blocks of its (first) step.

        Ahead: the one that was planned a step ago; if there was none, one of what is known.
        """
        loads = self.loads
        if loads is not None:
            loads.now_s = now_s
            loads.told += loads.connector.come(now_s)
            if not self.ahead:
                loads.connector.learns()
                if loads.told:
                    loads.learn(self.decoding.step)
        batch = self.form(now_s)
        self._note_waiting()
        told = loads is not None and (loads.connector.learns() or len(loads.told) > 0)
        if told or self._has_news():
            self._catch_up()
            if batch is None:
                batch = self.form(now_s)
                self._note_waiting()
            else:
                batch.steps = 1  # the next plan knows more
        if loads is None:
            return batch
        if batch is not None:
            batch.until_s = loads.connector.next_s()
            return batch
        return self._until_told(loads)

    def _has_news(self) -> bool:
        """Ahead: whether the plan that was just made did not know everything."""
        if self.fence is not None and self.fence.has_news():
            return True
        return len(self.arrived) > 0 or len(self.leaving) > 0 or len(self.unwanted) > 0

    def _note_waiting(self) -> None:
        self.left_waiting = self.waiting.count + self.passed_by
        if self.loads is not None:
            self.left_waiting += len(self.loads.parked)

    def _until_told(self, loads: Loads) -> Batch | None:
        """Nobody can be served. While somebody waits, an engine plans again at once, which matters
        if this plan changed what others keep; then not before somebody is told of KV."""
        connector = loads.connector
        nobody = not loads.parked and not loads.kept and not self.waiting.count
        if nobody and not connector.goes_on():
            self.wake_s = inf
            return None
        loads.told += connector.come(loads.now_s)
        if connector.changed():
            return self.next_batch(loads.now_s)
        if self.waiting.count:
            connector.idles()
        self.wake_s = connector.next_s()
        return None

    def form(self, now_s: float) -> Batch | None:
        """Form a batch of what is known, None if there is nothing to do: the policy."""
        raise NotImplementedError

    def _catch_up(self) -> None:
        """Learn what happened since this was planned: nothing, unless one plans ahead."""
        unwanted, self.unwanted = self.unwanted, []
        for sequence in unwanted:
            if sequence.leaves:
                self._cut_off(sequence)
            elif sequence in self.running:
                self._drop_from(self.batch, sequence)
            else:
                self._drop(sequence)
        if self.fence is not None:
            self.fence.release()
        leaving, self.leaving = self.leaving, []
        arrived, self.arrived = self.arrived, []
        self.passed_by = 0
        if leaving:
            self._let_go(leaving)
        if self.loads is not None:
            self.loads.connector.learns()
            self.loads.learn(self.decoding.step)
        for sequence in arrived:
            self._queue(sequence)

    def _drop_from(self, batch: Batch, sequence: Sequence) -> None:
        """Drop a running request from the batch about to be computed, then for nothing."""
        held_tokens = sequence.kv_tokens
        if sequence.finish_step >= 0:
            self.decoding.leave(sequence)
            held_tokens = self._ready(sequence)
            batch.decodes -= 1
            batch.padding += 1
            batch.returned = [each for each in batch.returned if each is not sequence]
        elif sequence.prefills:
            self.tokens_to_prefill -= sequence.target_tokens
            self._no_longer_prefills(sequence)
            if sequence in batch.prefills:
                held_tokens += batch.chunks[batch.prefills.index(sequence)][0]
                sequence.kv_tokens = held_tokens
        else:
            self.tokens_to_prefill -= sequence.prompt_tokens + sequence.generated_tokens
            batch.held_back = [each for each in batch.held_back if each is not sequence]
        del self.running[sequence]
        if self.loads is not None:
            self.loads.connector.gone(sequence)
        self._lose(sequence, held_tokens)
        sequence.target_tokens = NEVER  # whatever is computed of its prompt, it does not decode

    def complete(
        self, batch: Batch, steps: int = 1, unwanted: list[Sequence] | None = None
    ) -> list[Sequence]:
        """Account for ``steps`` computed steps; return who finished with the last one.

        Whoever is ``unwanted`` since it began is dropped before those are, as by vLLM.
        """
        pool = self.pool
        if unwanted:
            self.decoding.cut_short(unwanted)
        finished = self._decoded(batch, steps)
        self.held_blocks = pool.num_blocks - pool.free
        if batch.chunks:
            self._complete_prompts(batch, finished)
        if batch.held_back:
            self._rejoin(batch)
        ended = self._drop_unwanted(unwanted, finished) if unwanted else finished
        if ended:
            self._end(ended)
        return finished

    def _drop_unwanted(self, unwanted: list[Sequence], ended: list[Sequence]) -> list[Sequence]:
        """Drop those who were given up during the step; return the others of who has ended."""
        for sequence in unwanted:
            if not self.ahead and sequence in self.running:
                self.pool.cut_short(sequence)
            if sequence in ended:
                ended = [each for each in ended if each is not sequence]
                self._end([sequence])
            self.abort(sequence)
        return ended
