"""Prefix caching where layers keep a state: vLLM's ``MambaManager`` beside attention.

Hits, names and the queue are those of ``hybrid_blocks``; what is different is which
blocks a step takes, and where chunks end (``state_groups``). A state that a step leaves
behind is written in it, so that nobody can begin with it in the same step: whoever would waits, and
those behind it.
"""

from sim.engine.caches.block_groups import BlockGroup
from sim.engine.caches.block_tables import Table, taken_out
from sim.engine.caches.held import own_stream
from sim.engine.caches.hybrid_cache import HybridCache, HybridDecodes, Turn
from sim.engine.caches.hybrid_settings import HybridSettings
from sim.engine.caches.state_groups import Ends, StateGroup, StateSettings, whole_of
from sim.engine.decoding import DecodeSet
from sim.engine.sequence import Sequence


class StateCache(HybridCache):
    """See ``HybridBlocks``; blocks of all groups hold as many tokens.

    Args:
        num_blocks: of the pool.
        groups: what is kept of tokens.
        states: groups of states.
        lag: whether blocks are given back only when the step in progress is done.
        settings: see there.
        of_states: see there.
    """

    def __init__(
        self,
        num_blocks: int,
        groups: list[BlockGroup],
        states: StateGroup,
        lag: bool,
        settings: HybridSettings,
        of_states: StateSettings,
    ) -> None:
        all_groups: list[BlockGroup] = [*groups, states]
        super().__init__(num_blocks, all_groups, lag, settings)
        self.names_late = False
        self._state = states
        self._first = self.kinds[-1].first
        self._ends = Ends(states, of_states)
        self.marks_again = of_states.marks_again
        self._new: set[tuple[int, int]] = set()  # streams, and blocks of theirs
        self._too_new = False
        self._whole = 0  # of who was looked for last

    def decode_set(self, windows: tuple[int | None, ...]) -> DecodeSet:
        """See ``HybridCache``."""
        return StateDecodes(self, windows) if self.marks_again else HybridDecodes(self, windows)

    def begin_step(self) -> None:
        """See ``BlockPool``."""
        self._new.clear()

    def find(self, sequence: Sequence) -> int:
        """See ``HybridBlocks``."""
        hit = super().find(sequence)
        self._whole = whole_of(sequence.prompt_tokens, sequence.target_tokens)
        self._too_new = False
        if hit and self._new:
            for pieces in self._hits[self._first :]:
                for run, first, blocks in pieces:
                    self._too_new = self._too_new or (run.stream, first + blocks - 1) in self._new
        return hit

    def cut(self, sequence: Sequence, past: int, tokens: int) -> int:
        """See ``BlockPool``."""
        junction = sequence.junction_tokens if sequence.prefills else self._junction
        prompt, target = sequence.prompt_tokens, sequence.target_tokens
        return self._ends.cut(past, tokens, prompt, target, junction)

    def asks(self, whole_tokens: int, tokens: int) -> int:
        """See ``HybridBlocks``."""
        if self._too_new:
            return self.num_blocks + 1
        hit, state, whole = self._hit, self._state, self._whole
        blocks = self._idle + state.count * state.takes(hit, tokens, whole)
        all_blocks = self._idle + state.count * state.takes(hit, max(whole_tokens, tokens), whole)
        for group in self.groups:
            if group is not state:
                found = group.taken(hit)
                blocks += group.count * (group.taken(tokens) - found)
                most = min(group.taken(whole_tokens), group.most)
                all_blocks += group.count * max(most - found, 0)
        return max(blocks, all_blocks)

    def start(self, sequence: Sequence, tokens: int) -> None:
        """See ``HybridBlocks``."""
        sequence.junction_tokens, sequence.settled_tokens = self._junction, 0
        super().start(sequence, tokens)

    def needs(self, sequence: Sequence, past: int, tokens: int) -> int:
        """See ``BlockPool``."""
        blocks, whole = 0, whole_of(sequence.prompt_tokens, sequence.target_tokens)
        for group in self.groups:
            blocks += group.count * group.takes(past, past + tokens, whole)
        return blocks

    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """See ``HybridBlocks``."""
        if self._state.sticks and self.lag:
            self._hold_on(sequence, sequence.begun_tokens, past)
        return super().grow(sequence, past, tokens)

    def leave_behind(self, sequence: Sequence, computed: int, known: int) -> None:
        """See ``HybridBlocks``."""
        if self._state.sticks and self.lag and sequence.finish_step >= 0:
            joined = sequence.kv_tokens
            self._hold_on(sequence, computed, joined if computed < joined else computed + 1)
        super().leave_behind(sequence, computed, known)

    def _hold_on(self, sequence: Sequence, computed: int, past: int) -> None:
        """Set apart what is left behind and not given back."""
        for table in sequence.tables[self._first :]:
            for block in self._state.stuck(table, computed, past):
                runs = taken_out(table, block + 1, self._texts)
                table.apart = [each for each in table.apart if each != block]
                table.stuck = [*table.stuck, runs[0] if runs else None]

    def held_by(self, sequence: Sequence, tokens: int) -> int:
        """See ``HybridBlocks``."""
        blocks = super().held_by(sequence, tokens)
        for table in sequence.tables[self._first :]:
            blocks += len(table.stuck)
        return blocks

    def _taken(self, sequence: Sequence, past: int, end: int) -> int:
        state, whole = self._state, whole_of(sequence.prompt_tokens, sequence.target_tokens)
        for table in sequence.tables[self._first :]:
            state.take(table, past, end, whole)
        return self.needs(sequence, past, end - past)

    def fill(self, sequence: Sequence, tokens: int) -> None:
        """See ``HybridBlocks``."""
        super().fill(sequence, tokens)
        if self.marks_again:
            self.mark(sequence, tokens)

    def mark(self, sequence: Sequence, tokens: int) -> None:
        """Nobody can begin in this step with the state at the end of a prompt, if that is where the
        last whole block of these tokens ends."""
        end = (sequence.prompt_tokens - 1) // self._state.block_size
        if not end or tokens // self._state.block_size != end:
            return
        left = self._state.behind(sequence.settled_tokens)  # if its table does not show it yet
        stream = own_stream(sequence)
        for other, last in reversed(sequence.spans):
            if end * self._state.block_size <= last:
                stream = other
        for group in range(self._first, self._first + self._state.count):
            table = sequence.tables[group]
            if max(table.gone, left) < end and table.there([(end - 1, end)]):
                self._new.add((self._searcher.key(stream, group), end - 1))

    def _name_of(self, stream: int, table: Table, group: int, first: int, end: int) -> None:
        super()._name_of(stream, table, group, first, end)
        if group >= self._first:
            key = self._searcher.key(stream, group)
            for block in range(first, end):
                self._new.add((key, block))


class StateDecodes(HybridDecodes):
    """With a cache that is told of states which are held still in the first steps."""

    def __init__(self, pool: StateCache, windows: tuple[int | None, ...]) -> None:
        super().__init__(pool, windows)
        self._states = pool

    def serve(self) -> None:
        """See ``HybridDecodes``."""
        if not self._pool.together:  # they were served one by one
            for sequence in self._fresh:
                if sequence.joined_step + self._lag >= self.step:
                    self._mark(sequence, self.step)
        super().serve()

    def _serve(self, turn: Turn, step: int, leaves: bool) -> None:
        super()._serve(turn, step, leaves)
        if step - turn.sequence.joined_step <= self._lag:
            self._mark(turn.sequence, step)

    def _serve_out_of_turn(self, sequence: Sequence, step: int) -> None:
        super()._serve_out_of_turn(sequence, step)
        if sequence.finish_step >= 0:  # it has just begun
            self._mark(sequence, step)

    def _mark(self, sequence: Sequence, step: int) -> None:
        past = sequence.kv_tokens + step - sequence.joined_step
        self._states.mark(sequence, past + 1 - self._ahead)
