"""vLLM v1's scheduler with drafts: a decode wants its last token's row and one for each draft."""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.drafts.draft_decodes import DraftDecodes
from sim.engine.drafts.drafting import Acceptance, Drafting
from sim.engine.sequence import Batch, Sequence
from sim.engine.settings import Settings
from sim.engine.waiting import WaitingQueue


class DraftedPrefill(ChunkedPrefill):
    """``chunked_prefill`` where decodes want several rows, as vLLM v1 serves them.

    Running requests take rows and blocks in order of admission. Where all get what they want,
    decodes are served together; where budget or blocks fall short, one by one, as wherever some
    give blocks back while they run (several groups of the cache).

    Ahead, drafts under way count as right until their step has ended: blocks are taken for all of
    them, and whoever ends by an accepted draft is in one more step, for nobody.

    Args:
        pool, waiting, settings: as of any scheduler; with ``drafting``.
        acceptance: of the requests.

    Raises:
        ValueError: settings without drafts.
    """

    def __init__(
        self, pool: BlockPool, waiting: WaitingQueue, settings: Settings, acceptance: Acceptance
    ) -> None:
        super().__init__(pool, waiting, settings)
        pool.tells_late = False
        if (drafting := settings.drafting) is None:
            raise ValueError("drafting = None, expected how drafts are made")
        self.drafting: Drafting = drafting
        self.drafts = DraftDecodes(pool, settings.windows, drafting, acceptance, settings.ahead)
        self.decoding = self.drafts
        if pool.longest_tokens(pool.num_blocks) < drafting.max_model_len:
            under_way = drafting.tokens * (2 if settings.ahead else 1)
            self.longest_request_tokens -= under_way + drafting.lookahead
        self.left = 0  # of the token budget, while a step is formed
        self.pads = False  # whether who begins with one token gets the rows of drafts as well
        self.others = False  # whether somebody who runs is in the step being formed

    def form(self, now_s: float) -> Batch | None:
        """As ``ChunkedPrefill``. If nobody has room for what may be right, wait for what is."""
        batch = super().form(now_s)
        if batch is None and self.ahead and self.drafts.count:
            self._catch_up()
            self.drafts.settle()
            return super().form(now_s)
        return batch

    def _falls_short(self) -> bool:
        """Whether somebody who runs does not get all that it wants."""
        drafts, drafting, pool = self.drafts, self.drafting, self.pool
        if not drafts.whole:
            drafts.want_again()
        slots = drafting.slots
        self.left = self.token_budget - drafts.rows - slots * drafts.count
        blocks = drafts.needed()
        for ghost in self._ghosts():
            ghost.rows = drafts.wanted(ghost)
            self.left -= ghost.rows + slots
            blocks += drafts.lacks(ghost, ghost.rows)
        if drafts.stuck or self.longest_chunk <= drafting.tokens:
            return True
        left = self.left
        for sequence in self.prefilling:
            past = sequence.kv_tokens
            chunk = min(sequence.target_tokens - past, self.longest_chunk)
            if sequence is next(reversed(self.running)):
                chunk = max(0, min(chunk, left - slots))  # it takes what is left
            if chunk:
                left -= chunk + slots
                blocks += self._lacks(sequence, past + chunk)
        return left < 0 or blocks > pool.free

    def _serve(self, batch: Batch) -> None:
        """Let those who run have their rows and blocks."""
        if self.pool.in_order:
            self.pool.tell(0, 0)
            self._serve_in_order(batch)
        elif self._falls_short():
            self._serve_in_order(batch)
        else:
            self.ready_decodes(batch)
            if self.prefilling:
                self.continue_prompts(batch)
        self.pool.tell(0, 1)

    def _ghosts(self) -> list[Sequence]:
        """Ahead: who has ended, and is in the coming step all the same."""
        return [sequence for sequence in self.leaving if sequence.goes_on]

    def _lacks(self, sequence: Sequence, tokens: int) -> int:
        """Blocks that one that prefills has to take up to so many tokens."""
        return self._lacks_slots(sequence, self._slots(tokens))

    def _slots(self, tokens: int) -> int:
        """Tokens that blocks have to hold where a chunk ends behind so many."""
        return min(tokens + self.drafting.lookahead, self.drafting.max_model_len)

    def _lacks_slots(self, sequence: Sequence, slots: int) -> int:
        pool, own = self.pool, sequence.slots
        return pool.blocks(slots) - pool.blocks(own) if slots > own else 0

    def _take(self, sequence: Sequence, slots: int) -> None:
        """Let its blocks hold so many tokens."""
        if slots > sequence.slots:
            self.pool.take(self._lacks_slots(sequence, slots))
            sequence.slots = self.pool.room(slots)

    def ready_decodes(self, batch: Batch) -> None:
        """Let all decodes have their blocks: there are enough."""
        self.pool.free -= self.drafts.take()
        for ghost in self._ghosts():
            self._take(ghost, self.drafts.slots_of(ghost, ghost.rows))

    def continue_prompts(self, batch: Batch) -> None:
        """The next chunks of prompts that have started: blocks suffice."""
        slots = self.drafting.slots
        for sequence in self.prefilling:
            if self.left <= slots:
                break
            past = sequence.kv_tokens
            chunk = min(sequence.target_tokens - past, self.left - slots, self.longest_chunk)
            self._take(sequence, self._slots(past + chunk))
            self.left -= chunk + slots
            batch.prefills.append(sequence)
            batch.chunks.append((chunk, past))
        self._fill(batch)

    def _serve_in_order(self, batch: Batch) -> None:
        """Give each running request its rows and blocks, in order of admission."""
        drafts, running, served = self.drafts, self.running, self._served
        slots, in_order = self.drafting.slots, self.pool.in_order
        self.left, drafts.whole = self.token_budget, False
        for sequence in running:
            sequence.rows = 0
        for sequence in list(running):
            if self.left <= slots:
                break
            if sequence not in running:
                continue
            past, most = sequence.kv_tokens, min(self.left - slots, self.longest_chunk)
            if sequence.prefills:
                rows = min(sequence.target_tokens - past, most)
            elif sequence.finish_step >= 0 or sequence.goes_on:
                rows = min(drafts.wanted(sequence), most)
            else:
                continue
            if not rows:
                continue
            if in_order:
                self.pool.grow(sequence, past, rows)  # windows leave blocks behind
            if not self._make_room(sequence, rows, batch):
                break
            if sequence not in running:
                if self.serves_behind_victim:
                    continue
                break
            self._take(sequence, self._slots_of(sequence, rows))
            self.left -= rows + slots
            if sequence.prefills:
                batch.prefills.append(sequence)
                batch.chunks.append((rows, past))
            else:
                sequence.rows = rows
                served.add(sequence)
            if in_order:
                known = past + rows if sequence.prefills else sequence.next_told_tokens
                self.pool.fill(sequence, known)
        batch.held_back = [each for each in drafts.members if not each.rows]
        served.clear()
        if in_order:
            for sequence in batch.held_back:
                self.pool.rest(sequence)
        self._fill(batch)

    def _slots_of(self, sequence: Sequence, rows: int) -> int:
        if sequence.prefills:
            return self._slots(sequence.kv_tokens + rows)
        return self.drafts.slots_of(sequence, rows)

    def _blocks_of(self, sequence: Sequence, rows: int) -> int:
        return self._lacks_slots(sequence, self._slots_of(sequence, rows))

    def _make_room(self, sequence: Sequence, rows: int, batch: Batch) -> bool:
        """Throw others out until there are blocks for one, or that one itself; False: nobody may be
        thrown out now."""
        while sequence in self.running and self._blocks_of(sequence, rows) > self.pool.free:
            victim = self.victim()
            if not self._may_stop(victim):
                return False
            given = self._tokens_of(victim, batch)
            self.left += given + self.drafting.slots if given else 0
            self.preempt_one(batch, decodes_ready=False)
        return True

    def _tokens_of(self, sequence: Sequence, batch: Batch) -> int:
        if sequence.prefills and sequence in batch.prefills:
            return batch.chunks[batch.prefills.index(sequence)][0]
        return sequence.rows if sequence in self._served else 0

    def _stop(self, victim: Sequence, batch: Batch, decodes_ready: bool) -> int:
        if victim.finish_step >= 0:
            self._pause(victim)
            self._tell(victim, victim in self._served)
        else:
            self._no_longer_prefills(victim)
            if victim in batch.prefills:
                place = batch.prefills.index(victim)
                del batch.prefills[place]
                given = victim.kv_tokens + batch.chunks.pop(place)[0]
                victim.kv_tokens = min(given, victim.target_tokens)
        held_tokens, victim.slots = victim.slots, 0
        return held_tokens

    def _tell(self, sequence: Sequence, served: bool) -> None:
        """One that decoded leaves: the blocks of what is known of it can be found."""
        sequence.kv_tokens = sequence.next_told_tokens if served else sequence.told_tokens

    def _pause(self, sequence: Sequence) -> None:
        self.drafts.leave(sequence)
        self.tokens_to_prefill += sequence.prompt_tokens + sequence.generated_tokens

    def start_prompts(self, batch: Batch) -> None:
        """First chunks of those who wait, as long as seats, budget and blocks last."""
        waiting, drafting = self.waiting, self.drafting
        self.pads = not drafting.by_sequences and not batch.chunks
        self.others = not self._nobody(batch)
        if self.loads is not None:
            self._start_connected(self.loads, batch)
            return
        seats = self.max_num_seqs - len(self.running)
        while waiting.count and self.left > drafting.slots and seats > 0:
            sequence = waiting.head()
            past = self.pool.find(sequence)
            if not self._begin(sequence, past, self._budget_left(batch), batch):
                break
            seats -= 1

    def _budget_left(self, batch: Batch) -> int:
        return self.left - self.drafting.slots

    def _begin(self, sequence: Sequence, past: int, budget: int, batch: Batch) -> int:
        """See ``ChunkedPrefill``."""
        pool, target = self.pool, sequence.target_tokens
        chunk = self._first_chunk(sequence, past, budget)
        if not chunk:
            return 0
        most = self._slots(past + chunk)
        after = pool.free - pool.asks(max(target, most) if self.whole_prompts_fit else 0, most)
        if after < (self.watermark_blocks if self.running else 0):
            return 0
        self.waiting.pop()
        self.seat(sequence)
        tokens = min(past + chunk, target)
        pool.start(sequence, tokens)
        sequence.slots = pool.room(tokens)
        self._put(sequence, past, chunk, batch)
        return chunk

    def _first_chunk(self, sequence: Sequence, past: int, budget: int) -> int:
        """Tokens of the step in which it begins, rows of drafts included; 0: there is no room."""
        wanted = sequence.target_tokens - past
        if wanted == 1 and self.pads and (self.others or past) and self._may_pad(past):
            wanted += self.drafting.tokens
            if wanted > budget:
                return 0
        return min(wanted, budget, self.longest_chunk)

    def _put(self, sequence: Sequence, past: int, chunk: int, batch: Batch) -> None:
        """One that has its seat begins with this chunk."""
        sequence.kv_tokens, sequence.planned_tokens = past, past + chunk
        self._take(sequence, self._slots(past + chunk))
        batch.prefills.append(sequence)
        batch.chunks.append((chunk, past))
        self.left -= chunk + self.drafting.slots

    def _may_pad(self, past: int) -> bool:
        """Whether one that has a single token to compute gets rows as if it had drafts, so that all
        have equally many (``pad_spec_decode``)."""
        return past + 2 + self.drafting.tokens <= self.drafting.max_model_len

    def add_decodes(self, batch: Batch) -> None:
        """Put all who were given rows into the batch, and who has ended unknown."""
        self.drafts.tell(batch)
        for ghost in self._ghosts():
            if ghost.rows:
                batch.padding += 1
                self.drafts.add(batch, ghost)
        held_back = self._held_back
        batch.returned = [each for each in held_back if each.rows and each.finish_step >= 0]
        self._held_back = []
        batch.steps = 1
        batch.open = True

    def _nobody(self, batch: Batch) -> bool:
        if batch.chunks or (self.drafts.whole and self.drafts.rows):
            return False
        return not any(each.rows for each in [*self.drafts.members, *self._ghosts()])

    def _hold_nobody(self, batch: Batch) -> None:
        """Whoever is held back is among those who decode all the same; ahead, an empty step is no
        step, and what all have is known before the next one is planned."""
        if self.ahead:
            self.drafts.settle()

    def _decoded(self, batch: Batch, steps: int) -> list[Sequence]:
        finished = self.drafts.step_done(batch.decodes + batch.padding + len(batch.chunks))
        batch.gained, batch.drafted = self.drafts.gained, self.drafts.drafted
        return finished

    def _rejoin(self, batch: Batch) -> None:
        self._held_back += batch.held_back

    def _drop(self, sequence: Sequence) -> bool:
        if sequence.finish_step < 0:
            return super()._drop(sequence)
        self.drafts.leave(sequence)
        self._tell(sequence, False)
        self._end([sequence])
        return True

    def _drop_from(self, batch: Batch, sequence: Sequence) -> None:
        """See ``Scheduler``: its rows stay in the batch."""
        if sequence.finish_step >= 0:
            self.drafts.leave(sequence)
            self._tell(sequence, sequence.rows > 0)
            batch.held_back = [each for each in batch.held_back if each is not sequence]
            batch.returned = [each for each in batch.returned if each is not sequence]
            if sequence.rows:
                batch.decodes -= 1
                batch.padding += 1
        else:
            self.tokens_to_prefill -= sequence.target_tokens
            self._no_longer_prefills(sequence)
            if sequence in batch.prefills:
                chunk, past = batch.chunks[batch.prefills.index(sequence)]
                sequence.kv_tokens = min(past + chunk, sequence.target_tokens)
        del self.running[sequence]
        held_tokens, sequence.slots = sequence.slots, 0
        self._lose(sequence, held_tokens)
        sequence.target_tokens = 1 << 60
