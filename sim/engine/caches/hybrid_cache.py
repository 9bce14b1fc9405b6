"""Decoding sequences in a KV cache of several groups with prefix caching: who is served when.

A sequence matters in a step if it takes a block in some group, leaves one behind in another, or
fills blocks that others may look for. All of that comes back after as many steps as there are
tokens in a block (in the least common multiple of several), so that sequences wait in a ring of as
many places, and only those in turn are touched::

    step        8   9  10  11 |12  13
    takes       A   .   B   . | A   .      block_size = 4
    leaves      .   B   .   A | .   B      whoever is in turn, in order of admission
"""

from sim.engine.caches.hybrid_settings import least_common
from sim.engine.caches.loaded_blocks import LoadedBlocks
from sim.engine.decoding import DecodeSet
from sim.engine.sequence import Sequence


class Turn:
    """What a step in which a sequence is in turn changes for it."""

    __slots__ = ("leaves", "names", "sequence", "takes")

    def __init__(self, sequence: Sequence, takes: int, leaves: bool, names: bool) -> None:
        self.sequence = sequence
        self.takes = takes
        """Blocks that it takes."""
        self.leaves = leaves
        """Whether a window leaves a block behind."""
        self.names = names
        """Whether blocks are filled that have names."""


class HybridCache(LoadedBlocks):
    """See ``HybridBlocks``; with decoding sequences that are served in turn."""

    def fill_in_turn(self, sequence: Sequence, tokens: int) -> None:
        """See ``BlockPool``: of two that fill a block with one text, who was admitted first has
        the one that others find."""
        self._chunk_ends[sequence] = tokens

    def rest(self, sequence: Sequence) -> None:
        """See ``BlockPool``: all that it has computed is known."""
        super().rest(sequence)
        if self.ahead:
            self.fill(sequence, sequence.kv_tokens)

    def take_served(self) -> list[Sequence]:
        """Return whose prompts go on in this step, and count their blocks as free again."""
        served = self._served
        for sequence in served:
            self.free += sequence.slots
        self._served = []
        return served

    def serve_prompt(self, sequence: Sequence) -> None:
        """One of them is in turn."""
        self.leave_behind(sequence, sequence.settled_tokens, 0)
        self.free -= sequence.slots
        sequence.slots = 0
        self.fill(sequence, self._chunk_ends.pop(sequence))

    def prompts_in_turn(self) -> list[Sequence]:
        """Return whose prompts go on in this step, in order of admission."""
        return sorted(self._chunk_ends, key=_admission)

    def name_prompt(self, sequence: Sequence) -> None:
        """One of them is in turn, and has its blocks."""
        self.fill(sequence, self._chunk_ends.pop(sequence))

    def decode_set(self, windows: tuple[int | None, ...]) -> DecodeSet:
        """One that tells the cache of its sequences."""
        return HybridDecodes(self, windows)


