"""vLLM v1's scheduler: decodes and chunks of prompts in one step, with and without prefix cache."""

from sim.prefix_cache import PrefixCache
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence
from workloads.requests import Prefixes

_SPAN = 1 << 24
"""Blocks of one stream that have different identities; far more than any context has."""


class ChunkedPrefill(Scheduler):
    """vLLM v1: running requests in order of admission, each as much as the token budget allows.

    A decode wants one token, a half-computed prompt a chunk. Nobody but the newest ever wants more
    than it was given in the step before, so the budget fails the newest only; and if blocks run
    out, the newest are thrown out until they suffice for the others. So it makes no difference to
    serve all decodes at once, as counters, and then the prompts.

    Under ``order: priority`` it is not the newest who are thrown out. When budget or blocks fall
    short there, requests are served one by one, and a decode may be left without a token.
    """

    def __init__(
        self,
        *,
        long_prefill_token_threshold: int = 0,
        long_prefill_limits_alone: bool = True,
        scheduler_reserve_full_isl: bool = False,
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.longest_chunk = self.longest_of_many = min(
            long_prefill_token_threshold or self.token_budget, self.token_budget
        )
        self.longest_alone = self.longest_chunk if long_prefill_limits_alone else self.token_budget
        self.whole_prompts_fit = scheduler_reserve_full_isl
        self._held_back: list[Sequence] = []

    def _longest_request_tokens(self) -> int:
        return self.pool.num_blocks * self.pool.block_size + 1

    def next_batch(self, now_s: float) -> Batch | None:
        """Running requests, then new ones (unless somebody was preempted)."""
        batch, decoding = self.batch, self.decoding
        if batch.chunks or batch.preempted or batch.returned or batch.padding:
            batch.clear()
        batch.closed = False
        if self.longest_alone != self.longest_of_many:
            alone = len(self.running) + len(self.waiting) == 1
            self.longest_chunk = self.longest_alone if alone else self.longest_of_many
        if self._by_priority and self._falls_short():
            self._serve_in_order(batch)
        else:
            if decoding.count:
                self._ready_decodes(batch)
            if self.prefilling:
                self._continue_prompts(batch)
        if self.waiting and not batch.preempted and not batch.closed:
            self._start_prompts(batch)
        if not decoding.count and not batch.chunks:
            thrown_out = batch.preempted or batch.closed
            return self._try_again(batch, now_s) if thrown_out else None
        self._add_decodes(batch)
        if self._held_back:
            batch.returned = [each for each in self._held_back if each.finish_step >= 0]
            self._held_back = []
            batch.steps = 1
        return batch

    def _try_again(self, batch: Batch, now_s: float) -> Batch | None:
        """Whoever was thrown out left an empty step: the freed blocks serve the next try."""
        preempted = batch.preempted.copy()
        super()._rejoin(batch)
        self._catch_up()
        again = self.next_batch(now_s)
        if again is not None:
            again.preempted[:0] = preempted
        return again

    def _rejoin(self, batch: Batch) -> None:
        super()._rejoin(batch)
        self._held_back += batch.held_back

    def _falls_short(self) -> bool:
        """Whether budget or blocks do not suffice for what all running requests want."""
        decoding, pool = self.decoding, self.pool
        tokens, blocks = decoding.count, decoding.needs[decoding.step % pool.block_size]
        for sequence in self.prefilling:
            past = sequence.kv_tokens
            chunk = min(sequence.target_tokens - past, self.longest_chunk)
            if sequence is next(reversed(self.running)):
                chunk = min(chunk, self.token_budget - tokens)  # it takes what is left
            tokens += chunk
            blocks += pool.blocks(past + chunk) - pool.blocks(past)
        return tokens > self.token_budget or blocks > pool.free

    def _serve_in_order(self, batch: Batch) -> None:
        """Give each running request its tokens and blocks, in order of admission.

        Whoever is thrown out gives back what it was given. A request that is thrown out for its own
        sake ends the round, also for those behind it (under ``order: priority`` there may be some).
        """
        pool, decoding, running = self.pool, self.decoding, self.running
        served, budget = self._served, self.token_budget
        for sequence in list(running):
            if budget <= 0:
                break
            if sequence not in running:
                continue
            past, tokens = sequence.kv_tokens, 1
            if sequence.finish_step >= 0:
                past += decoding.step - sequence.joined_step
            elif sequence in self.prefilling:
                tokens = min(sequence.target_tokens - past, budget, self.longest_chunk)
            else:
                continue
            blocks = pool.blocks(past + tokens) - pool.blocks(past)
            while blocks > pool.free and sequence in running:
                budget += self._tokens_of(self._victim(), batch)
                self._preempt_one(batch, decodes_ready=False)
            if sequence not in running:
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

    def _tokens_of(self, sequence: Sequence, batch: Batch) -> int:
        """What a request was given in the round under way."""
        if sequence in batch.prefills:
            return batch.chunks[batch.prefills.index(sequence)][0]
        return int(sequence in self._served)

    def _catch_up(self) -> None:
        """Learn what happened since this was planned: nothing, unless one plans ahead."""

    def _budget_left(self, batch: Batch) -> int:
        return self.token_budget - self.decoding.count - sum(chunk for chunk, _ in batch.chunks)

    def _continue_prompts(self, batch: Batch) -> None:
        pool = self.pool
        for sequence in list(self.prefilling):
            budget = self._budget_left(batch)  # whoever was thrown out gave back its share
            if budget <= 0:
                break
            if sequence not in self.running:
                continue
            past = sequence.kv_tokens
            chunk = min(sequence.target_tokens - past, budget, self.longest_chunk)
            blocks = pool.blocks(past + chunk) - pool.blocks(past)
            while blocks > pool.free and sequence in self.running:
                self._preempt_one(batch, decodes_ready=True)
            if sequence not in self.running:
                break
            pool.take(blocks)
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, past))

    def _start_prompts(self, batch: Batch) -> None:
        pool, waiting, running = self.pool, self.waiting, self.running
        seats = self.max_num_seqs - len(running)
        budget = self.token_budget - self.decoding.count
        if batch.chunks:
            budget = self._budget_left(batch)
        while waiting and budget > 0 and seats > 0:
            sequence = waiting.pop()
            chunk = sequence.target_tokens
            if chunk > budget or chunk > self.longest_chunk:
                chunk = min(budget, self.longest_chunk)
            reserved = sequence.target_tokens if self.whole_prompts_fit else chunk
            watermark = self.watermark_blocks if running else 0
            if pool.free + -reserved // pool.block_size < watermark:
                waiting.push_back(sequence)
                break
            pool.free += -chunk // pool.block_size
            running[sequence] = None
            self.prefilling.append(sequence)
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, 0))
            budget -= chunk
            seats -= 1


