"""Prefix caching in a KV cache of several groups: vLLM's ``HybridKVCacheCoordinator``.

All groups draw from one queue of free blocks, and each has names of its own for what its blocks
hold. A request finds as much as all groups have (``hits``). What a window leaves behind
while a request runs goes to the end of the queue if it can be found again, else to its front
(``block_tables``). So it matters in which order blocks are given back and taken, also within a
step: everybody is served in turn, by what changes for them (``hybrid_cache``).
"""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import DENSE, Kept, Table
from sim.engine.caches.giving import Giving
from sim.engine.caches.grouped_cache import GroupedPool
from sim.engine.caches.held import own_stream
from sim.engine.caches.held_runs import check_runs
from sim.engine.caches.hits import Kind, Searcher
from sim.engine.caches.hybrid_settings import HybridSettings, least_common
from sim.engine.caches.runs import ANONYMOUS, FreeQueue, Run
from sim.engine.caches.texts import Piece, Spans, Texts
from sim.engine.sequence import Sequence


class HybridBlocks(GroupedPool):
    """A pool of blocks for several groups, whose free blocks can be found again.

    Args:
        num_blocks: of the pool.
        groups: what is kept of tokens.
        lag: whether blocks are given back only when the step in progress is done.
        settings: see there.
    """

    def __init__(
        self, num_blocks: int, groups: list[BlockGroup], lag: bool, settings: HybridSettings
    ) -> None:
        super().__init__(num_blocks, groups, 0, lag)
        sizes = [group.block_size for group in groups]
        alignment = least_common(sizes)
        self.ahead = settings.ahead
        self._spans_of = settings.spans_of
        self.named_tokens = alignment if settings.whole_hits else 1
        """Names are given to blocks of multiples of so many tokens."""
        self.names_at = self.named_tokens if self.named_tokens > 1 else min(sizes)
        """And to those of answers when so many more are known."""
        self._queue = FreeQueue()
        self._queue.append(Run(ANONYMOUS, 0, num_blocks, 0, False))
        self._queued = num_blocks
        self._texts = Texts(self._queue)
        self._giving = Giving(self._queue, self._texts)
        self.kinds: list[Kind] = []
        first, drafted = 0, any(group.drops for group in groups)
        for group in groups:
            full = group.window is None
            slides = not full and not group.chunked
            unhashed_first = settings.windows_first if slides else settings.unhashed_first
            kept = Kept(
                group.block_size, group.window, alignment,
                DENSE if group.chunked else settings.retention,
                group.drops, drafted, settings.twice,
            )  # fmt: skip
            chunk = group.window if group.window is not None and group.chunked else 0
            blocks = chunk // group.block_size
            self.kinds.append(
                Kind(first, group.count, kept, full, unhashed_first, settings.windows_first, blocks)
            )
            first += group.count
        self._windows = [
            (group, kind) for group, kind in zip(groups, self.kinds, strict=True) if not kind.full
        ]
        self._all_named = any(not kind.full and kind.kept.all_along for kind in self.kinds)
        self.names_late = True
        """Whether what nobody else may look for gets its name when a window leaves it behind."""
        self._searcher = Searcher(self.kinds, alignment, self._texts, settings.at_end)
        self._hit = self._junction = self._idle = 0
        self._hits: list[list[Piece]] = []
        self._admissions = 0
        self.together = False
        """Whether the step's blocks of those who decode are counted, and given out later."""
        self._served: list[Sequence] = []  # whose prompts go on then, each with its new blocks
        self._chunk_ends: dict[Sequence, int] = {}  # where their chunks end, until they are in turn

    # --- what a request finds
    def arrive(self, sequence: Sequence) -> None:
        """A sequence is queued."""
        sequence.tables = []
        sequence.spans = [] if self._spans_of is None else self._spans_of(sequence.request)

    def find(self, sequence: Sequence) -> int:
        """Find the longest beginning that all groups have; return its tokens."""
        self._settle()
        self._hits, self._idle, self._hit, self._junction = [], 0, 0, 0
        if not sequence.spans:
            return 0
        hit, longest = self._searcher.longest(sequence.spans, sequence.target_tokens)
        self._hit, self._junction = hit, longest if longest > hit else 0
        if hit:
            self._see(sequence.spans, hit)
        return hit

    def _see(self, spans: Spans, hit: int) -> None:
        for place, kind in enumerate(self.kinds):
            first, end = self.groups[place].behind(hit), hit // kind.block_size
            for group in range(kind.first, kind.first + kind.count):
                pieces = self._searcher.pieces(kind, group, spans, first, end)
                self._hits.append(pieces)
                for run, _, blocks in pieces:
                    if not run.holders:
                        self._idle += blocks

    def asks(self, whole_tokens: int, tokens: int) -> int:
        """Free blocks that must be there for who was just looked for to start.

        vLLM counts what a window holds at most against all that was found, also of what the window
        has left behind (``get_num_blocks_to_allocate`` with ``apply_admission_cap``).
        """
        blocks = all_blocks = self._idle
        for group in self.groups:
            found = self._hit // group.block_size
            blocks += group.count * (group.taken(tokens) - found)
            whole = min(group.taken(whole_tokens), group.most)
            all_blocks += group.count * max(whole - found, 0)
        return max(blocks, all_blocks)

    def start(self, sequence: Sequence, tokens: int) -> None:
        """Who was just looked for holds what was found, and blocks of ``tokens`` in all."""
        hit, size = self._hit, len(self._hits)
        tables: list[Table] = []
        for place, kind in enumerate(self.kinds):
            gone, found = self.groups[place].behind(hit), hit // kind.block_size
            keeps = kind.kept.of(sequence.prompt_tokens, self._junction)
            for group in range(kind.first, kind.first + kind.count):
                table = Table(gone, found)
                if size:
                    table.held = self._holds(self._hits[group])
                table.keeps = keeps
                tables.append(table)
        self._queued -= self._idle
        sequence.tables, sequence.begun_tokens = tables, hit
        self.free -= self._idle + self._taken(sequence, hit, tokens)
        if not sequence.preemptions:
            sequence.cached_tokens = hit
        self._admissions += 1
        sequence.admission = self._admissions
        self._hits = []
        self.fill(sequence, tokens)

    def _taken(self, sequence: Sequence, past: int, end: int) -> int:
        """Note which blocks the tokens from ``past`` to before ``end`` take; return how many."""
        return self.blocks(end) - self.blocks(past)

    def _holds(self, pieces: list[Piece]) -> list[tuple[Run, int]]:
        held: list[tuple[Run, int]] = []
        for run, first, blocks in pieces:
            run = self._texts.cut(run, first, first + blocks)
            if not run.holders:
                self._queue.remove(run)
            run.holders += 1
            held.append((run, blocks))
        return held

    def tells(self, sequence: Sequence) -> bool:
        """Whether what it has yet to answer is named as it fills."""
        if self._all_named and not self.names_late:
            return True
        if not sequence.spans:
            return False
        end, target = sequence.spans[-1][1], min(sequence.target_tokens, sequence.kv_tokens)
        return end - end % self.block_size > target - target % self.named_tokens

    def fill(self, sequence: Sequence, tokens: int) -> None:
        """Give names to blocks, as far as they are full with ``tokens`` tokens.

        Of layers that keep everything only those that others may look for; a request that loses its
        blocks names the others then. What windows leave behind before that needs its name now.
        """
        told = sequence.spans[-1][1] if sequence.spans else 0
        for kind in self.kinds:
            named = self._nameable(kind, tokens) // kind.block_size
            end = min(named, told // kind.block_size) if kind.full else named
            # Groups of a kind have names for the same blocks.
            table = sequence.tables[kind.first]
            if table.named >= end:
                continue
            kept = kind.kept.within(table.keeps, max(table.named, table.gone), end)
            for low, high in table.there(kept):
                self._name(sequence, kind, low, high)
            for group in range(kind.first, kind.first + kind.count):
                sequence.tables[group].named = end

    def _nameable(self, kind: Kind, tokens: int) -> int:
        """Of ``tokens`` tokens, those whose full blocks of a kind can be found."""
        whole = tokens - tokens % self.named_tokens
        return min(tokens, whole + kind.block_size) if kind.drops and whole else whole

    def _hashed(self, kind: Kind, sequence: Sequence, known: int) -> int:
        """Blocks of a kind that vLLM gives a hash, of one of whom so many tokens are known.

        With drafts also the one in which the prompt ends, where that is behind a smaller block of
        others: nobody can find it, but others are taken first (``_cache_partial_tail_block``).
        """
        size, tokens = kind.block_size, self._nameable(kind, known)
        blocks = tokens // size
        if kind.drops and kind.full and size > self.block_size:
            end = sequence.prompt_tokens - sequence.prompt_tokens % self.block_size
            blocks += end <= tokens and end // size == blocks and end % size > 0
        return blocks

    def _name(self, sequence: Sequence, kind: Kind, first: int, end: int) -> None:
        tables, own, lost = sequence.tables, own_stream(sequence), False
        for stream, tokens in sequence.spans:
            lost = stream == own
            stop = min(tokens // kind.block_size, end)
            if first < stop:
                for group in range(kind.first, kind.first + kind.count):
                    self._name_of(stream, tables[group], group, first, stop)
                first = stop
        if first >= end:
            return
        if self.names_late and not lost:
            tables[kind.first].add_own(first, end)
            return
        for group in range(kind.first, kind.first + kind.count):
            self._name_of(own, tables[group], group, first, end)

    def _name_of(self, stream: int, table: Table, group: int, first: int, end: int) -> None:
        held = table.held
        last = held[-1][0] if held else None
        runs, more = self._texts.name(self._searcher.key(stream, group), first, end, last)
        if more:
            held[-1] = (held[-1][0], held[-1][1] + more)
        if not held:
            held = table.held = []
        for run in runs:
            held.append((run, run.count))

    # --- while it runs
    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Give back what windows have left behind; return the blocks of the next tokens."""
        blocks = self._taken(sequence, past, past + tokens)
        sequence.settled_tokens = sequence.begun_tokens if self.lag else past
        sequence.begun_tokens = past
        if self.together:
            self._served.append(sequence)
            sequence.slots = blocks
        else:
            self.leave_behind(sequence, sequence.settled_tokens, self.known(past))
        return blocks

    def known(self, past: int) -> int:
        """Of ``past`` tokens of one that decodes, those whose blocks are named before the next."""
        known = past - self.ahead if self.names_late else 0
        return known - known % self.names_at

    def leave_behind(self, sequence: Sequence, computed: int, known: int) -> None:
        """Windows move on to what follows ``computed`` tokens, of which ``known`` have names."""
        tables = sequence.tables
        for window, kind in self._windows:
            behind, table = window.behind(computed), tables[kind.first]
            if table.gone >= behind:
                continue
            if table.named < min(behind, known // kind.block_size):
                self.fill(sequence, known)
            own = own_stream(sequence)
            if table.all_own(behind):
                freed = self._giving.own_before(tables, kind, behind, own)
            else:  # some may go to the front of the queue
                self._settle()
                freed = self._giving.before(tables, kind, behind, behind, own)
            self._queued += freed
            self.free += freed

    def ready(self, sequence: Sequence) -> None:
        """See ``BlockPool``: what it has given back stands in its tables."""

    # --- giving back
    def end(self, sequences: list[Sequence], step: int) -> None:
        """Free the blocks of those who ended, in order of admission."""
        if len(sequences) > 1:
            sequences = sorted(sequences, key=lambda each: each.admission)
        for sequence in sequences:
            self.release(sequence, sequence.kv_tokens)

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """See ``BlockPool``: it may find what is kept of its blocks."""
        if self.ahead and sequence.kv_tokens > sequence.target_tokens:
            sequence.kv_tokens = held_tokens - 1
        self._name_all(sequence)

    def _name_all(self, sequence: Sequence) -> None:
        spans, own = sequence.spans, own_stream(sequence)
        for kind in self.kinds:
            kept, sequence.tables[kind.first].own = sequence.tables[kind.first].own, []
            self._giving.tell_apart(sequence.tables, kind)
            for group in range(kind.first, kind.first + kind.count):
                table = sequence.tables[group]
                self._giving.keep_left(table, self._searcher.key(own, group))
                for stretch in kept:
                    self._name_of(own, table, group, stretch.first, stretch.end)
        if not spans or sequence.kv_tokens > spans[-1][1]:
            if spans and spans[-1][0] == own:
                spans.pop()
            spans.append((own, sequence.kv_tokens))
        self.fill(sequence, sequence.kv_tokens)

    def release(self, sequence: Sequence, held_tokens: int) -> None:
        """Give back what is held in each group, one after the other."""
        self._give_back(sequence, held_tokens, list(range(len(self.kinds))))

    def release_late(self, sequence: Sequence, held_tokens: int) -> None:
        """The same; the last group first (vLLM's ``_drain_deferred_frees``)."""
        self._giving.backwards = True
        self._give_back(sequence, held_tokens, list(range(len(self.kinds) - 1, -1, -1)))
        self._giving.backwards = False

    def _give_back(self, sequence: Sequence, held_tokens: int, places: list[int]) -> None:
        known = sequence.kv_tokens
        self.fill(sequence, known)
        self._settle()
        for place in places:
            kind = self.kinds[place]
            end, full = self.groups[place].taken(held_tokens), self._hashed(kind, sequence, known)
            watched = sequence.tables[kind.first].watched
            own = own_stream(sequence) if watched else ANONYMOUS
            freed = self._giving.before(sequence.tables, kind, end, full, own)
            self._queued += freed
            self.free += freed
        sequence.tables = []

    def held_by(self, sequence: Sequence, tokens: int) -> int:
        """Blocks that one holds which took blocks of so many tokens, shared ones included."""
        blocks = 0
        for place, kind in enumerate(self.kinds):
            for group in range(kind.first, kind.first + kind.count):
                blocks += sequence.tables[group].count(self.groups[place].taken(tokens))
        return blocks

    def _settle(self) -> None:
        """Let the blocks that were taken leave the queue, with their names."""
        if self._queued > self.free:
            self._texts.take_first(self._queued - self.free)
            self._queued = self.free

    def check_cache(self, running: list[Sequence]) -> None:
        """Compare holders and queue with what requests hold. Raises AssertionError: with names."""
        self._settle()
        free = self._queue.runs()
        queued = sum([run.count for run in free])
        if not queued == self._queued == self.free:
            raise AssertionError(f"{queued} blocks are queued, {self.free} are free")
        check_runs([table for each in running for table in each.tables], free, self._texts)