class HybridDecodes(DecodeSet):
    """Sequences that decode, with a cache that is told of each as it is in turn."""

    def __init__(self, pool: HybridCache, windows: tuple[int | None, ...]) -> None:
        super().__init__(1, windows)
        self._pool = pool
        self._lag, self._ahead = int(pool.lag), int(pool.ahead)
        sizes = [group.block_size for group in pool.groups]
        self._period = least_common(sizes)
        self._named = pool.names_at
        self._groups: dict[int, int] = {}  # how many there are with so large blocks
        self._windows_of: list[tuple[int, int]] = []  # and windows, with their blocks
        for group in pool.groups:
            size = group.block_size
            self._groups[size] = self._groups.get(size, 0) + group.count
            if group.window is not None:  # a chunk ends where some block does
                self._windows_of.append((1 if group.chunked else group.window, size))
        self._shortest = min([window for window, _ in self._windows_of], default=0)
        self._due = self._in_a_round()
        self._turns: list[list[Turn]] = [[] for _ in range(self._period)]  # in order of admission
        self._needs = [0] * self._period  # blocks that they take
        self._all_needs = 0  # in all of these steps
        self._places: dict[Sequence, list[int]] = {}
        self._fresh: list[Sequence] = []  # in a first step, or a lag behind it; by admission
        self._whole: dict[Sequence, None] = {}  # who joined with its last token known, ahead
        self._done = 0  # steps before this one are done
        self._nets = [0]  # blocks taken in steps behind the coming one, less those given back

    def _in_a_round(self) -> list[tuple[int, int, bool, bool]]:
        """Of how many tokens, less whole rounds, one is in turn that has them: with the blocks that
        it takes then, whether it leaves one, and whether it fills some that may have names."""
        due: list[tuple[int, int, bool, bool]] = []
        for past in range(self._period):
            takes, leaves = 0, False
            for size, groups in self._groups.items():
                if past % size == 0:
                    takes += groups
            for window, size in self._windows_of:
                leaves = leaves or (past - self._lag - window + 1) % size == 0
            fills = (past + 1 - self._ahead) % self._named == 0
            if takes or leaves or fills:
                due.append((past, takes, leaves, fills))
        return due

    # --- who is here
    def join(self, sequence: Sequence) -> None:
        """See ``DecodeSet``."""
        super().join(sequence)
        sequence.begun_at_join = sequence.begun_tokens
        step, tells = self.step, self._pool.tells(sequence)
        if self._ahead and tells and sequence.target_tokens > sequence.kv_tokens:
            self._whole[sequence] = None
        begin, period = step - sequence.kv_tokens, self._period
        places: list[int] = []
        for past, takes, leaves, fills in self._due:
            names = tells and fills
            if takes or leaves or names:
                place = (begin + past) % period
                _insert(self._turns[place], Turn(sequence, takes, leaves, names))
                self._needs[place] += takes
                self._all_needs += takes
                places.append(place)
        self._places[sequence] = places
        fresh, place = self._fresh, len(self._fresh)
        while place and fresh[place - 1].admission > sequence.admission:
            place -= 1
        fresh.insert(place, sequence)

    def _settle(self, sequences: list[Sequence]) -> None:
        """Bring those who leave up to date, and the counts of those who stay."""
        for sequence in sequences:
            for place in self._places.pop(sequence):
                takes = _take_out(self._turns[place], sequence)
                self._needs[place] -= takes
                self._all_needs -= takes
            if self._fresh and sequence in self._fresh:
                self._fresh.remove(sequence)
            if self._whole:
                self._whole.pop(sequence, None)
            self.note(sequence)
        super()._settle(sequences)

    def note(self, sequence: Sequence) -> None:
        """Note what was computed, or in progress, when its blocks were last taken."""
        steps = self.step - sequence.joined_step
        sequence.begun_tokens = sequence.kv_tokens + steps - 1 if steps else sequence.begun_at_join

    # --- what they take
    def needed(self) -> int:
        """Blocks that the coming step takes, before any are given back."""
        return self._needs[self.step % self._period]

    def change(self) -> int:
        """Blocks that the coming step takes; what it gives back is told by ``serve``."""
        self._pool.together = True
        return self.needed()

    def steps_ahead(self, free_blocks: int) -> int:
        """See ``DecodeSet``: without what is given back meanwhile, so that order is no matter."""
        steps = self.steps_to_change()
        if free_blocks >= self._all_needs * ((steps + self._period - 2) // self._period):
            return steps
        return self.most_steps(steps, free_blocks)

    def gross(self, steps: int) -> int:
        """See ``DecodeSet``."""
        rounds, rest = divmod(steps, self._period)
        blocks = rounds * self._all_needs
        for later in range(1, rest + 1):
            blocks += self._needs[(self.step + later) % self._period]
        return blocks

    # --- what becomes of blocks
    def serve(self) -> None:
        """The coming step is planned: let blocks be given back, taken and named, in turn."""
        pool = self._pool
        if pool.together:
            needed = self.needed()
            served = pool.take_served()
            pool.together = False
            pool.free += needed
            self._in_turn(self.step, served)
        else:
            self._name_in_turn()
        if self._whole:
            for sequence in sorted(self._whole, key=_admission):
                pool.fill(sequence, sequence.kv_tokens + 1)
            self._whole.clear()
        self._done = self.step + 1
        self._nets = [0]
        if self._fresh:
            since = self._done - self._lag
            self._fresh = [each for each in self._fresh if each.joined_step >= since]

    def _name_in_turn(self) -> None:
        """All have their blocks, one by one: names come in order of admission as well."""
        pool, prompts, at = self._pool, self._pool.prompts_in_turn(), 0
        for turn in self._turns[self.step % self._period]:
            if not turn.names:
                continue
            while at < len(prompts) and prompts[at].admission < turn.sequence.admission:
                pool.name_prompt(prompts[at])
                at += 1
            self._fill(turn.sequence, self.step)
        while at < len(prompts):
            pool.name_prompt(prompts[at])
            at += 1

    def blocks_needed_after(self, steps: int) -> int:
        """Blocks taken in the ``steps`` steps that follow the next one, less those given back.

        They are done, in the cache, when this is first asked; only the count of free blocks is
        left as it was.
        """
        pool = self._pool
        while len(self._nets) <= steps:
            before = self._nets[-1]
            free = pool.free
            pool.free -= before
            self._in_turn(self._done, [])
            self._nets.append(free - pool.free)
            pool.free = free
            self._done += 1
        return self._nets[steps]

    def _in_turn(self, step: int, prompts: list[Sequence]) -> None:
        """Serve those for whom a step changes something, in order of admission."""
        turns = self._turns[step % self._period]
        others = self._beside(step, prompts)
        at, count = 0, len(others)
        if not count:
            for turn in turns:
                self._serve(turn, step, turn.leaves)
            return
        for turn in turns:
            sequence = turn.sequence
            while at < count and others[at].admission < sequence.admission:
                self._serve_out_of_turn(others[at], step)
                at += 1
            is_fresh = at < count and others[at] is sequence
            at += is_fresh
            self._serve(turn, step, turn.leaves or is_fresh)
        while at < count:
            self._serve_out_of_turn(others[at], step)
            at += 1

    def _beside(self, step: int, prompts: list[Sequence]) -> list[Sequence]:
        """Who matters in a step without being in turn, in order of admission."""
        others, fresh = prompts, self._fresh
        if fresh:
            since = step - self._lag
            others = [each for each in fresh if since <= each.joined_step <= step]
            if not others:
                others = prompts
            elif prompts:
                others += prompts
        if len(others) > 1 and prompts:
            others = sorted(others, key=_admission)
        return others

    def _serve(self, turn: Turn, step: int, leaves: bool) -> None:
        pool, sequence = self._pool, turn.sequence
        if leaves and sequence.kv_tokens + step - sequence.joined_step >= self._shortest:
            self._leave_behind(sequence, step)  # else all windows see all of it
        pool.free -= turn.takes
        if turn.names:
            self._fill(sequence, step)

    def _serve_out_of_turn(self, sequence: Sequence, step: int) -> None:
        """One that has just begun to decode, or whose prompt goes on."""
        if sequence.finish_step < 0:
            self._pool.serve_prompt(sequence)
        else:
            self._leave_behind(sequence, step)

    def _leave_behind(self, sequence: Sequence, step: int) -> None:
        steps = step - sequence.joined_step
        computed = past = sequence.kv_tokens + steps
        if self._lag:
            computed = past - 1 if steps else sequence.begun_at_join
        if computed < self._shortest:
            return  # all windows see all of it
        self._pool.leave_behind(sequence, computed, self._pool.known(past))

    def _fill(self, sequence: Sequence, step: int) -> None:
        past = sequence.kv_tokens + step - sequence.joined_step
        self._pool.fill(sequence, past + 1 - self._ahead)


def _admission(sequence: Sequence) -> int:
    return sequence.admission


def _insert(turns: list[Turn], turn: Turn) -> None:
    """Insert it behind those who were admitted before."""
    place, admission = len(turns), turn.sequence.admission
    while place and turns[place - 1].sequence.admission > admission:
        place -= 1
    turns.insert(place, turn)


def _take_out(turns: list[Turn], sequence: Sequence) -> int:
    """Remove the turn of a sequence; return the blocks that it takes."""
    for place, turn in enumerate(turns):
        if turn.sequence is sequence:
            del turns[place]
            return turn.takes
    raise ValueError(f"request {sequence.request} is not in turn, expected that it is")