class CachingChunkedPrefill(ChunkedPrefill):
    """vLLM v1 with ``enable_prefix_caching``.

    - Full blocks only. The last token of a prompt is always computed, and with it its block.
    - A block can be found as soon as it is in a step: a prompt may share what one before it in the
      same step computes.
    - A preempted request finds what is left of its own blocks.
    - So it is with answers that later prompts have in common with it (streams that go beyond the
      prompt): their blocks are named when somebody looks for one.
    """

    pool: PrefixCache

    def __init__(
        self,
        *,
        prefixes: Prefixes | None = None,
        reuse_unhashed_first: bool = False,
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.pool = PrefixCache(self.pool.num_blocks, self.pool.block_size, reuse_unhashed_first)
        self._prefixes = prefixes
        self._admissions = 0
        self._tellers: dict[Sequence, None] = {}
        """Those who run and whose streams go beyond the prompt."""

    def admit(self, sequence: Sequence) -> None:
        """Queue a request, and name the blocks that it may share."""
        sequence.blocks = []
        sequence.keys = self._keys(sequence.request)
        super().admit(sequence)

    def _keys(self, request: int) -> list[int]:
        """Identities of the blocks that lie wholly in the request's streams, from the first on."""
        keys: list[int] = []
        prefixes = self._prefixes
        if prefixes is not None:
            size = self.pool.block_size
            row = slice(*prefixes.offsets[request : request + 2].tolist())
            ends = prefixes.ends[row].tolist()
            for stream, end in zip(prefixes.streams[row].tolist(), ends, strict=True):
                base = stream * _SPAN
                keys.extend(range(base + len(keys), base + end // size))
        return keys

    def _continue_prompts(self, batch: Batch) -> None:
        super()._continue_prompts(batch)
        self._name_chunks(batch)

    def _serve_in_order(self, batch: Batch) -> None:
        super()._serve_in_order(batch)
        self._name_chunks(batch)

    def _name_chunks(self, batch: Batch) -> None:
        if self._tellers:
            self._tell(1)
        for sequence, (chunk, past) in zip(batch.prefills, batch.chunks, strict=True):
            self._name_blocks(sequence, past + chunk)

    def _known_tokens(self, sequence: Sequence, coming: int) -> int:
        """Tokens of a running sequence whose full blocks have identities.

        ``coming``: 1 once the step that is being formed has its blocks.
        """
        if sequence.finish_step < 0:
            return sequence.kv_tokens
        return sequence.kv_tokens + self.decoding.step - sequence.joined_step + coming

    def _tell(self, coming: int) -> None:
        """Name the full blocks of answers, in the order in which they were filled."""
        size = self.pool.block_size
        filled = []
        for sequence in self._tellers:
            known = self._known_tokens(sequence, coming)
            for block in range(len(sequence.blocks), min(known // size, len(sequence.keys))):
                age = known - (block + 1) * size
                filled.append((-age, sequence.admission, block + 1, sequence))
        for _, _, blocks, sequence in sorted(filled, key=lambda each: each[:3]):
            self._name_blocks(sequence, blocks * size)

    def _start_prompts(self, batch: Batch) -> None:
        pool, waiting, running = self.pool, self.waiting, self.running
        size = pool.block_size
        if self._tellers:
            self._tell(1)
        budget = self._budget_left(batch)
        while budget > 0 and waiting and len(running) < self.max_num_seqs:
            sequence = waiting.head()
            target = sequence.target_tokens
            found = pool.find(sequence.keys, (target - 1) // size)
            past = len(found) * size
            chunk = min(target - past, budget, self.longest_chunk)
            blocks = pool.blocks(past + chunk) - len(found)
            reserved = pool.blocks(target) - len(found) if self.whole_prompts_fit else blocks
            watermark = self.watermark_blocks if running else 0
            if pool.free - reserved - pool.free_among(found) < watermark:
                break
            pool.hold(found)
            sequence.blocks = found
            sequence.kv_tokens = past
            if not sequence.preemptions:
                sequence.cached_tokens = past
            self._admissions += 1
            sequence.admission = self._admissions
            self._seat(waiting.pop(), blocks)
            if len(sequence.keys) * size > sequence.prompt_tokens:
                self._tellers[sequence] = None
            self._name_blocks(sequence, past + chunk)
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, past))
            budget -= chunk

    def _name_blocks(self, sequence: Sequence, tokens: int) -> None:
        full = tokens // self.pool.block_size
        if len(sequence.blocks) < full:
            self.pool.name(sequence.blocks, sequence.keys, full)

    def _release(self, sequences: list[Sequence]) -> None:
        """Free the blocks of those who ended, in order of admission."""
        for sequence in sorted(sequences, key=lambda each: each.admission):
            del self.running[sequence]
            self._free(sequence, sequence.kv_tokens)

    def _give_back(self, sequence: Sequence, held_tokens: int) -> None:
        """As any; but what was computed can be found again, by this request alone if need be."""
        keys = sequence.keys
        own = -(sequence.request + 1) * _SPAN
        keys.extend(range(own + len(keys), own + sequence.kv_tokens // self.pool.block_size))
        self._free(sequence, held_tokens)

    def _free(self, sequence: Sequence, held_tokens: int) -> None:
        if self._tellers:
            self._tell(0)
            self._tellers.pop(sequence, None)
        self._name_blocks(sequence, sequence.kv_tokens)
        blocks, sequence.blocks = sequence.blocks, []
        full = sequence.kv_tokens // self.pool.block_size
        self.pool.release(blocks, full - len(blocks), self.pool.blocks(held_tokens) - full)
