"""vLLM's OffloadingConnector where layers keep different tokens, in several groups of the cache.

    window = 6, blocks of 4 tokens, 19 tokens, of which the host has 16:

    full attention   [c0] [c1] [c2] [c3]     all of them are brought
    the window        .    .   [c2] [c3]     those that its next token sees

Each group has chunks of its own of a text. What is offered of a window is what the GPU's cache
would keep of it as well: what a hit may end at needs it. A hit is as long as all groups have it; it
ends before the last token of a prompt, inside of a block if that one ends with it.

A block of a window that was begun in a step before, and that somebody else finds on the GPU in the
step that fills it, is not offered by who filled it: vLLM takes it for one that was given out anew.
"""

from typing import Final

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import Interval, Kept, Table
from sim.engine.loads import ASK_AGAIN
from sim.engine.sequence import Batch, Sequence
from sim.engine.tiers.chunk_list import PENDING
from sim.engine.tiers.chunk_names import name_chunks
from sim.engine.tiers.eviction import Eviction
from sim.engine.tiers.offloaded import Offloaded, OffloadSettings
from sim.engine.tiers.offloading import INSERTED, REUSED, SEEN
from sim.engine.tiers.pipe import IN
from sim.engine.tiers.tiered import AtStore, Tiered
from sim.engine.tiers.watching import found, is_there, run_at, watch

NO_HIT: Final = 0
DEFERRED: Final = -1


class Tables:
    """What is known of a request beside its chunks."""

    __slots__ = ("gone", "keeps", "lost", "names", "watched")

    def __init__(self) -> None:
        self.names: list[int] = []
        """Of its texts, one for the chunks of all groups at a place."""
        self.gone: list[int] = []
        """Of each group, the blocks that its window had left behind when it was admitted."""
        self.keeps: list[list[Interval] | None] = []
        """Of each group, which of its blocks can be found; None: all."""
        self.watched: list[Table] = []
        """Its blocks in each group, since an offer was refused, or it ended before one."""
        self.lost: set[int] = set()
        """Places of blocks that were given out anew since then."""


