"""Runs of KV blocks: where those of a text are, and in which order free ones are taken.

A run is a stretch of blocks of one text that have the same holders, and, if nobody holds them, lie
side by side in the queue of free blocks. It is split when somebody takes a part of it::

    stream 7    |----- run of blocks 0..31 -----|--- 32..47 ---|
    wanted      |----------- 0..39 -----------------|            splits the second one at 40

So what a request costs depends on how many runs it has, not on how long its prompt is.
"""

from typing import Final

from sim.engine.caches.homes import Homes

ANONYMOUS: Final = -1
"""Stream of free blocks that nobody can look for."""


class Run:
    """``count`` blocks of a stream, from ``first`` on."""

    __slots__ = (
        "after", "before", "copy", "count", "first", "holders", "loose", "rest", "stream",
        "watchers",
    )  # fmt: skip

    def __init__(self, stream: int, first: int, count: int, holders: int, copy: bool) -> None:
        self.stream = stream
        self.first = first
        self.count = count
        self.holders = holders
        """Requests that hold all of it; 0: it is free."""
        self.copy = copy
        """Whether there are older blocks of the same text, which are found instead."""
        self.loose = False
        """Whether nobody can look for it yet, as whose text it is still runs."""
        self.rest: Run | None = None
        """Who held this run before it was split goes on there."""
        self.before: Run | None = None
        self.after: Run | None = None
        """Neighbours in the queue of free blocks; None: it is not there."""
        self.watchers: list[Watcher] | None = None
        """Who wants to know what becomes of it, also when it was split; None: nobody."""

    @property
    def end(self) -> int:
        """The block behind it."""
        return self.first + self.count


class Watcher:
    """Somebody who gave blocks back, and wants to know what becomes of them."""

    __slots__ = ("left",)

    def __init__(self, left: list[Run]) -> None:
        self.left = left
        """The runs in which they lie."""

    def watch(self, run: Run) -> None:
        """Add it to these, and what it is split into."""
        self.left.append(run)
        self.follow(run)

    def follow(self, run: Run) -> None:
        """Want to know what one of these is split into."""
        if run.watchers is None:
            run.watchers = [self]
        else:
            run.watchers.append(self)


class FreeQueue:
    """Free runs, first to go first; of a run the last block goes first."""

    def __init__(self) -> None:
        self._ends = Run(ANONYMOUS, 0, 0, 0, False)  # closes the ring
        self._ends.before = self._ends.after = self._ends

    def first(self) -> Run:
        """Return who goes next; there must be one."""
        first = self._ends.after
        assert first is not None
        return first

    def append(self, run: Run) -> None:
        """Add behind all others."""
        self._insert(run, self._ends)

    def put_first(self, run: Run) -> None:
        """Add before all others."""
        self._insert(run, self.first())

    def put_unnamed_first(self, blocks: int) -> None:
        """Add blocks that nobody can look for before all others."""
        if not blocks:
            return
        first = self.first()
        if first is not self._ends and first.stream == ANONYMOUS:
            first.count += blocks
        else:
            self.put_first(Run(ANONYMOUS, 0, blocks, 0, False))

    def append_unnamed(self, blocks: int) -> None:
        """Add blocks that nobody can look for behind all others."""
        if not blocks:
            return
        last = self._ends.before
        assert last is not None
        if last is not self._ends and last.stream == ANONYMOUS:
            last.count += blocks
        else:
            self.append(Run(ANONYMOUS, 0, blocks, 0, False))

    def put_before(self, run: Run, other: Run) -> None:
        """Add just before another one, if that is here."""
        if other.after is not None:
            self._insert(run, other)

    def _insert(self, run: Run, after: Run) -> None:
        before = after.before
        assert before is not None
        run.before, run.after = before, after
        before.after = after.before = run

    def remove(self, run: Run) -> None:
        """Take one out."""
        before, after = run.before, run.after
        assert before is not None
        assert after is not None
        before.after, after.before = after, before
        run.before = run.after = None

    def runs(self) -> list[Run]:
        """Everyone, in order."""
        runs: list[Run] = []
        run = self.first()
        while run is not self._ends:
            runs.append(run)
            assert run.after is not None
            run = run.after
        return runs


