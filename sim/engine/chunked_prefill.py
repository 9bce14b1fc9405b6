"""vLLM v1's scheduler: decodes and chunks of prompts in one step."""

from typing import ClassVar

from mypy_extensions import mypyc_attr

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.loads import ASK_AGAIN, Loads
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


@mypyc_attr(allow_interpreted_subclasses=True)
class ChunkedPrefill(Scheduler):
    """vLLM v1: running requests in order of admission, each as much as the token budget allows.

    A decode wants one token, a half-computed prompt a chunk. Nobody but the newest ever wants more
    than it was given in the step before, so the budget fails the newest only; and if blocks run
    out, the newest are thrown out until they suffice for the others. So it makes no difference to
    serve all decodes at once, as counters, and then the prompts.

    Under ``order: priority`` it is not the newest who are thrown out. When budget or blocks fall
    short there, requests are served one by one, and a decode may be left without a token. The
    watermark holds for those who start beside others.
    """

    cuts_prompts: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (
        "long_prefill_token_threshold", "long_prefill_limits_alone", "scheduler_reserve_full_isl",
        "serves_behind_victim", "misses_behind_victim",
    )  # fmt: skip

    def __init__(self, pool: BlockPool, waiting: WaitingQueue, settings: Settings) -> None:
        super().__init__(pool, waiting, settings)
        threshold, budget = settings.long_prefill_token_threshold, settings.token_budget
        self.longest_request_tokens = pool.longest_tokens(pool.num_blocks) + 1
        self.longest_of_many = min(threshold or budget, budget)
        self.longest_alone = self.longest_of_many if settings.long_prefill_limits_alone else budget
        self.longest_chunk = self.longest_of_many
        self.whole_prompts_fit = settings.scheduler_reserve_full_isl
        self.serves_behind_victim = settings.serves_behind_victim
        self.misses_behind_victim = settings.misses_behind_victim
        self._held_back: list[Sequence] = []
        self._thrown_out: list[Sequence] = []  # when nobody could run, as blocks were being loaded

    def form(self, now_s: float) -> Batch | None:
        """Running requests, then new ones (unless somebody was preempted)."""
        loads = self.loads
        if loads is None:
            return self._plan(now_s)
        loads.plans()
        batch = self._plan(now_s)
        loads.saw(self.batch, self.running, self.decoding.step)
        seats = len(self.running) < self.max_num_seqs
        if self.waiting.count and seats and loads.connector.looks_elsewhere():
            self.batch.steps = 1
        return batch

    def _plan(self, now_s: float) -> Batch | None:
        batch = self.batch
        if batch.chunks or batch.preempted or batch.padding or batch.returned or batch.held_back:
            batch.clear()
        batch.closed = False
        self.pool.begin_step()
        if self.longest_alone != self.longest_of_many:
            here = len(self.running) + self.waiting.count
            alone = here + (0 if self.loads is None else len(self.loads.wanted())) == 1
            self.longest_chunk = self.longest_alone if alone else self.longest_of_many
        self._serve(batch)
        loads = self.loads
        comes = self.waiting.count > 0 or (loads is not None and loads.ready > 0)
        if comes and not batch.preempted and not batch.closed:
            self.start_prompts(batch)
        if self._nobody(batch):
            thrown_out = batch.preempted or batch.closed
            return self._try_again(batch, now_s) if thrown_out else None
        self.add_decodes(batch)
        if self._held_back:
            batch.returned = [each for each in self._held_back if each.finish_step >= 0]
            self._held_back = []
            batch.steps = 1
        if self._thrown_out:
            batch.preempted = self._thrown_out + batch.preempted
            self._thrown_out = []
        return batch

    def _serve(self, batch: Batch) -> None:
        """Let those who run have their tokens and blocks."""
        if self._in_order() and self._falls_short():
            self._serve_in_order(batch)
        else:
            if self.decoding.count:
                self.ready_decodes(batch)
            if self.prefilling:
                self.continue_prompts(batch)
        if self.pool.in_order:
            self.decoding.serve()

    def _nobody(self, batch: Batch) -> bool:
        return not self.decoding.count and not batch.chunks

    def _try_again(self, batch: Batch, now_s: float) -> Batch | None:
        """Whoever was thrown out left an empty step: the freed blocks serve the next try."""
        preempted = batch.preempted.copy()
        if self.fence is not None:
            self.fence.ended()
        if self.loads is not None:
            self.loads.saw(batch, self.running, self.decoding.step)
        self._catch_up()
        self._hold_nobody(batch)
        again = self.next_batch(now_s)
        if again is not None:
            again.preempted = preempted + again.preempted
            return again
        for sequence in preempted:
            if sequence.first_token_s < 0.0 <= sequence.first_scheduled_s:
                sequence.lost_at_s = now_s
        self._thrown_out += preempted
        return None

    def _hold_nobody(self, batch: Batch) -> None:
        """Nothing came of the step in which some were held back."""
        super()._rejoin(batch)

    def _rejoin(self, batch: Batch) -> None:
        super()._rejoin(batch)
        self._held_back += batch.held_back

    def _falls_short(self) -> bool:
        """Whether budget or blocks do not suffice for what all running requests want."""
        decoding, pool = self.decoding, self.pool
        tokens, blocks = decoding.count, decoding.needed()
        for sequence in self.prefilling:
            past = sequence.kv_tokens
            chunk = min(sequence.target_tokens - past, self.longest_chunk)
            if sequence is next(reversed(self.running)):
                chunk = max(min(chunk, self.token_budget - tokens), 0)  # it takes what is left
            tokens += chunk
            blocks += pool.needs(sequence, past, chunk)
        return tokens > self.token_budget or blocks > pool.free

    def _serve_in_order(self, batch: Batch) -> None:
        """Give each running request its tokens and blocks, in order of admission.

        Whoever is thrown out gives back what it was given. A request that is thrown out for its own
        sake ends the round before 0.33, also for those behind it (under ``order: priority`` there
        may be some).
        """
        pool, decoding, running = self.pool, self.decoding, self.running
        served, budget, missed = self._served, self.token_budget, 0
        passed = set[Sequence]()
        for sequence in list(running):
            if budget <= 0:
                break
            if sequence not in running:
                continue
            passed.add(sequence)
            if missed:
                missed -= 1
                continue
            past, tokens = sequence.kv_tokens, 1
            if sequence.finish_step >= 0:
                past += decoding.step - sequence.joined_step
                decoding.note(sequence)
            elif sequence.prefills:
                tokens = min(min(sequence.target_tokens - past, budget), self.longest_chunk)
                tokens = pool.cut(sequence, past, tokens)
                if not tokens:
                    continue
            else:
                continue
            blocks = pool.grow(sequence, past, tokens)
            passed.discard(sequence)
            while blocks > pool.free and sequence in running:
                victim = self.victim()
                if not self._may_stop(victim):
                    break
                budget += self._tokens_of(victim, batch)
                missed += self.misses_behind_victim and victim in passed
                self.preempt_one(batch, decodes_ready=False)
            if sequence not in running:
                if self.serves_behind_victim:
                    continue
                break
            if blocks > pool.free:
                break
            pool.take(blocks)
            budget -= tokens
            if sequence.finish_step >= 0:
                served.add(sequence)
            else:
                batch.prefills.append(sequence)
                batch.chunks.append((tokens, past))
        batch.held_back = [each for each in running if each.finish_step >= 0 and each not in served]
        for sequence in batch.held_back:
            self._pause(sequence)
        served.clear()
        self._fill(batch)

    def _tokens_of(self, sequence: Sequence, batch: Batch) -> int:
        """What a request was given in the round under way."""
        if sequence.prefills and sequence in batch.prefills:
            return batch.chunks[batch.prefills.index(sequence)][0]
        return int(sequence in self._served)

    def _budget_left(self, batch: Batch) -> int:
        budget = self.token_budget - self.decoding.count
        for chunk, _ in batch.chunks:
            budget -= chunk
        return budget

    def continue_prompts(self, batch: Batch) -> None:
        """The next chunks of prompts that have started, in the order of ``prefilling``."""
        pool = self.pool
        for sequence in self.prefilling.copy():
            budget = self._budget_left(batch)  # whoever was thrown out gave back its share
            if budget <= 0:
                break
            if not sequence.prefills:
                continue
            past = sequence.kv_tokens
            chunk = min(min(sequence.target_tokens - past, budget), self.longest_chunk)
            chunk = pool.cut(sequence, past, chunk)
            if not chunk:
                continue
            blocks = pool.grow(sequence, past, chunk)
            while blocks > pool.free and sequence.prefills:
                self.preempt_one(batch, decodes_ready=True)
            if not sequence.prefills:
                break
            pool.take(blocks)
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, past))
        self._fill(batch)

    def _fill(self, batch: Batch) -> None:
        """Tell the cache what the step will compute."""
        if self.pool.in_order:
            for sequence in self.prefilling:
                if sequence not in batch.prefills:
                    self.pool.rest(sequence)
        pool, step, late = self.pool, self.decoding.step, self.pool.tells_late
        if not late:
            pool.tell(step, 1)
        for place, sequence in enumerate(batch.prefills):
            if late and pool.concerns(sequence):
                pool.tell(step, 1)
            chunk, past = batch.chunks[place]
            pool.fill_in_turn(sequence, past + chunk)

    def start_prompts(self, batch: Batch) -> None:
        """First chunks of those who wait, as long as seats, budget and blocks last."""
        pool, waiting = self.pool, self.waiting
        step, late = self.decoding.step, pool.tells_late
        if not late:
            pool.tell(step, 1)
        if self.loads is not None:
            self._start_connected(self.loads, batch)
            return
        seats = self.max_num_seqs - len(self.running)
        budget = self._budget_left(batch)
        while waiting.count and budget > 0 and seats > 0:
            sequence = waiting.head()
            if late and pool.concerns(sequence):
                pool.tell(step, 1)
            chunk = self._begin(sequence, pool.find(sequence), budget, batch)
            if not chunk:
                break
            budget -= chunk
            seats -= 1

    def _begin(self, sequence: Sequence, past: int, budget: int, batch: Batch) -> int:
        """Start who was just looked for; return the tokens of its chunk, 0 if there is no room."""
        pool, target = self.pool, sequence.target_tokens
        chunk = pool.cut(sequence, past, min(min(target - past, budget), self.longest_chunk))
        if not chunk:
            return 0
        after = pool.free - pool.asks(target if self.whole_prompts_fit else 0, past + chunk)
        if after < (self.watermark_blocks if self.running else 0):
            return 0
        self.waiting.pop()
        self.seat(sequence)
        sequence.kv_tokens = past
        pool.start(sequence, past + chunk)
        batch.prefills.append(sequence)
        batch.chunks.append((chunk, past))
        return chunk

    def _start_connected(self, loads: Loads, batch: Batch) -> None:
        """The same where a connector may have what the pool has not: who has loaded goes first, and
        who has to ask again lets others pass."""
        loads.stuck = True
        if loads.ready and not self._start_loaded(loads, batch):
            return
        waiting, passed = self.waiting, list[Sequence]()
        while waiting.count:
            budget = self._budget_left(batch)
            if budget <= 0 or len(self.running) >= self.max_num_seqs:
                break
            sequence = waiting.head()
            past = self.pool.find(sequence)
            tokens = loads.connector.matched(sequence, past)
            if tokens == ASK_AGAIN:
                passed.append(waiting.pop())
            elif tokens and self._has_room(sequence, past + tokens, batch):
                loads.park(waiting.pop(), past, tokens)
            elif tokens or not self._begin(sequence, past, budget, batch):
                break
        loads.stuck = waiting.count > 0
        for sequence in reversed(passed):
            waiting.push_back(sequence)

    def _has_room(self, sequence: Sequence, tokens: int, batch: Batch) -> bool:
        """Whether who was just looked for can take blocks of so many tokens, and load."""
        pool = self.pool
        free = pool.free - (self.watermark_blocks if self.running else 0)
        if self.whole_prompts_fit and pool.load_asks(sequence.target_tokens, tokens, True) > free:
            return False
        promised = 0 if self.loads is None else self.loads.promised(self.prefilling, batch)
        return pool.load_asks(tokens, tokens, False) + promised <= free

    def _start_loaded(self, loads: Loads, batch: Batch) -> bool:
        """Serve who has loaded, as long as seats, budget and blocks last; say whether they did."""
        pool, running = self.pool, self.running
        for sequence in loads.in_turn(self.waiting.by_priority):
            budget = self._budget_left(batch)
            if budget <= 0 or len(running) >= self.max_num_seqs:
                return False
            pool.fill(sequence, sequence.loaded_tokens)
            sequence.kv_tokens = sequence.loaded_tokens
            target, loaded = sequence.target_tokens, sequence.loaded_tokens
            past = min(loaded, target - 1)  # the last token is computed again
            chunk = min(min(target - past, budget), self.longest_chunk)
            blocks = max(pool.blocks(past + chunk) - pool.blocks(loaded), 0)
            whole = pool.remaining(target, loaded) if self.whole_prompts_fit else 0
            if pool.free - max(blocks, whole) < (self.watermark_blocks if running else 0):
                return False
            pool.free -= blocks
            loads.leave(sequence)
            self.seat(sequence)
            pool.seat(sequence)
            if not sequence.preemptions:
                sequence.brought_tokens = past - sequence.cached_tokens
            sequence.kv_tokens = past
            pool.fill(sequence, past + chunk)
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, past))
        return True
