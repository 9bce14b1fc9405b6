"""A host's memory with a shared store below it: vLLM's OffloadingConnector with a secondary tier.

    copied to the host       -> written from there to the store, if it is not there (cascade)
    missed by the host       -> room is taken in the host, and the chunk read into it (promotion);
                                whoever asked asks again, until it is there; then it is brought, and
                                stays until then
    makes room in the host   -> with ``writes_back`` it is written only now

The GPU reaches nothing but the host's memory. What is read or written there stays. Once in a step
the manager looks which transfers have ended: when it is first asked for anything. What is offered
to it comes behind the end of the step, and counts for the next one. With ``ends_behind_offers`` the
step ends for the manager when all is offered, and it looks at every offer as well.
"""

from dataclasses import dataclass
from math import inf

from sim.engine.sequence import Batch, Sequence
from sim.engine.tiers.chunk_list import Chunk
from sim.engine.tiers.eviction import Eviction
from sim.engine.tiers.offloaded import Offloaded, OffloadSettings, Transfer
from sim.engine.tiers.offloading import MISSED, PROMOTED, SEEN, Offloading
from sim.engine.tiers.remote_store import RemoteStore, StoreUser
from sim.engine.tiers.store_links import WRITE, StoreJob


@dataclass(frozen=True)
class BelowSettings:
    """Of the store below one host."""

    link_s: float
    """Of a chunk on the host's own link."""
    store_s: float = 0.0
    """Of a chunk on the store's, alone."""
    writes_back: bool = False
    """Whether chunks are written when they make room in the host, instead of as soon as they are
    there."""
    ends_behind_offers: bool = False
    """Whether a step of the manager ends behind its offers (vLLM 0.33 on)."""


class HostPort(StoreUser):
    """One host at the store."""

    def __init__(self, number: int, settings: BelowSettings) -> None:
        super().__init__(number, settings.link_s, settings.store_s)
        self.ended: list[StoreJob] = []
        """Transfers that have ended, and the host's manager has not seen it yet."""

    def is_over(self, job: StoreJob) -> None:
        """See ``StoreUser``."""
        self.ended.append(job)


@dataclass(frozen=True)
class AtStore:
    """Of one host at a store."""

    below: BelowSettings
    store: RemoteStore
    port: HostPort


def placed(below: BelowSettings, store: RemoteStore, number: int) -> AtStore:
    """Return the place of the host of a replica."""
    port = HostPort(number, below)
    store.users[number] = port
    return AtStore(below, store, port)


