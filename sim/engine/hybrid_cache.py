"""Decoding sequences in a KV cache of several groups with prefix caching: who is served when.

A sequence matters in a step if it takes a block in some group, leaves one behind in another, or
fills blocks that others may look for. Each comes back after as many steps as there are tokens in a
block, so that sequences wait in rings of as many places, and only those in turn are touched::

    step        8   9  10  11 |12  13
    takes       A   .   B   . | A   .      block_size = 4
    leaves      .   B   .   A | .   B      whoever is in turn, in order of admission
"""

from sim.engine.decoding import DecodeSet
from sim.engine.hybrid_blocks import HybridBlocks
from sim.engine.sequence import Sequence


class Ring:
    """Sequences by the step in which they are in turn, which comes back every ``size`` steps."""

    __slots__ = ("_places", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: list[dict[Sequence, None]] = [{} for _ in range(size)]

    def join(self, sequence: Sequence, step: int) -> None:
        """It is in turn in ``step``, and so on."""
        self._places[step % self.size][sequence] = None

    def leave(self, sequence: Sequence, step: int) -> None:
        """Undo ``join``."""
        del self._places[step % self.size][sequence]

    def at(self, step: int) -> dict[Sequence, None]:
        """Who is in turn in a step."""
        return self._places[step % self.size]

    def turns(self, step: int, steps: int, sequences: int) -> int:
        """How often somebody of so many is in turn in ``steps`` steps from ``step`` on."""
        rounds, rest = divmod(steps, self.size)
        turns = rounds * sequences
        for later in range(rest):
            turns += len(self._places[(step + later) % self.size])
        return turns


class HybridCache(HybridBlocks):
    """See ``HybridBlocks``; with decoding sequences that are served in turn."""

    def decode_set(self, windows: tuple[int | None, ...]) -> DecodeSet:
        """One that tells the cache of its sequences."""
        return HybridDecodes(self, windows)


class HybridDecodes(DecodeSet):
    """Sequences that decode, with a cache that is told of each as it is in turn."""

    def __init__(self, pool: HybridBlocks, windows: tuple[int | None, ...]) -> None:
        super().__init__(1, windows)
        self._pool = pool
        self._lag, self._ahead = int(pool.lag), int(pool.ahead)
        self._takes: dict[int, Ring] = {}  # by tokens of a block
        self._groups: dict[int, int] = {}  # how many there are with such blocks
        self._leaves: list[tuple[int, Ring]] = []  # of each window
        for group in pool.groups:
            size = group.block_size
            if size not in self._takes:
                self._takes[size], self._groups[size] = Ring(size), 0
            self._groups[size] += group.count
            if group.window is not None:
                self._leaves.append((group.window, Ring(size)))
        least = pool.named_tokens if pool.named_tokens > 1 else min(self._takes)
        self._names = Ring(least)
        self._fresh: dict[int, dict[Sequence, None]] = {}  # who joined or has lag, by step
        self._done = 0  # steps before this one are done
        self._base = 0
        self._nets = [0]  # blocks taken in steps behind ``_base``, less those given back

    # --- who is here
    def join(self, sequence: Sequence) -> None:
        """See ``DecodeSet``."""
        super().join(sequence)
        sequence.begun_at_join = sequence.begun_tokens
        step, tokens = self.step, sequence.kv_tokens
        for _size, ring in self._takes.items():
            ring.join(sequence, step - tokens)
        for window, ring in self._leaves:
            ring.join(sequence, step - tokens + self._lag + window - 1)
        if self._pool.tells(sequence):
            self._names.join(sequence, step - tokens - 1 + self._ahead)
        for later in range(self._lag + 1):
            date = step + later
            if date not in self._fresh:
                self._fresh[date] = {}
            self._fresh[date][sequence] = None

    def _settle(self, sequences: list[Sequence]) -> None:
        """Bring those who leave up to date, and the counts of those who stay."""
        for sequence in sequences:
            step, tokens = sequence.joined_step, sequence.kv_tokens
            for ring in self._takes.values():
                ring.leave(sequence, step - tokens)
            for window, ring in self._leaves:
                ring.leave(sequence, step - tokens + self._lag + window - 1)
            if self._pool.tells(sequence):
                self._names.leave(sequence, step - tokens - 1 + self._ahead)
            for later in range(self._lag + 1):
                fresh = self._fresh.get(step + later)
                if fresh is not None:
                    fresh.pop(sequence, None)
            self.note(sequence)
        super()._settle(sequences)

    def note(self, sequence: Sequence) -> None:
        """Note what was computed, or in progress, when its blocks were last taken."""
        steps = self.step - sequence.joined_step
        sequence.begun_tokens = sequence.kv_tokens + steps - 1 if steps else sequence.begun_at_join

    # --- what they take
    def needed(self) -> int:
        """Blocks that the coming step takes, before any are given back."""
        blocks = 0
        for size, ring in self._takes.items():
            blocks += self._groups[size] * len(ring.at(self.step))
        return blocks

    def change(self) -> int:
        """Blocks that the coming step takes; what it gives back is told by ``serve``."""
        self._pool.together = True
        return self.needed()

    def steps_ahead(self, free_blocks: int) -> int:
        """See ``DecodeSet``: without what is given back meanwhile, so that order is no matter."""
        steps, most = self.steps_to_change(), 0
        for size, groups in self._groups.items():
            most += groups * ((steps + size - 2) // size)
        if free_blocks >= self.count * most:
            return steps
        low, high = 1, steps + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._gross(middle - 1) <= free_blocks:
                low = middle
            else:
                high = middle
        return low

    def _gross(self, steps: int) -> int:
        blocks = 0
        for size, ring in self._takes.items():
            blocks += self._groups[size] * ring.turns(self.step + 1, steps, self.count)
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
            for sequence in sorted(self._names.at(self.step), key=_admission):
                self._fill(sequence, self.step)
        self._done = self._base = self.step + 1
        self._nets = [0]
        if self._fresh:
            for date in [date for date in self._fresh if date < self._done]:
                del self._fresh[date]

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
        turns: dict[Sequence, None] = dict(self._fresh.get(step, {}))
        for ring in self._takes.values():
            turns.update(ring.at(step))
        for _, ring in self._leaves:
            turns.update(ring.at(step))
        turns.update(self._names.at(step))
        for sequence in prompts:
            turns[sequence] = None
        for sequence in sorted(turns, key=_admission):
            if sequence.finish_step < 0:
                self._pool.serve_prompt(sequence)
            else:
                self._serve(sequence, step)

    def _serve(self, sequence: Sequence, step: int) -> None:
        pool, steps = self._pool, step - sequence.joined_step
        past = sequence.kv_tokens + steps
        computed = past
        if self._lag:
            computed = past - 1 if steps else sequence.begun_at_join
        known = max(past - self._ahead, sequence.target_tokens)
        pool.leave_behind(sequence, computed, known)
        for size, groups in self._groups.items():
            if past % size == 0:
                pool.free -= groups
        self._fill(sequence, step)

    def _fill(self, sequence: Sequence, step: int) -> None:
        past = sequence.kv_tokens + step - sequence.joined_step
        self._pool.fill(sequence, past + 1 - self._ahead)


def _admission(sequence: Sequence) -> int:
    return sequence.admission
