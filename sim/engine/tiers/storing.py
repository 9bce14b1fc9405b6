"""A KV connector between one replica and a store that it shares: vLLM's MooncakeStoreConnector.

    step n      chunks of a prompt are computed; when it has ended they are written, those that are
                not there, one request after the other
    step m      somewhere else a prompt begins with them: it takes its blocks, and reads what the
                GPU lacks

The blocks of one that has ended stay on the GPU until they are written.
"""

from dataclasses import dataclass

from sim.engine.loads import KEPT, Connector
from sim.engine.sequence import Batch, Sequence, known_at
from sim.engine.tiers.chunk_names import name_chunks
from sim.engine.tiers.remote_store import RemoteStore, StoreUser
from sim.engine.tiers.store_links import WRITE, StoreJob


@dataclass(frozen=True)
class StoringSettings:
    """Of one engine."""

    blocks_per_chunk: int
    block_size: int
    link_s: float
    """Of a chunk on its own link."""
    store_s: float = 0.0
    """Of a chunk on the store's, alone."""
    min_load_tokens: int = 0
    """Fewer are computed rather than read."""
    offload_prompt_only: bool = True
    """Whether answers are not written."""
    ahead: bool = False


class Stored:
    """What the connector knows of one request."""

    __slots__ = ("keys", "offered")

    def __init__(self) -> None:
        self.keys: list[int] = []
        """Of its whole chunks, in order."""
        self.offered = 0
        """The first chunk that was not yet offered."""


class Port(StoreUser):
    """One replica at the store."""

    def __init__(self, number: int, settings: StoringSettings) -> None:
        super().__init__(number, settings.link_s, settings.store_s)
        self.told: list[Sequence] = []
        """Who is to be told, where no replica can be."""
        self.writes: dict[Sequence, int] = {}
        """How many writes of each request have not ended."""

    def is_over(self, job: StoreJob) -> None:
        """See ``StoreUser``."""
        sequence = job.sequence
        assert sequence is not None
        if job.way == WRITE:
            left = self.writes.pop(sequence) - 1
            if left:
                self.writes[sequence] = left
                return
            if sequence.transit != KEPT:
                return
        if self.replica is None:
            self.told.append(sequence)
        else:
            self.replica.tell(sequence)


class Storing(Connector):
    """The shared store as the tier below one engine's KV cache."""

    def __init__(self, settings: StoringSettings, store: RemoteStore, number: int) -> None:
        self.settings = settings
        self.store = store
        self.port = store.users[number] = Port(number, settings)
        self._tokens = settings.blocks_per_chunk * settings.block_size
        self._known: dict[Sequence, Stored] = {}
        self._next: list[StoreJob] = []  # writes that begin when the step has ended

    # --- what comes
    def come(self, now_s: float) -> list[Sequence]:
        """See ``Connector``: writes of the step that has ended begin."""
        port, store = self.port, self.store
        store.idle.pop(port, None)
        if store.clock is None:
            store.advance(now_s)
        for job in self._next:
            job.sent_s = now_s
            store.send(port, job)
        self._next.clear()
        told, port.told = port.told, []
        return told

    def next_s(self) -> float:
        """See ``Connector``."""
        return self.store.links.next_s() if self.store.clock is None else super().next_s()

    def idles(self) -> None:
        """See ``Connector``."""
        self.store.idle[self.port] = None

    # --- what is asked
    def looks_elsewhere(self) -> bool:
        """See ``Connector``."""
        return True

    def matched(self, sequence: Sequence, past: int) -> int:
        """See ``Connector``: of whole chunks from the first one on, without the last token."""
        state, size = self._state(sequence), self._tokens
        state.offered = 0
        most = (sequence.target_tokens - 1) // size
        self._name(sequence, state, most)
        more = self.store.find(state.keys, most) * size - past
        return more if more >= max(self.settings.min_load_tokens, 1) else 0

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """See ``Connector``: whole chunks, the GPU may have a part of the first."""
        size = self._tokens
        keys = self._known[sequence].keys[past // size : (past + tokens) // size]
        if not sequence.preemptions:
            sequence.store_tokens = tokens
        for key in keys:
            self.store.hold(key)
        self.store.read(self.port, sequence, keys, now_s)

    # --- what is kept
    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """See ``Connector``: whole chunks of what the step computes are to be written."""
        prompts_only = self.settings.offload_prompt_only
        for place, sequence in enumerate(batch.prefills):
            chunk, past = batch.chunks[place]
            self._offer(sequence, past + chunk)
        if not prompts_only:
            for sequence in running:
                if sequence.finish_step >= 0:
                    self._offer(sequence, known_at(sequence, step + 1, self.settings.ahead))
        return bool(self._next) or not prompts_only

    def _offer(self, sequence: Sequence, computed: int) -> None:
        if self.settings.offload_prompt_only and computed > sequence.prompt_tokens:
            computed = sequence.prompt_tokens
        state, end = self._state(sequence), computed // self._tokens
        if end <= state.offered:
            return
        self._name(sequence, state, end)
        keys, state.offered = state.keys[state.offered : end], end
        self.port.writes[sequence] = self.port.writes.get(sequence, 0) + 1
        self._next.append(StoreJob(self.port.number, WRITE, sequence, keys, 0.0))

    def keeps(self, sequence: Sequence) -> bool:
        """See ``Connector``: until all of it is written."""
        return sequence in self.port.writes

    def gone(self, sequence: Sequence) -> None:
        """See ``Connector``."""
        self._known.pop(sequence, None)

    # --- of one request
    def _state(self, sequence: Sequence) -> Stored:
        if sequence not in self._known:
            self._known[sequence] = Stored()
        return self._known[sequence]

    def _name(self, sequence: Sequence, state: Stored, count: int) -> None:
        name_chunks(sequence, state.keys, self.settings.blocks_per_chunk, count)
