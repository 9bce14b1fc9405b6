"""vLLM v1's scheduler with a KV connector: some prompts begin with KV that is brought."""

from math import inf

from mypy_extensions import mypyc_attr

from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.connector import ASK_AGAIN, Connector, Parked
from sim.engine.kv_cache import BlockPool
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectedPrefill(ChunkedPrefill):
    """``chunked_prefill`` where a connector is asked for what the prefix cache does not have.

    As in vLLM since 0.31:

    - Who is next in line asks the cache, then the connector. What the connector has is brought: the
      request takes blocks for it, if they leave room for the rest of all prompts that have begun,
      and waits aside, without a seat. It cannot be thrown out.
    - Whose KV has come goes before everybody who waits. If there is no room for the next of them,
      nobody else starts either.
    - Who has to ask again lets those behind pass.
    - Of a prompt that is there to its last token, that one is computed anyway.
    - Ahead, what comes during a step is known to the plan after the next one.
    """

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        self.connector: Connector = pool.connector or Connector()
        self._abandoned: dict[Sequence, Parked] = {}  # given up while their KV was on its way
        self._told: list[Sequence] = []  # ahead: whose KV has come, for the plan after the next
        self._now_s = 0.0
        self._stuck = False  # whether there was no room for the next in line
        self._every_step = False  # whether the connector has to see each of them
        self._seen = False  # whether it saw the step being planned
        self._lost: list[Sequence] = []  # thrown out, and no step was left to say so

    def next_batch(self, now_s: float) -> Batch | None:
        """As every scheduler; what has come by now is told first, or ahead, after the plan."""
        self._now_s = now_s
        come = self.connector.come(now_s)
        if self.ahead:
            self._told += come
        else:
            self._tell(come)
        batch = self.form(now_s)
        if self.arrived or self.leaving or self.unwanted or self._told:
            self._catch_up()
            if batch is None:
                batch = self.form(now_s)
            else:
                batch.steps = 1
        if batch is None:
            waits = self.parked or self._abandoned or self.waiting.count
            self.wake_s = self.connector.next_s() if waits else inf
            return None
        if self._lost:
            batch.preempted[:0] = self._lost
            self._lost = []
        batch.until_s = self.connector.next_s()
        return batch

    def _catch_up(self) -> None:
        super()._catch_up()
        told, self._told = self._told, []
        self._tell(told)

    def _tell(self, come: list[Sequence]) -> None:
        """All KV of these has come."""
        for sequence in come:
            if sequence in self.parked:
                parked = self.parked[sequence]
                parked.arrived = True
                sequence.brought_s += self._now_s - parked.since_s
            else:
                self._free(self._abandoned.pop(sequence))

    def form(self, now_s: float) -> Batch | None:
        """As ``chunked_prefill``; the connector sees what was planned."""
        self._seen = False
        batch = super().form(now_s)
        if not self._seen:
            self._show()
        if batch is not None and self._every_step:
            batch.steps = 1
        return batch

    def _show(self) -> None:
        self._every_step = self.connector.planned(self.batch, self.running, self.decoding.step)
        self._seen = True

    def _try_again(self, batch: Batch, now_s: float) -> Batch | None:
        """Where others hold blocks for KV on its way, there may be no step for those thrown out."""
        self._show()
        preempted = batch.preempted.copy()
        again = super()._try_again(batch, now_s)
        if again is None:
            self._lost = preempted + self._lost
        self._seen = True
        return again

    def add_decodes(self, batch: Batch) -> None:
        """As all; whoever comes may pass by those who have to ask again."""
        super().add_decodes(batch)
        if not self._stuck and len(self.running) < self.max_num_seqs:
            batch.open = True

    def start_prompts(self, batch: Batch) -> None:
        """Whose KV has come, then those who wait, as long as seats, budget and blocks last."""
        waiting = self.waiting
        self.pool.tell(self.decoding.step, 1)
        self._stuck = False
        for parked in self._in_order():
            if not self._room(batch):
                return
            if parked.arrived and not self._go_on(parked, batch):
                self._stuck = True
                return
        passed: list[Sequence] = []
        while waiting.count and self._room(batch):
            sequence = waiting.head()
            past = self.pool.find(sequence)
            more = self.connector.match(sequence, past)
            if more == ASK_AGAIN:
                passed.append(waiting.pop())
            elif more and self._bring(sequence, past, more):
                continue
            elif more or not self._begin(sequence, past, batch):
                self._stuck = True
                break
        for sequence in reversed(passed):
            waiting.push_back(sequence)

    def _in_order(self) -> list[Parked]:
        parked = list(self.parked.values())
        if self.waiting.by_priority:
            parked.sort(key=_importance)
        return parked

    def _room(self, batch: Batch) -> bool:
        return len(self.running) < self.max_num_seqs and self._budget_left(batch) > 0

    def _chunk(self, sequence: Sequence, past: int, batch: Batch) -> int:
        return min(sequence.target_tokens - past, self._budget_left(batch), self.longest_chunk)

    def _watermark(self) -> int:
        return self.watermark_blocks if self.running else 0

    def _begin(self, sequence: Sequence, past: int, batch: Batch) -> bool:
        """Start a prompt behind what was found; say whether there was room."""
        pool, chunk = self.pool, self._chunk(sequence, past, batch)
        must_fit = sequence.target_tokens if self.whole_prompts_fit else past + chunk
        if pool.free - pool.lacks(must_fit) < self._watermark():
            return False
        self.waiting.pop()
        self.seat(sequence)
        sequence.kv_tokens = past
        pool.start(sequence, past + chunk)
        batch.prefills.append(sequence)
        batch.chunks.append((chunk, past))
        return True

    def _bring(self, sequence: Sequence, past: int, more: int) -> bool:
        """Take blocks for KV that is brought; say whether there was room."""
        pool, held = self.pool, past + more
        free = pool.free - self._watermark()
        if self.whole_prompts_fit and pool.lacks(sequence.target_tokens) > free:
            return False
        if pool.lacks(held) > free - self._promised():
            return False
        self.waiting.pop()
        sequence.kv_tokens = past
        pool.hold(sequence, held)
        self.parked[sequence] = Parked(sequence, held, self._now_s)
        self.connector.bring(sequence, past, more, self._now_s)
        return True

    def _promised(self) -> int:
        """Blocks that those who have begun need for the rest of their prompts."""
        pool, blocks = self.pool, 0
        for parked in self.parked.values():
            target = parked.sequence.target_tokens
            blocks += pool.blocks(target) - pool.blocks(parked.held_tokens)
        batch = self.batch
        for sequence in self.prefilling:
            held = sequence.kv_tokens
            if sequence in batch.prefills:
                held += batch.chunks[batch.prefills.index(sequence)][0]
            blocks += pool.blocks(sequence.target_tokens) - pool.blocks(held)
        return blocks

    def _go_on(self, parked: Parked, batch: Batch) -> bool:
        """Start behind KV that was brought; say whether there was room."""
        pool, sequence, held = self.pool, parked.sequence, parked.held_tokens
        if not parked.named:
            parked.named = True
            pool.fill(sequence, held)
        past = min(held, sequence.target_tokens - 1)
        chunk = self._chunk(sequence, past, batch)
        must_fit = sequence.target_tokens if self.whole_prompts_fit else past + chunk
        if pool.free - (pool.blocks(must_fit) - pool.blocks(held)) < self._watermark():
            return False
        del self.parked[sequence]
        if not sequence.preemptions:
            sequence.brought_tokens = past - sequence.cached_tokens
            sequence.cached_tokens = past
        self.seat(sequence)
        pool.take(pool.blocks(past + chunk) - pool.blocks(held))
        sequence.kv_tokens = past
        pool.fill(sequence, past + chunk)
        batch.prefills.append(sequence)
        batch.chunks.append((chunk, past))
        return True

    # --- who leaves
    def abort(self, sequence: Sequence) -> bool:
        """As all; who waits for KV leaves its blocks when that has come."""
        if not self.ahead or sequence not in self.parked:
            return super().abort(sequence)
        if sequence in self.unwanted:
            return False
        self.unwanted.append(sequence)
        return True

    def _drop(self, sequence: Sequence) -> bool:
        if sequence in self.parked:
            parked = self.parked.pop(sequence)
            self.tokens_to_prefill -= sequence.target_tokens
            if parked.arrived:
                self._free(parked)
            else:
                self._abandoned[sequence] = parked
            self.connector.ended(sequence)
            return True
        waited = sequence.waits
        here = super()._drop(sequence)
        if waited and here:
            self.connector.ended(sequence)
        return here

    def _free(self, parked: Parked) -> None:
        self.pool.throw_out(parked.sequence, parked.held_tokens, self.decoding.step)

    def _drop_from(self, batch: Batch, sequence: Sequence) -> None:
        super()._drop_from(batch, sequence)
        self.connector.ended(sequence)

    def _let_go(self, sequences: list[Sequence]) -> None:
        super()._let_go(sequences)
        for sequence in sequences:
            self.connector.ended(sequence)

    def unfinished(self) -> list[Sequence]:
        """As all, with those whose KV is on its way."""
        ended = {*self.unwanted}
        return super().unfinished() + [each for each in self.parked if each not in ended]


def _importance(parked: Parked) -> tuple[int, float, int]:
    sequence = parked.sequence
    return sequence.priority, sequence.arrival_s, sequence.request
