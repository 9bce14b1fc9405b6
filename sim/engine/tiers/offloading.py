"""vLLM's OffloadingConnector: KV of prompts is copied to the host's memory, and found there.

    step n      a prompt's chunk is computed; room in the host is taken for its new pieces
    then        they are copied: from now on another request may find them
    step m      a prompt begins with them, and the GPU has them no more: they are brought

A piece ("chunk" in vLLM, here too) is ``blocks_per_chunk`` blocks of one text; only whole ones are
kept. Copies in one direction follow one another; a request does not wait for its own copies out.
"""

from typing import Final

from sim.engine.loads import ASK_AGAIN, Connector
from sim.engine.sequence import Batch, Sequence, known_at
from sim.engine.tiers.chunk_list import PENDING, Chunk
from sim.engine.tiers.chunk_names import name_chunks
from sim.engine.tiers.eviction import Eviction
from sim.engine.tiers.offers import OfferCounts
from sim.engine.tiers.offloaded import Offloaded, OffloadSettings, Transfer
from sim.engine.tiers.pipe import IN, OUT, Pipe

SEEN: Final = 1
INSERTED: Final = 2
MISSED: Final = 8
PROMOTED: Final = 16
REUSED: Final = 4


class Offloading(Connector):
    """The host's memory as a second tier of one engine's KV cache.

    Counted, over the whole run: ``stored`` and ``brought`` chunks, ``evicted`` ones, and
    ``refused`` offers, for which no room could be made.
    """

    def __init__(self, settings: OffloadSettings, eviction: Eviction) -> None:
        self.settings = settings
        self.eviction = eviction
        self.pipe = Pipe(settings.together)
        self.counts = OfferCounts(settings.max_tracker_size)
        self.stored = self.brought = self.evicted = self.refused = 0
        self.evictable = 0
        """Chunks that nobody reads or writes."""
        self._tokens = settings.blocks_per_chunk * settings.block_size
        self._known: dict[Sequence, Offloaded] = {}
        self._coming: set[int] = set()  # chunks on their way to the GPU
        self._next: list[Transfer] = []  # copies that begin when the step has ended
        self._over: list[Transfer] = []  # transfers that have ended, and nobody knows it yet
        self._ended: list[Sequence] = []
        self._cut_off: list[Sequence] = []  # ended, which nobody knows of before the next plan
        self._is_planned = False  # the step that comes
        self._now_s = 0.0
        self._offers = 0
        self._late: set[Sequence] = set()  # whose offer was refused
        self._changed = False

    # --- what comes
    def come(self, now_s: float) -> list[Sequence]:
        """See ``Connector``: transfers that have ended, and copies that begin."""
        self._is_planned, self._now_s = False, now_s
        come: list[Sequence] = []
        for job in self.pipe.ended(now_s):
            assert isinstance(job, Transfer)
            self._over.append(job)
            if not job.stores:
                come.append(job.sequence)
        self._copy()
        return come

    def _copy(self) -> None:
        """Copies of the plan before begin."""
        for copy in self._next:
            self.pipe.send(copy, OUT, self._now_s)
        self._next.clear()

    def learns(self) -> bool:
        """See ``Connector``."""
        if not self._over:
            return False
        for job in self._over:
            self._done(job)
        self._over.clear()
        return True

    def next_s(self) -> float:
        """See ``Connector``."""
        return self.pipe.next_s()

    def _done(self, job: Transfer) -> None:
        chunks = self.eviction.chunks
        for key in job.keys:
            chunk = chunks[key]
            if job.stores:
                chunk.readers = 0
                self.evictable += 1
            else:
                chunk.readers -= 1
                self.evictable += chunk.readers == 0
                self._coming.discard(key)
        state = self._known.get(job.sequence)
        if state is not None:
            state.jobs -= 1

    # --- what is asked
    def matched(self, sequence: Sequence, past: int) -> int:
        """See ``Connector``."""
        state = self._state(sequence)
        if self.settings.offers_again:
            state.stored = 0
        if state.jobs:
            return ASK_AGAIN
        size, tokens = self._tokens, sequence.target_tokens
        self._name(sequence, state, tokens)
        if min(tokens, len(state.keys) * size) - past < size:
            return 0
        self._poll()
        first, hits, pending = past // size, 0, False
        chunks, keys = self.eviction.chunks, state.keys
        for place in range(first, len(keys)):
            chunk = chunks.get(keys[place])
            if chunk is None:
                if not self._promotes(sequence, state, place):
                    break
                pending = True
            else:
                pending = pending or chunk.readers == PENDING
            hits += 1
        if pending:
            return ASK_AGAIN
        hits -= self.settings.drops_chunk
        more = (first + hits) * size - past
        if hits <= 0 or more < size:
            return 0
        if self._coming:
            for place in range(first, first + hits):
                if keys[place] in self._coming:
                    return ASK_AGAIN
        return more

    def _poll(self) -> None:
        """What is kept is looked at, or going to change."""

    def _poll_at_offer(self) -> None:
        """The same, where chunks are offered."""

    def _promotes(self, sequence: Sequence, state: Offloaded, place: int) -> bool:
        """Whether a chunk that is not here comes here now, from a tier below."""
        return False

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """See ``Connector``."""
        state, size = self._known[sequence], self._tokens
        first, end = past // size, (past + tokens) // size
        keys = state.keys[first:end]
        self._see(state, [each for each in range(first, end) if not state.marks[each] & SEEN])
        for place in range(first, end):
            chunk = self.eviction.chunks[state.keys[place]]
            self.evictable -= chunk.readers == 0
            chunk.readers += 1
            state.marks[place] |= SEEN if state.marks[place] & INSERTED else SEEN | REUSED
        self._coming.update(keys)
        state.stored = end
        job = self._transfer(sequence, state, keys, tokens // self.settings.block_size, False)
        self.pipe.send(job, IN, now_s)
        self.brought += end - first

    def _transfer(
        self, sequence: Sequence, state: Offloaded, keys: list[int], blocks: int, stores: bool
    ) -> Transfer:
        settings = self.settings
        state.jobs += 1
        work_s = settings.latency_s + blocks * settings.block_s
        return Transfer(work_s, sequence, keys, stores)

    # --- what is kept
    def changed(self) -> bool:
        """See ``Connector``."""
        return self._changed

    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """See ``Connector``: whole chunks of what the step computes are offered."""
        prompts_only = self.settings.offload_prompt_only
        before = self.stored
        self._copy()  # where the plan before was empty, at this instant
        if prompts_only and not self._late:
            for place, sequence in enumerate(batch.prefills):
                chunk, past = batch.chunks[place]
                self._offer(sequence, min(past + chunk, sequence.target_tokens))
        else:
            self._offer_all(batch, running, step)
        if self._ended:
            self._part()
        self._ended += self._cut_off
        self._cut_off.clear()
        self._is_planned = True
        self._changed = self.stored > before
        return bool(self._late) or bool(self._next) or not prompts_only

    def _offer_all(self, batch: Batch, running: dict[Sequence, None], step: int) -> None:
        for sequence in running:
            if self.settings.drafts and (sequence.finish_step >= 0 or sequence.goes_on):
                if sequence.rows:
                    self._offer(sequence, sequence.next_told_tokens)
            elif sequence.finish_step >= 0:
                self._offer(sequence, known_at(sequence, step + 1, self.settings.ahead))
            elif sequence.prefills and sequence in batch.prefills:
                chunk, past = batch.chunks[batch.prefills.index(sequence)]
                self._offer(sequence, min(past + chunk, sequence.target_tokens))

    def gone(self, sequence: Sequence) -> None:
        """See ``Connector``: it is seen in the next plan."""
        if sequence in self._known:
            unknown = self.settings.drafts and sequence.leaves and not self._is_planned
            (self._cut_off if unknown else self._ended).append(sequence)

    def _part(self) -> None:
        """Requests have ended: a last offer, and what they used counts as used."""
        self._ended.sort(key=_request)
        for sequence in self._ended:
            self._offer(sequence, sequence.kv_tokens)
            self._late.discard(sequence)
        for sequence in self._ended:
            state = self._known.pop(sequence)
            for place in range(len(state.marks) - 1, -1, -1):
                mark = state.marks[place]
                if mark & SEEN:
                    self.eviction.used(state.keys[place], mark & REUSED > 0, mark & INSERTED > 0)
        self._ended.clear()

    def _offer(self, sequence: Sequence, computed: int) -> None:
        """Offer the whole chunks that so many tokens fill."""
        if self.settings.offload_prompt_only and computed > sequence.prompt_tokens:
            computed = sequence.prompt_tokens
        state, end = self._state(sequence), computed // self._tokens
        if self.settings.drops_chunk and computed > sequence.prompt_tokens:
            end -= sequence not in self._ended
        if end <= state.stored:
            return
        self._name(sequence, state, computed)
        places = self._offered(sequence, state, end)
        if self._keep(sequence, state, places):
            state.stored = end
            self._late.discard(sequence)
        else:
            self.refused += 1
            self._late.add(sequence)

    def _offered(self, sequence: Sequence, state: Offloaded, end: int) -> list[int]:
        """Places of the chunks to offer, of the first ``end`` of its text, in order."""
        return list(range(state.stored, end))

    def _keep(self, sequence: Sequence, state: Offloaded, places: list[int]) -> bool:
        """Take room for the chunks that are not here; say whether there was enough."""
        self._poll_at_offer()
        eviction = self.eviction
        self._offers += 1
        wanted, fresh = self._wanted(state, places)
        for place in reversed(wanted):
            if not state.marks[place] & MISSED:
                eviction.missed(state.keys[place])
            state.marks[place] |= MISSED | SEEN
        self._see(state, fresh)
        if not wanted:
            return True
        if not self._take_room(state, wanted):
            return False
        keys = [state.keys[place] for place in wanted]
        blocks = len(wanted) * self.settings.blocks_per_chunk
        self._next.append(self._transfer(sequence, state, keys, blocks, True))
        self.stored += len(wanted)
        return True

    def _take_room(self, state: Offloaded, wanted: list[int]) -> bool:
        """Take room for a request's chunks at these places, if there is enough."""
        eviction = self.eviction
        lacking = len(wanted) - (eviction.capacity - len(eviction.chunks))
        if lacking > 0:
            victims = None
            if lacking <= self.evictable:
                victims = eviction.victims(lacking, self._offers)
            if victims is None:
                return False
            self._make_room(victims)
            self.evictable -= lacking
            self.evicted += lacking
        for place in wanted:
            self._insert(state, place)
            state.marks[place] |= INSERTED
        return True

    def _insert(self, state: Offloaded, place: int) -> None:
        self.eviction.insert(state.keys[place], state.rank, place)

    def _make_room(self, victims: list[Chunk]) -> None:
        for chunk in victims:
            self.eviction.remove(chunk)

    def _see(self, state: Offloaded, fresh: list[int]) -> None:
        """A request sees its chunks at these places for the first time."""
        if fresh:
            keys = [state.keys[place] for place in fresh]
            state.rank = self.eviction.seen(keys, fresh, state.rank)

    def _wanted(self, state: Offloaded, places: list[int]) -> tuple[list[int], list[int]]:
        """Places of the offered chunks that are to be kept and are not here; and those of all that
        count as seen, and were not."""
        chunks, keys, marks = self.eviction.chunks, state.keys, state.marks
        threshold = self.settings.store_threshold
        if threshold >= 2:
            self.counts.offered([keys[place] for place in places])
        wanted: list[int] = []
        fresh: list[int] = []
        for place in places:
            chunk = chunks.get(keys[place])
            if chunk is not None:
                chunk.offer = self._offers
                if chunk.readers != PENDING:
                    if not marks[place] & SEEN:
                        fresh.append(place)
                    marks[place] |= SEEN
                    if not marks[place] & INSERTED:
                        marks[place] |= REUSED
            elif threshold < 2 or self.counts.of(keys[place]) >= threshold:
                wanted.append(place)
                if not marks[place] & SEEN:
                    fresh.append(place)
        return wanted, fresh

    # --- of one request
    def _state(self, sequence: Sequence) -> Offloaded:
        if sequence not in self._known:
            self._known[sequence] = Offloaded()
        return self._known[sequence]

    def _name(self, sequence: Sequence, state: Offloaded, tokens: int) -> None:
        """Name the whole chunks of the first ``tokens`` tokens by their texts."""
        keys = state.keys
        name_chunks(sequence, keys, self.settings.blocks_per_chunk, tokens // self._tokens)
        state.marks.extend(bytes(len(keys) - len(state.marks)))


def _request(sequence: Sequence) -> int:
    return sequence.request