class Texts:
    """Where the blocks of each stream are: the oldest of each, and copies."""

    def __init__(self, queue: FreeQueue) -> None:
        self.oldest: dict[int, list[Run]] = {}
        """Of each stream, in order, none with a block of another."""
        self.copies: dict[int, list[Run]] = {}
        """Of each stream, the older first; they may overlap."""
        self._queue = queue
        self.homes: Homes | None = None
        """Where it is noted which streams have a block here, if anybody wants to know."""
        self.number = 0
        """Of the replica, there."""

    def everyone(self) -> set[Run]:
        """All runs that can be found, or could be if older ones were gone."""
        lists = [*self.oldest.values(), *self.copies.values()]
        return {run for runs in lists for run in runs}

    def split(self, run: Run, at: int) -> Run:
        """Let a run end before block ``at``; return the run that goes on from there."""
        tail = Run(run.stream, at, run.end - at, run.holders, run.copy)
        if run.holders:
            tail.rest, run.rest = run.rest, tail
        run.count = at - run.first
        if run.watchers is not None:
            for watcher in run.watchers:
                watcher.watch(tail)
        self._queue.put_before(tail, run)
        runs = (self.copies if run.copy else self.oldest)[run.stream]
        runs.insert(runs.index(run) + 1 if run.copy else place(runs, run.first) + 1, tail)
        return tail

    def cut(self, run: Run, first: int, end: int) -> Run:
        """Return the part of a run as a run of its own."""
        if first > run.first:
            run = self.split(run, first)
        if end < run.end:
            self.split(run, end)
        return run

    def name(self, stream: int, first: int, end: int, last: Run | None) -> tuple[list[Run], int]:
        """Taken blocks hold a text now, and one request holds them.

        Returns new runs for them, and by how many blocks ``last``, its run before, was extended.
        """
        if stream not in self.oldest:
            self.oldest[stream] = []
            if self.homes is not None:
                self.homes.enter(stream, self.number)
        runs = self.oldest[stream]
        named: list[Run] = []
        added = 0
        while first < end:
            at, stop = place(runs, first), end
            covered = at >= 0 and runs[at].end > first
            if covered:
                stop = min(runs[at].end, end)
            elif at + 1 < len(runs):
                stop = min(runs[at + 1].first, end)
            if not covered and at >= 0 and runs[at] is last and _goes_on(last, first):
                last.count += stop - first
                added += stop - first
                first = stop
                continue
            run = Run(stream, first, stop - first, 1, covered)
            if not covered:
                runs.insert(at + 1, run)
            elif stream in self.copies:
                self.copies[stream].append(run)
            else:
                self.copies[stream] = [run]
            named.append(run)
            first, last = stop, None
        return named, added

    def keep(self, run: Run) -> None:
        """Let a free run be found that nobody could look for: no other has a block of it."""
        run.loose = False
        if run.stream in self.oldest:
            runs = self.oldest[run.stream]
            runs.insert(place(runs, run.first) + 1, run)
        else:
            self.oldest[run.stream] = [run]

    def take_first(self, blocks: int) -> None:
        """So many free blocks, the first of the queue, are taken for something else."""
        queue = self._queue
        while blocks:
            run = queue.first()
            count = min(run.count, blocks)
            if count == run.count:
                queue.remove(run)
            if run.stream == ANONYMOUS or run.loose:
                run.count -= count
            else:
                self.forget(run, count)
            blocks -= count

    def forget(self, run: Run, blocks: int) -> None:
        """The last blocks of a free run are taken for something else."""
        end = run.end
        run.count -= blocks
        stream = run.stream
        runs = (self.copies if run.copy else self.oldest)[stream]
        if not run.count:
            if run.copy:
                runs.remove(run)
            else:
                del runs[place(runs, run.first)]
        if not run.copy and stream in self.copies:
            self._promote(stream, end - blocks, end)
        if run.copy and not runs:
            del self.copies[stream]
        elif not run.copy and not self.oldest[stream]:
            del self.oldest[stream]
            if self.homes is not None:
                self.homes.leave(stream, self.number)

    def _promote(self, stream: int, first: int, end: int) -> None:
        """The oldest of some blocks are gone: the next older ones are found from now on."""
        missing = [(first, end)]
        while missing:
            start, stop = missing.pop()
            for copy in self.copies[stream]:
                low, high = max(start, copy.first), min(stop, copy.end)
                if low < high:
                    found = self.cut(copy, low, high)
                    self.copies[stream].remove(found)
                    found.copy = False
                    runs = self.oldest[stream]
                    runs.insert(place(runs, low) + 1, found)
                    missing += [(start, low)] if start < low else []
                    missing += [(high, stop)] if high < stop else []
                    break
        if not self.copies[stream]:
            del self.copies[stream]


def _goes_on(run: Run, block: int) -> bool:
    """Whether a run that one request holds, and nobody watches, ends just before a block."""
    alone = run.holders == 1 and run.rest is None and run.watchers is None
    return alone and run.end == block


def place(runs: list[Run], block: int) -> int:
    """Return the place of the last run that begins at a block or before; -1 for none."""
    low, high = 0, len(runs)
    while low < high:
        middle = (low + high) // 2
        if runs[middle].first <= block:
            low = middle + 1
        else:
            high = middle
    return low - 1