class Tiered(Offloading):
    """The host's memory as the second tier of one engine's KV cache, and a shared third one.

    Args:
        settings: of the engine.
        eviction: of the host.
        shared: its place at a store; None: there is none, and the host is all there is.
    """

    def __init__(
        self, settings: OffloadSettings, eviction: Eviction, shared: AtStore | None
    ) -> None:
        super().__init__(settings, eviction)
        self.shared = shared
        self._promotions: dict[Sequence, list[int]] = {}  # that begin when the step is planned
        self._polled = False  # in this step

    # --- what comes
    def come(self, now_s: float) -> list[Sequence]:
        """See ``Connector``."""
        shared = self.shared
        if shared is not None:
            shared.store.idle.pop(shared.port, None)
            if shared.store.clock is None:
                shared.store.advance(now_s)
        return super().come(now_s)

    def _poll(self) -> None:
        shared = self.shared
        if self._polled or shared is None:
            return
        self._polled = True
        ended, shared.port.ended = shared.port.ended, []
        for job in ended:
            self._is_there(job)

    def _poll_at_offer(self) -> None:
        if self.shared is not None and self.shared.below.ends_behind_offers:
            self._polled = False
        self._poll()

    def _is_there(self, job: StoreJob) -> None:
        if job.way == WRITE:
            self._unpin(job.pinned)
            return
        state = None if job.sequence is None else self._known.get(job.sequence)
        for key in job.keys:
            self.eviction.chunks[key].readers = 1
        if state is None:
            self._unpin(job.keys)
        else:
            state.promoted += job.keys

    def _unpin(self, keys: list[int]) -> None:
        for key in keys:
            chunk = self.eviction.chunks[key]
            chunk.readers -= 1
            self.evictable += chunk.readers == 0

    def _served(self, sequence: Sequence) -> None:
        """What was promoted for a request need not stay any longer."""
        state = self._known.get(sequence)
        if state is not None and state.promoted:
            self._unpin(state.promoted)
            state.promoted = []

    def next_s(self) -> float:
        """See ``Connector``."""
        own_s, shared = super().next_s(), self.shared
        if shared is None or shared.store.clock is not None:
            return own_s
        return min(own_s, shared.store.links.next_s())

    def goes_on(self) -> bool:
        """See ``Connector``: what is copied to the host has yet to be written to the store."""
        if self.shared is None:
            return super().goes_on()
        self._polled = False  # it plans again and again meanwhile
        return len(self._next) > 0 or self.pipe.next_s() < inf or len(self._over) > 0

    def changed(self) -> bool:
        """See ``Connector``."""
        self._polled = False
        ended = self.shared is not None and len(self.shared.port.ended) > 0
        return super().changed() or ended

    def idles(self) -> None:
        """See ``Connector``."""
        if self.shared is not None:
            self.shared.store.idle[self.shared.port] = None

    def looks_elsewhere(self) -> bool:
        """See ``Connector``."""
        return self.shared is not None

    # --- what is asked
    def _promotes(self, sequence: Sequence, state: Offloaded, place: int) -> bool:
        """See ``Offloading``: from the store, if it has it and the host has room."""
        key, marks = state.keys[place], state.marks
        if self.shared is None or not self.shared.store.find([key], 1):
            return False
        store = self.shared.store
        self._offers += 1
        if not marks[place] & MISSED:
            self.eviction.missed(key)
        fresh = not marks[place] & SEEN
        marks[place] |= MISSED | SEEN
        if fresh:
            self._see(state, [place])
        store.hold(key)
        if not self._take_room(state, [place]):
            store.release(key)
            return False
        marks[place] |= PROMOTED
        self._promotions.setdefault(sequence, []).append(key)
        return True

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """See ``Connector``."""
        super().load(sequence, past, tokens, now_s)
        size = self._tokens
        self._loaded(sequence, past, tokens, list(range(past // size, (past + tokens) // size)))

    def _loaded(self, sequence: Sequence, past: int, tokens: int, places: list[int]) -> None:
        """Chunks at these places are brought; a token came from the store if one of them did."""
        self._served(sequence)
        if self.shared is None or sequence.preemptions:
            return
        marks, size = self._known[sequence].marks, self._tokens
        spans = {self._span(place) for place in places if marks[place] & PROMOTED}
        most = min(tokens, sequence.target_tokens - 1 - past)
        sequence.store_tokens = min(len(spans) * size, most)

    def _span(self, place: int) -> int:
        """Which tokens of its text a chunk has, counted in chunks."""
        return place

    # --- what is kept
    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """See ``Connector``."""
        if self.shared is None:
            return super().planned(batch, running, step)
        promoted, behind = len(self._promotions) > 0, self.shared.below.ends_behind_offers
        if not behind:
            self._ends(self.shared)
        for sequence in batch.prefills:
            self._served(sequence)
        alone = super().planned(batch, running, step)
        if behind:
            self._ends(self.shared)
        self._changed = self._changed or promoted
        return alone

    def _ends(self, shared: AtStore) -> None:
        """The manager's step ends: what it was asked for is read from the store."""
        self._poll()
        self._polled = False
        for sequence, keys in self._promotions.items():
            shared.store.read(shared.port, sequence, keys, self._now_s)
        self._promotions.clear()

    def _part(self) -> None:
        for sequence in self._ended:
            self._served(sequence)
        super()._part()

    def _done(self, job: Transfer) -> None:
        super()._done(job)
        shared = self.shared
        if job.stores and shared is not None and not shared.below.writes_back:
            chunks = self.eviction.chunks
            for key in job.keys:
                chunk = chunks[key]
                self.evictable -= chunk.readers == 0
                chunk.readers += 1
            self._write(shared, job.sequence, job.keys, job.keys)

    def _make_room(self, victims: list[Chunk]) -> None:
        super()._make_room(victims)
        shared = self.shared
        if shared is not None and shared.below.writes_back:
            keys = [chunk.key for chunk in victims]
            keys = [key for key in keys if key not in shared.store.eviction.chunks]
            if keys:
                self._write(shared, None, keys, [])

    def _write(
        self, shared: AtStore, sequence: Sequence | None, keys: list[int], pinned: list[int]
    ) -> None:
        job = StoreJob(shared.port.number, WRITE, sequence, list(keys), self._now_s)
        job.pinned = pinned
        shared.store.send(shared.port, job)