class GroupedOffloading(Tiered):
    """The host's memory as a second tier of a cache of several groups, in blocks of one size; with
    a shared store below it, or none.

    A chunk is a block; that of group g at place p of a text has the place ``p * groups + g``.

    Args:
        settings: of one engine.
        eviction: what makes room.
        groups: of the cache, kind by kind.
        retention: ``prefix_cache_retention_interval``, see ``Kept``.
        shared: its place at a store; None: there is none.
    """

    def __init__(
        self,
        settings: OffloadSettings,
        eviction: Eviction,
        groups: list[BlockGroup],
        retention: int,
        shared: AtStore | None = None,
    ) -> None:
        super().__init__(settings, eviction, shared)
        self._groups: list[BlockGroup] = []
        for group in groups:
            self._groups += [group] * group.count
        self._count = len(self._groups)
        size = settings.block_size
        self._kept = [Kept(size, each.window, size, retention) for each in self._groups]
        self._full = [n for n, each in enumerate(self._groups) if each.window is None]
        windows = [n for n, each in enumerate(self._groups) if each.window is not None]
        self._windows = sorted(windows, key=self._minus_window)
        self._tables: dict[Sequence, Tables] = {}
        self._asked: dict[Sequence, None] = {}  # since the last plan
        self._watched: dict[Sequence, None] = {}  # who still has something to offer

    def _minus_window(self, number: int) -> int:
        return -self._window(number, 0)

    def _window(self, number: int, tokens: int) -> int:
        """Chunks of a group that are needed for a hit of so many tokens, of which it sees the last
        ones; 0 tokens: of one that ends with a chunk, or anywhere."""
        window, size = self._groups[number].window, self._tokens
        assert window is not None
        least = (window + size - 1) // size
        return max(least, (window - 1 + (-tokens) % size + size - 1) // size)

    # --- what is asked
    def matched(self, sequence: Sequence, past: int) -> int:
        """See ``Connector``."""
        state = self._state(sequence)
        state.stored = 0
        if state.jobs:
            return ASK_AGAIN
        self._name(sequence, state, sequence.target_tokens)
        tables = self._tables[sequence]
        tables.gone = [group.behind(past) for group in self._groups]
        tables.keeps, tables.lost = [], set()
        self._watched.pop(sequence, None)
        self._asked[sequence] = None
        more = self._longest(sequence, state, past)
        return ASK_AGAIN if more == DEFERRED or self._waits(state, past, more) else more

    def _longest(self, sequence: Sequence, state: Offloaded, past: int) -> int:
        """Tokens behind ``past`` that all groups have; ``DEFERRED``: they are being written.

        Each group shortens what those before it found, until none does.
        """
        size, whole = self._tokens, len(state.keys) // self._count
        most = min(sequence.target_tokens - bool(self._windows), whole * size)
        everyone = self._full + self._windows
        found, deferred, todo = 0, False, everyone
        while todo:
            now, todo, windows = todo, list[int](), False
            for number in now:
                is_window = self._groups[number].window is not None
                if most - past < size:
                    return NO_HIT
                hits = self._hits(sequence, state, number, past // size, most)
                if hits == NO_HIT:
                    return NO_HIT
                deferred = deferred or hits == DEFERRED
                if hits > 0:
                    most = min(most, size * (past // size + hits))
                if most - past < size:
                    return NO_HIT
                if most - past < found:
                    if deferred:
                        deferred, todo = False, everyone
                    elif windows and not todo:
                        todo = self._windows
                windows = windows or is_window
                found = most - past
        return DEFERRED if deferred else found

    def _hits(
        self, sequence: Sequence, state: Offloaded, number: int, first: int, most: int
    ) -> int:
        """Chunks of a group behind ``first`` that a hit of ``most`` tokens at most may have."""
        end = (most + self._tokens - 1) // self._tokens
        if self._groups[number].window is None:
            return self._from_left(sequence, state, number, first, end)
        return self._from_right(sequence, state, number, first, end, most)

    def _readers(self, sequence: Sequence, state: Offloaded, number: int, place: int) -> int | None:
        """Of a chunk; it may come from a tier below, from now on. None: nobody has it."""
        self._poll()
        place = place * self._count + number
        chunk = self.eviction.chunks.get(state.keys[place])
        if chunk is None:
            return PENDING if self._promotes(sequence, state, place) else None
        return chunk.readers

    def _from_left(
        self, sequence: Sequence, state: Offloaded, number: int, first: int, end: int
    ) -> int:
        hits, pending = 0, False
        for place in range(first, end):
            readers = self._readers(sequence, state, number, place)
            if readers is None:
                break
            pending = pending or readers == PENDING
            hits += 1
        return DEFERRED if pending else hits

    def _from_right(
        self, sequence: Sequence, state: Offloaded, number: int, first: int, end: int, most: int
    ) -> int:
        """The last run of as many chunks as the window sees; what is left of one from the first."""
        need, hits, pending = self._window(number, most), 0, False
        for place in range(end - 1, first - 1, -1):
            readers = self._readers(sequence, state, number, place)
            if readers is None:
                need, hits, pending = self._window(number, 0), 0, False
            else:
                pending = pending or readers == PENDING
                hits += 1
            if hits == need:
                return DEFERRED if pending else place - first + need
        return DEFERRED if pending else hits

    def _waits(self, state: Offloaded, past: int, more: int) -> bool:
        """Whether what is found is just being brought for somebody else."""
        if not self._coming:
            return False
        size = self._tokens
        end = (past + more + size - 1) // size
        for number in range(self._count):
            first = past // size
            if self._groups[number].window is not None:
                first = max(first, end - self._window(number, past + more))
            for place in range(first, end):
                if state.keys[place * self._count + number] in self._coming:
                    return True
        return False

    def load(self, sequence: Sequence, past: int, tokens: int, now_s: float) -> None:
        """See ``Connector``."""
        state, size, total = self._known[sequence], self._tokens, past + tokens
        end = (total + size - 1) // size
        places: list[int] = []
        for number, group in enumerate(self._groups):
            first = max(past // size, group.behind(total))
            places += [place * self._count + number for place in range(first, end)]
        self._see(state, [place for place in places if not state.marks[place] & SEEN])
        for place in places:
            chunk = self.eviction.chunks[state.keys[place]]
            self.evictable -= chunk.readers == 0
            chunk.readers += 1
            state.marks[place] |= SEEN if state.marks[place] & INSERTED else SEEN | REUSED
        keys = [state.keys[place] for place in places]
        self._coming.update(keys)
        state.stored = end
        self.pipe.send(self._transfer(sequence, state, keys, len(keys), False), IN, now_s)
        self.brought += len(keys)
        self._loaded(sequence, past, tokens, places)

    def _span(self, place: int) -> int:
        return place // self._count

    # --- what is kept
    def planned(self, batch: Batch, running: dict[Sequence, None], step: int) -> bool:
        """See ``Connector``."""
        for sequence in self._watched:
            self._look_after(sequence)
        alone = super().planned(batch, running, step)
        self._asked.clear()
        return alone

    def _offer(self, sequence: Sequence, computed: int) -> None:
        super()._offer(sequence, computed)
        if sequence not in self._late:
            self._watched.pop(sequence, None)
        elif sequence not in self._watched and sequence.tables:
            self._watch(sequence)
            self._look_after(sequence)

    def gone(self, sequence: Sequence) -> None:
        """See ``Connector``: its last offer comes when its blocks may have been given out."""
        super().gone(sequence)
        state, size = self._known.get(sequence), self._tokens
        if state is None or not sequence.tables or sequence in self._watched:
            return
        computed = sequence.kv_tokens
        if self.settings.offload_prompt_only:
            computed = min(computed, sequence.prompt_tokens)
        if computed // size > state.stored:
            self._name(sequence, state, computed)
            self._tables[sequence].keeps = [each.keeps for each in sequence.tables]
            self._watch(sequence)

    def _watch(self, sequence: Sequence) -> None:
        self._watched[sequence] = None
        self._tables[sequence].watched = sequence.tables
        watch(sequence.tables, self._windows)

    def _look_after(self, sequence: Sequence) -> None:
        """Note which blocks of windows were given out anew that are not offered yet."""
        state, tables = self._known[sequence], self._tables[sequence]
        end = len(state.keys) // self._count
        for number in self._windows:
            table, others = tables.watched[number], self._others(number)
            for block in range(max(state.stored, tables.gone[number]), end):
                if sequence.tables and block >= table.gone:
                    lost = self._found_by_others(sequence, number, block)
                else:
                    lost = not is_there(table, block, others)
                if lost:
                    tables.lost.add(block * self._count + number)

    def _others(self, number: int) -> list[Table]:
        return [other.tables[number] for other in self._asked if other.tables]

    def _found_by_others(self, sequence: Sequence, number: int, block: int) -> bool:
        """Whether somebody who begins in this step holds a block that was there before it."""
        if not sequence.tables or sequence in self._asked:
            return False
        if sequence.prefills and block >= self._groups[number].taken(sequence.kv_tokens):
            return False
        return found(run_at(sequence.tables[number], block), block, self._others(number))

    def _offered(self, sequence: Sequence, state: Offloaded, end: int) -> list[int]:
        """See ``Offloading``: of windows what can be found again, group by group."""
        tables = self._tables[sequence]
        if sequence.tables:
            tables.keeps = [each.keeps for each in sequence.tables]
        places: list[int] = []
        if not tables.keeps:  # it was given up before it began anew
            return places
        for number, group in enumerate(self._groups):
            ranges = [(state.stored, end)]
            if group.window is not None:
                first = max(state.stored, tables.gone[number])
                ranges = self._kept[number].within(tables.keeps[number], first, end)
            for low, high in ranges:
                for block in range(low, high):
                    place = block * self._count + number
                    there = place not in tables.lost
                    there = there and not self._found_by_others(sequence, number, block)
                    if group.window is None or there:
                        places.append(place)
        return places

    def _insert(self, state: Offloaded, place: int) -> None:
        self.eviction.insert(state.keys[place], state.rank, place // self._count)

    def _see(self, state: Offloaded, fresh: list[int]) -> None:
        if fresh:
            keys, positions = list[int](), list[int]()
            for place in fresh:
                keys.append(state.keys[place])
                positions.append(place // self._count)
            state.rank = self.eviction.seen(keys, positions, state.rank)

    def _part(self) -> None:
        ended = self._ended.copy()
        super()._part()
        for sequence in ended:
            self._tables.pop(sequence, None)
            self._watched.pop(sequence, None)

    # --- of one request
    def _name(self, sequence: Sequence, state: Offloaded, tokens: int) -> None:
        """See ``Offloading``; one name for all groups, and the group."""
        if sequence not in self._tables:
            self._tables[sequence] = Tables()
        names = self._tables[sequence].names
        before = len(names)
        name_chunks(sequence, names, self._tokens, tokens // self._tokens)
        for name in names[before:]:
            for number in range(self._count):
                state.keys.append(name * self._count + number)
        state.marks.extend(bytes(len(state.keys) - len(state.marks)))
